"""advkit check."""

from __future__ import annotations

import json
import sys

import click

from advkit.cli._command import Command
from advkit.cli._shared import DataChoice, ModelChoice, bar, check_format, console, defended, model_and_data
from advkit.errors import InputError
from advkit.trust import Trust


@click.command(name="check", cls=Command)
@model_and_data
@click.option("--defense", default="none", show_default=True, metavar="NAME", help="What stands in front of the model: "
              "jpeg:75, bits:4 ..., chained by +, or a module of your own, FILE.py:NAME.")  # fmt: skip
@click.option("--norm", default="linf", show_default=True, metavar="NAME", help="linf, l2 or l1.")
@click.option("--eps", metavar="RADIUS", help="[default: 8/255 in linf, 0.5 in l2, 12 in l1]")
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True, help="The first so many examples.")
@click.option("--steps", type=click.IntRange(2), default=20, show_default=True, help="Steps of PGD.")
@click.option(
    "--queries", type=click.IntRange(1), default=150, show_default=True, help="Queries of the search by scores."
)
@click.option(
    "--expected", type=click.FloatRange(0, 100), metavar="PERCENT", help="The clean accuracy that is claimed."
)
@click.option("--broader", is_flag=True, help="Look at turns, shifts and noise too.")
@click.option("--batch-size", type=click.IntRange(1), help="Examples per pass. [default: by size]")
@click.option("--format", "form", default="table", show_default=True, help="table, markdown, csv, json, latex or html.")
@click.option("--strict", is_flag=True, help="Exit with code 1 where a check fails.")
@click.option("--quiet", is_flag=True, help="No progress and no header.")
def command(
    choice: ModelChoice,
    pictures: DataChoice,
    defense: str,
    norm: str,
    eps: str | None,
    samples: int,
    steps: int,
    queries: int,
    expected: float | None,
    broader: bool,
    batch_size: int | None,
    form: str,
    strict: bool,
    quiet: bool,
) -> None:
    """Tell whether a model, or a defense in front of it, masks its gradients, and what its robustness is without that.

    Where a check raises a doubt, what it calls for is run: BPDA, means over draws, other losses, more steps, a search by
    scores. The last lines give the accuracy under plain PGD and the corrected one.

    \b
    advkit check --weights adversarial
    advkit check --defense bits:3
    advkit check --defense my.py:Denoise --strict
    """
    from advkit.cli._attacks import build_attacks
    from advkit.engine.defend import read_defense
    from advkit.engine.protocol import examine
    from advkit.results.table import show

    # Parse
    check_format(form)
    balls = [attack.threat for attack in build_attacks(("pgd",), norm, (eps,) if eps else (), {}, ())]
    if len(balls) > 1:
        raise InputError(f"--eps is {eps}; the checks take one radius, and vary it themselves.")
    wanted = read_defense(defense, Trust.of(defense))

    # Build
    screen = console(quiet)
    model, source = defended(choice, pictures, samples, wanted, screen)
    screen.print(f"threat {balls[0].label}", markup=False)

    # Run
    with bar(screen, "checks") as progress:
        found = examine(
            model,
            source,
            balls[0],
            samples=None,
            seed=choice.seed,
            steps=steps,
            queries=queries,
            batch_size=batch_size,
            expected=None if expected is None else expected / 100,
            broader=broader,
            progress=lambda name, done, total: progress(done, total),
        )

    # Render
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        show([found.table()], form)
        click.echo(f"{found.sentence}\n{found.numbers}", err=form != "table")
    if strict and found.failed:
        sys.exit(1)
