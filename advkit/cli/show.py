"""advkit show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from advkit.cli._attacks import build_attacks
from advkit.cli._command import Command, PathType, refuse_idle
from advkit.cli._shared import bar, checked_device, console, trust_option, trusted, writable_folder
from advkit.errors import InputError, UnknownName

if TYPE_CHECKING:
    from advkit.core import Attack
    from advkit.engine.recipe import Recipe

_KINDS = ("grid", "curves", "distances", "confusion")
_ASKS = {"grid", "curves"}  # what needs the model


@click.command(name="show", cls=Command)
@click.argument("folder", metavar="DIR", type=PathType())
@click.option("--only", metavar="KINDS", help=f"Of {', '.join(_KINDS)} only these, with commas. [default: all]")
@click.option("--examples", type=click.IntRange(1, 64), default=8, show_default=True, help="Of grids and curves; the first "
              "that were beaten.")  # fmt: skip
@click.option("--attack", "names", multiple=True, metavar="NAME", help="Only this attack of the table; repeatable.")
@click.option("--eps", "radii", multiple=True, metavar="RADIUS", help="Only this radius; repeatable.")
@click.option("--out", type=PathType(), metavar="DIR", help="Write here. [default: DIR/figures]")
@click.option("--suffix", default=".png", show_default=True, help=".png, .svg or .pdf.")
@click.option("--dpi", type=click.IntRange(30, 2400), default=200, show_default=True, help="Dots per inch, of .png.")
@click.option("--model", metavar="NAME", help="The model, where it is not where it was: as for advkit attack.")
@click.option("--weights", metavar="FILE|NAME", help="Its weights, where they are not where they were.")
@click.option("--data", metavar="NAME|PATH", help="The data, where they are not where they were.")
@trust_option
@click.option("--device", help="cpu, cuda, cuda:1 ... [default: cpu]")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    folder: Path,
    only: str | None,
    examples: int,
    names: tuple[str, ...],
    radii: tuple[str, ...],
    out: Path | None,
    suffix: str,
    dpi: int,
    model: str | None,
    weights: str | None,
    data: str | None,
    trust_code: tuple[str, ...],
    device: str | None,
    quiet: bool,
) -> None:
    """Draw what advkit attack --save wrote: examples with their changes amplified, loss and margin at each step, distances,
    and what clean and adversarial pictures are taken for.

    \b
    advkit attack --attack pgd --eps 8/255 --save runs/first
    advkit show runs/first
    advkit show runs/first --only grid,curves --examples 4 --suffix .pdf
    """
    from advkit.core.units import Eps
    from advkit.engine.show import examples_of, steps_of
    from advkit.engine.verify import loaded, moved, recipe_in
    from advkit.results import show
    from advkit.results.facts import read_facts_of
    from advkit.results.figures import check_suffix
    from advkit.results.files import title_of

    # Parse
    kinds = _kinds(only)
    check_suffix(Path(f"figure{suffix}"))
    ctx = click.get_current_context()
    if suffix.lower() != ".png":
        refuse_idle(ctx, "on what is no .png", "dpi")
    if not _ASKS & set(kinds):
        why = f"on {' and '.join(kinds)}, for which no model is asked"
        refuse_idle(ctx, why, "examples", "model", "weights", "data", "trust_code", "device")
    where = checked_device(device or "cpu")
    trust = trusted(trust_code, model)
    wanted = {float(Eps(text)) for text in radii}
    saved = read_facts_of(folder).whole()
    result = saved.result
    outcomes = [
        (place.name, outcome)
        for place, outcome in zip(saved.places, result.outcomes, strict=True)
        if (not names or outcome.name in names) and (not wanted or float(outcome.threat.eps) in wanted)
    ]
    if not outcomes:
        known = ", ".join(title_of(outcome) for outcome in result.outcomes)
        raise InputError(f"{folder} has no such attack at such a radius; it has {known or 'none'}.")
    out = out or folder / "figures"
    writable_folder(out)

    # Build
    recipe = moved(recipe_in(saved), model, weights, data)
    bench = loaded(recipe, where, trust) if _ASKS & set(kinds) else None
    built = _built(recipe) if "curves" in kinds else []
    of = show.title_of(result)

    # Run and render: each file whole, so that what is drawn before Ctrl-C stays
    done: list[Path] = []

    def draw(path: Path, make: Callable[[Path], Any]) -> None:
        try:
            make(path)
        except InputError as error:
            click.echo(f"Note: no {path.name}: {error}", err=True)
            return
        click.echo(path)
        done.append(path)

    with bar(console(quiet), "show") as progress:
        if "distances" in kinds:
            draw(out / f"distances{suffix}", lambda path: show.distances(path, result, dpi=dpi))
        for number, (name, outcome) in enumerate(outcomes):
            title = f"{of}, {outcome.name} at {outcome.threat.label}"
            if "grid" in kinds and bench is not None:
                shown = examples_of(saved, bench, outcome, examples)
                draw(out / f"grid-{name}{suffix}", lambda path, s=shown, t=title: show.grid(path, s, t, dpi=dpi))  # type: ignore[misc]
            if "confusion" in kinds:
                draw(
                    out / f"confusion-{name}{suffix}",
                    lambda path, o=outcome: show.confusion(path, result, o, dpi=dpi),  # type: ignore[misc]
                )
            if "curves" in kinds and bench is not None:

                def steps(path: Path, outcome: Any = outcome, title: str = title) -> None:
                    taken = steps_of(saved, recipe, bench, outcome, built, examples)
                    show.curves(path, taken.curves, title, taken.loss, dpi=dpi)
                    if taken.same < len(taken.curves):
                        click.echo(
                            f"Note: {path.name}: run again, {taken.same} of {len(taken.curves)} examples end in the picture "
                            "that was saved; another machine or version takes other steps.",
                            err=True,
                        )

                draw(out / f"curves-{name}{suffix}", steps)
            progress(number + 1, len(outcomes))
    if not done:
        raise InputError(f"nothing of what was asked for can be drawn from {folder}; the notes say why.")


def _kinds(only: str | None) -> tuple[str, ...]:
    if only is None:
        return _KINDS
    kinds = tuple(dict.fromkeys(part.strip() for part in only.split(",") if part.strip()))
    for kind in kinds:
        if kind not in _KINDS:
            raise UnknownName("figure", kind, _KINDS)
    if not kinds:
        raise InputError(f"--only is empty; give some of {', '.join(_KINDS)}, or leave it out.")
    return kinds


def _built(recipe: Recipe) -> list[Attack]:
    """The attacks, stage by stage, as the command that was saved builds them."""
    from advkit.core.attack import Ensemble

    search = recipe.search
    made = build_attacks(
        tuple(search["attacks"]), search["norm"], tuple(search["eps"]), search["flags"], tuple(search["settings"])
    )
    return [
        stage
        for attack in made
        for stage in ([each for _, each in attack.stages] if isinstance(attack, Ensemble) else [attack])
    ]
