"""advkit init."""

from __future__ import annotations

from pathlib import Path

import click

from advkit.cli._command import Command, PathType
from advkit.errors import InputError
from advkit.trust import Trust


@click.command(name="init", cls=Command)
@click.argument("file", default="study.toml", type=PathType(), metavar="[FILE]")
@click.option("--model", "models", multiple=True, metavar="NAME", help="A model as for advkit attack; repeatable. "
              "[default: the embedded resnets and lenet]")  # fmt: skip
@click.option("--attack", "attacks", multiple=True, metavar="NAME", help="An attack (advkit list attacks); repeatable. "
              "[default: a few that work in the norm]")  # fmt: skip
@click.option("--defense", "defenses", multiple=True, metavar="NAME", help="What stands in front of each model, such as "
              "jpeg:75; repeatable. [default: none]")  # fmt: skip
@click.option("--norm", metavar="NAME", help="linf, l2, l1, l0, area, shade or veil. [default: linf where the attacks work "
              "in it]")  # fmt: skip
@click.option("--eps", multiple=True, metavar="RADIUS", help="8/255, 8px, 5%, 0.031, or several with commas; repeatable. "
              "[default: three of the norm]")  # fmt: skip
@click.option(
    "--data", default="signs", show_default=True, metavar="NAME|PATH", help="A data set, a folder or an .npz file."
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def command(
    file: Path,
    models: tuple[str, ...],
    attacks: tuple[str, ...],
    defenses: tuple[str, ...],
    norm: str | None,
    eps: tuple[str, ...],
    data: str,
    force: bool,
) -> None:
    """Write a commented study file for advkit sweep, which runs as it is in a few minutes.

    \b
    advkit init
    advkit init mine.toml --model my.py:net --data test.npz --attack pgd --eps 4px,8px
    """
    from advkit.atomic import write_whole
    from advkit.cli._attacks import norm_of
    from advkit.engine.template import study_template

    # Parse
    if file.suffix != ".toml":
        raise InputError(f"the study file is {file}; it is written as TOML, so give a name that ends in .toml.")
    if file.exists() and not force:
        raise InputError(f"{file} exists; give another name, or --force to overwrite it.")

    # Build
    radii = [part for text in eps for part in text.split(",")]
    chosen = norm_of(attacks, norm) if attacks or norm else "linf"  # what ships is known to fit, and needs no torch
    text = study_template(models=models, attacks=attacks, eps=radii, norm=chosen, data=data, defenses=defenses)
    if models or attacks or defenses or eps or norm or data != "signs":
        from advkit.engine.study import parse_study

        parse_study(text, file.parent, Trust.of(*models, *defenses))

    # Write
    write_whole(file, lambda beside: beside.write_text(text, encoding="utf-8"))
    click.echo(f"wrote {file}: read it, then run advkit sweep {file}", err=True)
