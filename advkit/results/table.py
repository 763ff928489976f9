"""A table is data; renderers only draw it. No torch."""

from __future__ import annotations

import csv
import io
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from advkit.private import safe_cell
from advkit.results.html import html

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["FORMATS", "RENDERERS", "Table", "rich_table", "show"]


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text. ``align`` has a letter per column, l or r; ``strong`` rows and ``bold`` cells stand out.

    ``title`` says what the numbers are of, ``caption`` how to read them. ``over`` has a second head for each column, above
    the first; neighbours with the same one share it.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    strong: tuple[int, ...] = ()
    caption: str = ""
    title: str = ""
    over: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()  # row and column

    @property
    def flat_heads(self) -> tuple[str, ...]:
        """One head for each column, where there is room for one line only."""
        above = self.over or ("",) * len(self.heads)
        return tuple(" ".join(filter(None, pair)) for pair in zip(above, self.heads, strict=True))

    @property
    def spans(self) -> list[tuple[str, int]]:
        """The upper heads and how many columns each stands over."""
        return [(head, len(list(same))) for head, same in groupby(self.over)]

    def halves(self, row: int, column: int) -> tuple[str, str]:
        """A cell's text in two: what is to be set in bold, and the rest. Of a bold cell that is its first number."""
        cell = self.rows[row][column]
        if row in self.strong:
            return cell, ""
        if (row, column) not in self.bold:
            return "", cell
        first = re.match(r"\S*", cell)
        return (first[0], cell[first.end() :]) if first else ("", cell)

    def part(self, places: Sequence[int]) -> Table:
        """Some of the columns."""
        return replace(
            self,
            heads=tuple(self.heads[place] for place in places),
            rows=tuple(tuple(row[place] for place in places) for row in self.rows),
            align="".join(self.align[place] for place in places),
            over=tuple(self.over[place] for place in places) if self.over else (),
            bold=frozenset(
                (row, new) for new, old in enumerate(places) for row in range(len(self.rows)) if (row, old) in self.bold
            ),
        )


def show(tables: Sequence[Table], form: str) -> None:
    """Print tables on standard output in one of FORMATS."""
    from rich.console import Console

    if form != "table":
        sys.stdout.write("\n".join(RENDERERS[form](table) + "\n" for table in tables))
        return
    screen = Console(highlight=False)
    if not screen.is_terminal:
        screen.width = _WIDE  # a file or a pipe has no width of its own
    for number, table in enumerate(tables):
        if number:
            screen.print()
        drawn = rich_table(table)
        fits = screen.measure(drawn).maximum <= screen.width
        screen.print(drawn if fits else rich_table(table, gap=0))
        if table.caption:
            screen.print(table.caption, markup=False, style="dim")


def rich_table(table: Table, gap: int = 1) -> RichTable:
    """For a terminal; the robustness table fits into 80 columns, with ``gap`` 0 where its numbers are long."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    for place, (head, side) in enumerate(zip(table.flat_heads, table.align, strict=True)):
        widest = max((len(line) for row in table.rows for line in row[place].splitlines()), default=0)
        lines = textwrap.fill(head, max(widest, 8, *map(len, head.split())), break_long_words=False)
        drawn.add_column(Text(lines), justify="left" if side == "l" else "right", no_wrap=widest <= _PROSE)
    for number, row in enumerate(table.rows):
        # Text, not markup: a class may be called [bold].
        halves = (table.halves(number, place) for place in range(len(row)))
        drawn.add_row(*(Text(rest) if not bold else Text.assemble((bold, "bold"), rest) for bold, rest in halves))
    return drawn


def markdown(table: Table) -> str:
    """GitHub's pipe table."""
    lines = [table.title, ""] if table.title else []
    heads = tuple(map(_plain, table.flat_heads))
    lines += [_pipes(heads), "|" + "|".join(" --- " if side == "l" else " ---: " for side in table.align) + "|"]
    for number, row in enumerate(table.rows):
        halves = (table.halves(number, place) for place in range(len(row)))
        lines.append(_pipes(tuple((f"**{_plain(bold)}**" if bold else "") + _plain(rest) for bold, rest in halves)))
    return "\n".join(lines + (["", _plain(table.caption)] if table.caption else []))


def comma_separated(table: Table) -> str:
    """CSV with a head line."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(safe_cell, row) for row in (table.flat_heads, *table.rows))
    return out.getvalue().rstrip("\n")


def latex(table: Table) -> str:
    r"""A tabular for booktabs. Further lines of a number's cell stand below it in small print."""
    lines = [f"% {line}" for text in (table.title, table.caption) if text for line in textwrap.wrap(text, 120)]
    lines += [r"% needs \usepackage{booktabs}", rf"\begin{{tabular}}{{{table.align}}}", r"\toprule"]
    if table.over:
        lines += _spanning(table)
    lines += [" & ".join(map(_escape, table.heads)) + r" \\", r"\midrule"]
    drawn = [_row(table, number) for number in range(len(table.rows))]
    apart = any(len(row) > 1 for row in drawn)
    for number, row in enumerate(drawn):
        lines += [*([r"\addlinespace"] if apart and number else []), *row]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _row(table: Table, number: int) -> list[str]:
    """The lines of a row: as many as its longest cell has."""
    halves = [table.halves(number, place) for place in range(len(table.heads))]
    cells = []
    for (bold, rest), side in zip(halves, table.align, strict=True):
        first, *more = rest.split("\n") if side == "r" else [rest]
        set_bold = rf"\textbf{{{_escape(bold)}}}" if bold else ""
        small = [rf"\scriptsize {_number(line)}" for line in more]
        cells.append([set_bold + (_number(first) if side == "r" else _escape(first)), *small])
    high = max(map(len, cells))
    return [" & ".join(cell[line] if line < len(cell) else "" for cell in cells) + r" \\" for line in range(high)]


def _number(text: str) -> str:
    """Escaped; the stars of a test are raised."""
    return re.sub(r" (\*+)(?= |$)", r"$^{\1}$", _escape(text))


def _spanning(table: Table) -> list[str]:
    """The upper heads, each over its columns, with a line below those that have a name."""
    cells, rules, first = [], [], 1
    for head, count in table.spans:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_escape(head)}}}" if head else " & ".join([""] * count))
        if head:
            rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    return [" & ".join(cells) + r" \\", "".join(rules)]


_WIDE = 160
_PROSE = 32  # letters: a column with longer cells is text, which may be broken into lines

RENDERERS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
    "html": html,
}
FORMATS = ("table", *RENDERERS)


def _plain(text: str) -> str:
    """What GitHub's Markdown does not read as markup, on one line."""
    return "".join(f"\\{letter}" if letter in "\\|*<" else letter for letter in text.replace("\n", " "))


def _pipes(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


_LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "\n": " ",
}


def _escape(text: str) -> str:
    text = "".join(_LATEX.get(letter, letter) for letter in text)
    text = re.sub(r"(?<!\w)-(?=\d)", "$-$", text)  # a minus, not a hyphen
    # Behind the \\ of the row above, a bracket or a star would be its option.
    return f"{{{text[0]}}}{text[1:]}" if text[:1] in ("[", "*") else text
