"""A pivot as tables: numbers for the eye, plain columns for programs, and a caption that says how to read them. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from advkit.results.baseline import Versus
from advkit.results.grid import Grid, Line
from advkit.results.pivot import Pivot, Place
from advkit.results.statistics import flat_controls
from advkit.results.table import Table

__all__ = ["differences", "line_table", "number_table", "pivot_table", "readable"]

UNDONE, FEWER = "†", "‡"
_OF_LINE = ("model", "weights", "defense", "data", "n", "norm", "goal", "seed", "attack", "eps")


def pivot_table(
    pivot: Pivot,
    grid: Grid,
    *,
    intervals: bool = True,
    stacked: bool = False,
    bold: bool = True,
    versus: Mapping[int, Versus] | None = None,
    base: str = "",
) -> Table:
    """Accuracy in per cent by row and column; ``stacked`` puts each interval below its number, where columns are many."""
    heads = [pivot.head(column) for column in pivot.column_places]
    best = {
        (pivot.row_places.index(row), len(pivot.rows) + pivot.column_places.index(column)) for row, column in pivot.best
    }
    compared = versus or {}

    def text(row: Place, column: Place) -> str:
        line = pivot.lines.get((row, column))
        if line is None:
            return "-"
        marks = (UNDONE if not line.complete else "") + (FEWER if (row, column) in pivot.narrow else "")
        share = line.accuracy
        shown = f"{100 * share.value:.1f}{marks}"
        if intervals:
            low, high = f"{100 * share.low:.1f}", f"{100 * share.high:.1f}"
            shown += f"\n{low}-{high}" if stacked else f" [{low}, {high}]"
        if line.controls:
            shown += f"\ncontrol {100 * line.controls[0][1].value:.1f}"
        found = compared.get(id(line))
        if found is None:
            return shown
        value, stars = found.found, f" {found.stars}".rstrip()
        if not intervals:
            return f"{shown} {100 * value.value:+.1f}{stars}"
        between = f"{100 * value.low:+.1f}, {100 * value.high:+.1f}"
        return f"{shown}\n{100 * value.value:+.1f}{stars}{chr(10) if stacked else ' '}[{between}]"

    rows = tuple((*row, *(text(row, column) for column in pivot.column_places)) for row in pivot.row_places)
    return Table(
        heads=(*pivot.rows, *(below for _, below in heads)),
        rows=tuple(_spelled(pivot, row) for row in rows),
        align="l" * len(pivot.rows) + "r" * len(heads),
        caption=_caption(pivot, grid, intervals, stacked, bold, versus, base),
        title=_title(pivot.lines.values()),
        over=(*("" for _ in pivot.rows), *(above for above, _ in heads)) if any(above for above, _ in heads) else (),
        bold=frozenset(best) if bold else frozenset(),
    )


def number_table(pivot: Pivot, *, intervals: bool = True, versus: Mapping[int, Versus] | None = None) -> Table:
    """One number per cell, for programs: accuracy in per cent, the ends of its interval beside it, and the difference."""
    parts = ("", *(("low", "high") if intervals else ()))
    controlled = {column for (_, column), line in pivot.lines.items() if line.controls}
    more = ("difference", "difference low", "difference high", "p (Holm)") if versus is not None else ()
    heads = [(" ".join(filter(None, pivot.head(column))), column in controlled) for column in pivot.column_places]

    def numbers(line: Line | None, column: Place) -> list[str]:
        if line is None:
            return [""] * (len(parts) + (column in controlled) + len(more))
        found = [_points(value) for value in line.accuracy[: len(parts)]]
        if column in controlled:
            found.append(_points(line.controls[0][1].value) if line.controls else "")
        difference = (versus or {}).get(id(line))
        if not more or difference is None:
            return [*found, *("" for _ in more)]
        return [*found, *(_points(value) for value in difference.found[:3]), f"{difference.p:.4g}"]

    rows = tuple(
        _spelled(
            pivot,
            (*row, *(n for column in pivot.column_places for n in numbers(pivot.lines.get((row, column)), column))),
        )
        for row in pivot.row_places
    )
    columns = tuple(f"{head} {part}".strip() for head, c in heads for part in (*parts, *["control"] * c, *more))
    return Table((*pivot.rows, *columns), rows, align="l" * len(pivot.rows) + "r" * len(columns))


def line_table(lines: Sequence[Line], versus: Mapping[int, Versus] | None = None) -> Table:
    """One line per row, with all that is known of it; shares are fractions."""
    found_of = flat_controls([line.to_json() for line in lines])
    heads = tuple(found_of[0]) if lines else _OF_LINE
    more = ("difference", "difference_low", "difference_high", "pairs", "gained", "lost", "p", "p_holm")
    rows = []
    for line, of in zip(lines, found_of, strict=True):
        row = ["" if value is None else str(value) for value in of.values()]
        if versus is not None:
            found = versus.get(id(line))
            if found is None:
                row += [""] * len(more)
            else:
                d = found.found
                row += [str(v) for v in (d.value, d.low, d.high, d.n, d.gained, d.lost, d.p, found.p)]
        rows.append(tuple(row))
    shown = (*heads, *(more if versus is not None else ()))
    return Table(shown, tuple(rows), align="".join("l" if head in _OF_LINE and head != "n" else "r" for head in shown))


def readable(table: Table) -> Table:
    """A table of lines for the eye: numbers are short, and what is the same in every row is said in the title."""
    same = {
        head: values[0]
        for place, head in enumerate(table.heads)
        if head in ("weights", "data", "n", "norm", "goal", "seed", "complete")
        and len(values := list(dict.fromkeys(row[place] for row in table.rows if row[place]))) == 1
    }
    places = [place for place, head in enumerate(table.heads) if head not in same]
    said = ", ".join(f"{head} {value}" for head, value in same.items() if head != "complete")
    rows = tuple(
        tuple(_short(cell) if head not in _OF_LINE else cell for head, cell in zip(table.heads, row, strict=True))
        for row in table.rows
    )
    return replace(table, rows=rows, title=said).part(places)


def differences(lines: Iterable[Line], versus: Mapping[int, Versus]) -> list[dict[str, object]]:
    """The differences in a stable form, one for each line that has one."""
    return [
        {key: line.to_json()[key] for key in _OF_LINE}
        | found.found._asdict()
        | {"pairs": found.found.n, "p_holm": found.p}
        for line in lines
        if (found := versus.get(id(line))) is not None
    ]


def _short(cell: str) -> str:
    try:
        return f"{float(cell):.4g}" if "." in cell else cell
    except ValueError:
        return cell


def _points(value: float) -> str:
    return f"{100 * value:.4g}"


def _spelled(pivot: Pivot, row: tuple[str, ...]) -> tuple[str, ...]:
    """Where attacks stand in the rows, that without attack has a name; where surrogates do, so has what is over all."""
    named = {"attack": {"none": "none (clean)"}, "surrogate": {"": "all"}}
    heads = (*pivot.rows, *("" for _ in row[len(pivot.rows) :]))
    return tuple(named.get(head, {}).get(cell, cell) for head, cell in zip(heads, row, strict=True))


def _title(lines: Iterable[Line]) -> str:
    """What holds of all lines."""
    lines = list(lines)
    data = list(dict.fromkeys(line.data or line.cell.data_hash[:8] for line in lines))
    done = sorted({line.wanted for line in lines})
    norms = list(dict.fromkeys(line.cell.norm for line in lines if line.cell.norm))
    goals = list(dict.fromkeys(line.cell.goal for line in lines if line.cell.goal != "untargeted"))
    count = f"{done[0]:,}" if len(done) == 1 else f"{done[0]:,} to {done[-1]:,}" if done else "0"
    parts = [f"Accuracy % on {', '.join(data)}, n = {count}", ", ".join(norms)]
    return ", ".join(filter(None, [*parts, f"targeted: {', '.join(goals)}" if goals else ""]))


def _caption(
    pivot: Pivot,
    grid: Grid,
    intervals: bool,
    stacked: bool,
    bold: bool,
    versus: Mapping[int, Versus] | None,
    base: str,
) -> str:
    """How to read the table: only what is in it is explained."""
    said = []
    if intervals:
        said.append(f"{'Below' if stacked else 'Behind'} each accuracy its 95 % Wilson interval.")
    if pivot.best and bold:
        among = "its column" if pivot.best_of_columns else "the cells of the same attack, radius and data"
        said.append(f"Bold: the highest of {among}.")
    if any(line.controls for line in pivot.lines.values()):
        names = dict.fromkeys(line.controls[0][0] for line in pivot.lines.values() if line.controls)
        said.append(
            f"Control: success % of the same thing without a search ({', '.join(names)}), of the examples right without attack."
        )
    if any(line.over for line in pivot.lines.values()):
        said.append("Worst case: right under every attack at the radius, example by example.")
    undone = [line for line in pivot.lines.values() if not line.complete]
    if undone:
        least = min(undone, key=lambda line: line.n / line.wanted)
        said.append(f"{UNDONE} not all examples are done yet (fewest: {least.n:,} of {least.wanted:,}); never in bold.")
    if pivot.narrow:
        said.append(f"{FEWER} the worst case over fewer attacks than in other rows; never in bold.")
    if versus is not None:
        said.append(
            f"The signed number is the difference to {base} on the same examples, in points"
            f"{', with its 95 % paired bootstrap interval' if intervals else ''}; * p < 0.05, ** p < 0.01, *** p < 0.001 "
            f"by McNemar's exact test, Holm-adjusted for the {len(versus):,} tests of this table."
        )
    said += [f"{name}: {what}." for name, what in pivot.settings.items()]
    if grid.hidden:
        said.append(
            f"{grid.hidden:,} cell{'s' if grid.hidden > 1 else ''} of older code or an older run "
            f"{'are' if grid.hidden > 1 else 'is'} hidden (--outdated shows them)."
        )
    return " ".join(said)
