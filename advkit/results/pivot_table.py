"""A pivot as tables: numbers for the eye, plain columns for programs. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import stdev
from typing import Literal

from advkit.results.baseline import Versus
from advkit.results.captions import FEWER, UNDONE, caption, title
from advkit.results.grid import Grid, Line
from advkit.results.pivot import Pivot, Place, mean_of
from advkit.results.row_json import flat_controls
from advkit.results.table import Table

__all__ = ["Layout", "differences", "line_table", "number_table", "pivot_table", "readable"]

_OF_LINE = ("model", "weights", "defense", "data", "n", "norm", "goal", "seed", "attack", "eps")


Layout = Literal["beside", "below", "paper"]
"""Where intervals stand: behind their numbers, below them without brackets for a narrow screen, or below in small print."""


def pivot_table(
    pivot: Pivot,
    grid: Grid,
    *,
    intervals: bool = True,
    layout: Layout = "beside",
    bold: bool = True,
    ties: bool = False,
    versus: Mapping[int, Versus] | None = None,
    base: str = "",
) -> Table:
    """The value of a pivot by row and column, accuracy in per cent where nothing else was asked for."""
    heads = [pivot.head(column) for column in pivot.column_places]
    row_of, column_of = (
        {place: number for number, place in enumerate(places)} for places in (pivot.row_places, pivot.column_places)
    )
    best = {
        (row_of[row], len(pivot.rows) + column_of[column])
        for row, column in (pivot.best | pivot.ties if ties else pivot.best)
    }

    def text(row: Place, column: Place) -> str:
        return _cell(pivot, (row, column), intervals, layout, versus or {})

    rows = tuple((*row, *(text(row, column) for column in pivot.column_places)) for row in pivot.row_places)
    return Table(
        heads=(*pivot.rows, *(below for _, below in heads)),
        rows=tuple(_spelled(pivot, row) for row in rows),
        align="l" * len(pivot.rows) + "r" * len(heads),
        caption=caption(
            pivot, grid, intervals=intervals, layout=layout, bold=bold, ties=ties, versus=versus, base=base
        ),
        title=title(pivot),
        over=(*("" for _ in pivot.rows), *(above for above, _ in heads)) if any(above for above, _ in heads) else (),
        bold=frozenset(best) if bold else frozenset(),
    )


def _cell(
    pivot: Pivot, place: tuple[Place, Place], intervals: bool, layout: Layout, versus: Mapping[int, Versus]
) -> str:
    """A cell's text: the number with its marks, its interval, what a control comes to, the difference to the baseline."""
    lines, numbers, value = pivot.cells.get(place, ()), pivot.numbers(place), pivot.value
    if not numbers:
        return "-"
    line = lines[0]
    marks = (UNDONE if not all(each.complete for each in lines) else "") + (FEWER if place in pivot.narrow else "")
    shown = value.text(mean_of(numbers)) + marks
    share = value.share(line)
    if pivot.mean:
        shown += f" ± {value.text(stdev(numbers))}" if intervals and len(numbers) > 1 else ""
    elif intervals and share is not None:
        low, high = value.text(share.low), value.text(share.high)
        shown += f"\n{low}-{high}" if layout == "below" else f"{' ' if layout == 'beside' else chr(10)}[{low}, {high}]"
    if line.controls and value.share(line) and not pivot.mean:
        shown += f"\ncontrol {100 * line.controls[0][1].value:.1f}"
    found = versus.get(id(line))
    if found is None:
        return shown
    difference, stars = found.found, f" {found.stars}".rstrip()
    if not intervals:
        return f"{shown} {100 * difference.value:+.1f}{stars}"
    between = f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return f"{shown}\n{100 * difference.value:+.1f}{stars}{chr(10) if layout == 'below' else ' '}{between}"


def number_table(pivot: Pivot, *, intervals: bool = True, versus: Mapping[int, Versus] | None = None) -> Table:
    """One number per cell, for programs: shares in per cent, the ends of their intervals beside them, and the difference."""
    spread = ("sd", "count") if pivot.mean else ("low", "high")
    has_interval = pivot.mean or any(pivot.value.share(line) for line in pivot.lines.values())
    parts = ("", *(spread if intervals and has_interval else ()))
    controlled = {column for (_, column), line in pivot.lines.items() if line.controls}
    more = ("difference", "difference low", "difference high", "p (Holm)") if versus is not None else ()
    heads = [(" ".join(filter(None, pivot.head(column))), column in controlled) for column in pivot.column_places]

    def numbers(place: tuple[Place, Place]) -> list[str]:
        found = pivot.numbers(place)
        line, width = pivot.lines.get(place), len(parts) + (place[1] in controlled)
        if line is None or not found:
            return [""] * (width + len(more))
        share = pivot.value.share(line)
        if pivot.mean:
            ends: tuple[float | str, ...] = (stdev(found) if len(found) > 1 else "", str(len(found)))
        else:
            ends = ("", "") if share is None else share[1:]
        texts = [_points(pivot, each) for each in (mean_of(found), *ends)[: len(parts)]]
        if place[1] in controlled:
            texts.append(f"{100 * line.controls[0][1].value:.4g}" if line.controls else "")
        difference = (versus or {}).get(id(line))
        if not more or difference is None:
            return [*texts, *("" for _ in more)]
        return [*texts, *(f"{100 * each:.4g}" for each in difference.found[:3]), f"{difference.p:.4g}"]

    rows = tuple(
        _spelled(pivot, (*row, *(n for column in pivot.column_places for n in numbers((row, column)))))
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


def _points(pivot: Pivot, number: float | str) -> str:
    return number if isinstance(number, str) else f"{pivot.value.scale * number:.4g}"


def _spelled(pivot: Pivot, row: tuple[str, ...]) -> tuple[str, ...]:
    """Where attacks stand in the rows, that without attack has a name; where surrogates do, so has what is over all."""
    named = {"attack": {"none": "none (clean)"}, "surrogate": {"": "all"}}
    heads = (*pivot.rows, *("" for _ in row[len(pivot.rows) :]))
    return tuple(named.get(head, {}).get(cell, cell) for head, cell in zip(heads, row, strict=True))
