"""advkit figure."""

from __future__ import annotations

from pathlib import Path

import click

from advkit.cli._command import Command, PathType, refuse_idle
from advkit.errors import InputError

_ALL = "all"


@click.command(name="figure", cls=Command)
@click.argument("folder", metavar="DIR", type=PathType())
@click.option(
    "--kind", required=True, metavar="KIND", help="curves, tradeoff, size, classes, distances, transfer; or all."
)
@click.option(
    "--out",
    required=True,
    type=PathType(),
    help="A file that ends in .png, .svg or .pdf; with --kind all, a folder.",
)
@click.option(
    "--filter", "where", multiple=True, metavar="KEY=VALUE", help="Results that match, as model=res*; repeatable."
)
@click.option(
    "--eps", metavar="RADIUS", help="The radius; of curves and distances, the last. [default: the largest of all]"
)
@click.option("--attack", metavar="NAME", help="One attack, instead of the worst case of all.")
@click.option("--width", type=float, metavar="INCHES", help="[default: 3.4 or 6.9, one column of a paper or both]")
@click.option("--dpi", type=click.IntRange(30, 2400), default=300, show_default=True, help="Dots per inch, of .png.")
@click.option("--suffix", default=".png", show_default=True, help="With --kind all: .png, .svg or .pdf.")
@click.option("--outdated", is_flag=True, help="Also results that newer ones have replaced.")
def command(
    folder: Path,
    kind: str,
    out: Path,
    where: tuple[str, ...],
    eps: str | None,
    attack: str | None,
    width: float | None,
    dpi: int,
    suffix: str,
    outdated: bool,
) -> None:
    """Draw a figure from the results of a sweep. "--kind all" draws every kind that there are results for.

    \b
    advkit figure runs/first --kind curves --out curves.pdf
    advkit figure runs/first --kind tradeoff --eps 8/255 --filter "model=resnet*" --out tradeoff.svg
    advkit figure runs/first --kind all --out figures
    """
    from advkit.errors import UnknownName
    from advkit.results.figures import KINDS, check_suffix, draw, draw_all
    from advkit.results.grid import load_grid

    if kind not in (*KINDS.names(), _ALL):
        raise UnknownName("figure", kind, (*KINDS.names(), _ALL))
    ctx = click.get_current_context()
    if (suffix if kind == _ALL else out.suffix).lower() != ".png":
        refuse_idle(ctx, "on what is no .png", "dpi")
    if kind != _ALL:
        refuse_idle(ctx, "without --kind all: the name of --out says the format", "suffix")
        check_suffix(out)
        draw(load_grid(folder, outdated=outdated), kind, out, where=where, eps=eps, attack=attack, width=width, dpi=dpi)
        click.echo(out)
        return
    check_suffix(Path(f"figure{suffix}"))
    if out.is_file():
        raise InputError(f"{out} is a file; with --kind all give the name of a folder.")
    done = draw_all(
        load_grid(folder, outdated=outdated),
        out,
        where=where,
        eps=eps,
        attack=attack,
        width=width,
        dpi=dpi,
        suffix=suffix,
    )
    for name, found in done.items():
        if isinstance(found, Path):
            click.echo(found)
        else:
            click.echo(f"Note: no {name}: {found}", err=True)
    if not any(isinstance(found, Path) for found in done.values()):
        raise InputError(f"none of the figures could be drawn from {folder}.")
