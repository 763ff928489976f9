"""A table as lines of text, cut to the width of a screen. Drawn here and not by rich, which takes a second for 10,000 cells."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import groupby

from advkit.results.table import Table

__all__ = ["blocks", "plain"]

_GAP = "  "
_BOLD, _OFF = "\x1b[1m", "\x1b[0m"


def blocks(table: Table, fixed: int, width: int) -> list[Table]:
    """The table in parts that fit into a width, each with the first ``fixed`` columns.

    Columns under one upper head stay together where they can.
    """
    wide = [_width(table, place) + len(_GAP) for place in range(len(table.heads))]
    room = max(1, width + len(_GAP) - sum(wide[:fixed]))
    parts: list[list[int]] = [[]]
    places = range(fixed, len(table.heads))
    for _, group in groupby(places, lambda place: table.over[place] if table.over and table.over[place] else place):
        together = list(group)
        fits = sum(wide[place] for place in together) <= room
        for bunch in [together] if fits else [[place] for place in together]:
            used = sum(wide[place] for place in parts[-1])
            if parts[-1] and used + sum(wide[place] for place in bunch) > room:
                parts.append([])
            parts[-1] += bunch
    return [table.part([*range(fixed), *part]) for part in parts]


def plain(table: Table, bold: bool = False) -> str:
    """Heads, a rule and rows. A cell of several lines takes several; ``bold`` is for a terminal."""
    widths = [_width(table, place) for place in range(len(table.heads))]
    heads = [_head(table, place) for place in range(len(table.heads))]
    tallest = max(map(len, heads))
    lines = [
        _line([([""] * (tallest - len(head)) + head)[number] for head in heads], widths, table.align)
        for number in range(tallest)
    ]
    lines.append("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))
    for number, row in enumerate(table.rows):
        strong = {place for place in range(len(row)) if number in table.strong or (number, place) in table.bold}
        lines += _lines(row, widths, table.align, strong if bold else set(), number in table.strong)
    return "\n".join(lines)


def _lines(row: tuple[str, ...], widths: list[int], align: str, strong: set[int], throughout: bool) -> Iterator[str]:
    cells = [cell.split("\n") for cell in row]
    for number in range(max(map(len, cells))):
        texts = [cell[number] if number < len(cell) else "" for cell in cells]
        yield _line(texts, widths, align, strong if throughout or not number else set())


def _line(texts: list[str], widths: list[int], align: str, strong: set[int] | None = None) -> str:
    padded = []
    for place, (text, width, side) in enumerate(zip(texts, widths, align, strict=True)):
        space = " " * (width - _letters(text))
        shown = f"{_BOLD}{text}{_OFF}" if strong and place in strong and text else text
        padded.append(shown + space if side == "l" else space + shown)
    return _GAP.join(padded).rstrip()


def _width(table: Table, place: int) -> int:
    return max(_widest(table, place), *map(_letters, _head(table, place)))


def _widest(table: Table, place: int) -> int:
    return max((_letters(line) for row in table.rows for line in row[place].split("\n")), default=0)


def _head(table: Table, place: int) -> list[str]:
    """The lines of a head, broken where it is much wider than what stands below it."""
    room = max(_widest(table, place), 8)
    above = textwrap.wrap(table.over[place], room, break_long_words=False) if table.over else []
    return [*above, *textwrap.wrap(table.heads[place], room, break_long_words=False)] or [""]


def _letters(text: str) -> int:
    """Places that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
