"""advkit table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advkit.cli._command import Command, refuse_idle
from advkit.cli._results import form_of, grid_options, opened, put, put_doubts, put_lines, put_pivot
from advkit.errors import InputError

if TYPE_CHECKING:
    from advkit.results.baseline import Versus
    from advkit.results.grid import Grid, Line

_HELP = "model, weights, defense, data, norm, goal, seed, attack, surrogate, eps, with commas."


@click.command(name="table", cls=Command)
@grid_options
@click.option("--rows", default="model,defense", show_default=True, metavar="KEYS", help=f"What makes a row: {_HELP}")
@click.option("--columns", default="attack,eps", show_default=True, metavar="KEYS", help="What makes a column. What is in "
              "neither and differs all the same is added by itself.")  # fmt: skip
@click.option("--value", default="accuracy", show_default=True, metavar="NAME", help="What is shown: accuracy, success "
              "(of the attack), distance (median), passes or seconds.")  # fmt: skip
@click.option("--mean", default="", metavar="KEYS", help="Show the mean and standard deviation over each seed, weights or "
              "model, instead of each.")  # fmt: skip
@click.option("--stages", is_flag=True, help="Show each stage of an attack that has several, not the last alone.")
@click.option("--intervals/--no-intervals", default=True, help="Show 95 % Wilson intervals. [default: yes]")
@click.option("--baseline", multiple=True, metavar="WHICH", help="Add the difference to a baseline, tested on the same "
              "examples: defense=none, model=NAME, attack=NAME ..., or MODEL, or MODEL/DEFENSE.")  # fmt: skip
@click.option(
    "--ties", is_flag=True, help="Set in bold also what cannot be told from the highest: McNemar's exact test."
)
@click.option("--sort", metavar="COLUMN", help="Order rows by name, clean, worst, worst@8/255, pgd@8/255 ...; numbers "
              "with the highest first. [default: as in the study]")  # fmt: skip
@click.option("--reverse", is_flag=True, help="Turn the order round.")
@click.option("--long", "as_lines", is_flag=True, help="One row for each model, defense, attack and radius.")
def command(
    folder: Path,
    filters: tuple[str, ...],
    outdated: bool,
    form: str | None,
    out: Path | None,
    rows: str,
    columns: str,
    value: str,
    mean: str,
    stages: bool,
    intervals: bool,
    baseline: tuple[str, ...],
    ties: bool,
    sort: str | None,
    reverse: bool,
    as_lines: bool,
) -> None:
    """Print the results of a sweep as a table: models and defenses by attacks and radii, and the worst case.

    \b
    advkit table runs/study
    advkit table runs/study --baseline defense=none --sort worst
    advkit table runs/study --rows attack,eps --columns model --filter defense=none
    advkit table runs/study --filter 'model=resnet*' --filter 'attack!=fgsm' --out table.tex
    advkit table runs/study --value success --mean seed
    """
    from advkit.results.filters import checked_keys
    from advkit.results.pivot import in_order, pivoted
    from advkit.results.pivot_table import differences, line_table
    from advkit.results.values import value_of

    # Parse
    if reverse and not sort:
        raise InputError("--reverse turns the order of --sort round, and there is none; give --sort name, for example.")
    if baseline and (value != "accuracy" or mean):
        raise InputError("--baseline tests the accuracy of each line; leave out --value and --mean.")
    if ties and (value != "accuracy" or mean):
        raise InputError("--ties tests the accuracy of each line; leave out --value and --mean.")
    kind = form_of(form, out)
    everything = as_lines or kind == "json"
    if everything:
        why = f"with {'--long' if as_lines else 'json'}, which has a row for each line"
        axes_of_rows = () if sort else ("rows", "columns", "value", "mean", "stages")  # what --sort goes by
        refuse_idle(click.get_current_context(), why, "intervals", "ties", *axes_of_rows)
    axes = checked_keys(rows), checked_keys(columns)
    shown, over = value_of(value), checked_keys(mean)

    # Build
    whole, grid = opened(folder, filters, outdated)
    pivot = pivoted(grid, *axes, stages=stages, value=shown, mean=over)
    if sort:
        pivot = pivot.sorted(sort, reverse)
        grid = in_order(grid, pivot)

    # Run
    lines = [*grid.clean, *grid.lines, *grid.worst] if everything else list(pivot.lines.values())
    versus = _versus(lines, whole, filters, baseline) if baseline else None

    # Render
    if kind == "json":
        put(json.dumps(grid.to_json() | ({"differences": differences(lines, versus)} if versus else {})), out)
    elif as_lines:
        put_lines(line_table(lines, versus), kind, out)
    else:
        put_pivot(pivot, grid, kind, out, intervals=intervals, versus=versus, base=" ".join(baseline), ties=ties)
    put_doubts(grid, kind, out)


def _versus(
    lines: Sequence[Line], whole: Grid, filters: tuple[str, ...], baseline: tuple[str, ...]
) -> dict[int, Versus]:
    """The baseline may be filtered out of the table; the attacks it is compared under are those of the table."""
    from advkit.results.baseline import against, selector
    from advkit.results.filters import SETTING, filtered, key_of

    chosen = selector(baseline, whole)
    kept = [text for text in filters if key_of(text) not in (*SETTING, *chosen)]
    return against(lines, filtered(whole, kept), chosen)
