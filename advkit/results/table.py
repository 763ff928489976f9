"""A table is data; renderers only draw it. No torch."""

from __future__ import annotations

import csv
import io
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["FORMATS", "RENDERERS", "Table", "rich_table", "show"]


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text. ``align`` has a letter per column, l or r; ``strong`` rows stand out.

    ``title`` says what the numbers are of, ``caption`` how to read them.
    """

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    strong: tuple[int, ...] = ()
    caption: str = ""
    title: str = ""


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
    for place, (head, side) in enumerate(zip(table.heads, table.align, strict=True)):
        widest = max((len(row[place]) for row in table.rows), default=0)
        lines = textwrap.fill(head, max(widest, 8, *map(len, head.split())), break_long_words=False)
        drawn.add_column(Text(lines), justify="left" if side == "l" else "right", no_wrap=widest <= _PROSE)
    for number, row in enumerate(table.rows):
        # Text, not markup: a class may be called [bold].
        drawn.add_row(*map(Text, row), style="bold" if number in table.strong else None)
    return drawn


def markdown(table: Table) -> str:
    """GitHub's pipe table."""
    lines = [table.title, ""] if table.title else []
    lines += [_pipes(table.heads), "|" + "|".join(" --- " if side == "l" else " ---: " for side in table.align) + "|"]
    for number, row in enumerate(table.rows):
        cells = [" ".join(cell.replace("\\", "\\\\").replace("|", "\\|").splitlines()) for cell in row]
        lines.append(_pipes(tuple(f"**{c}**" for c in cells) if number in table.strong else tuple(cells)))
    return "\n".join(lines + (["", table.caption] if table.caption else []))


def comma_separated(table: Table) -> str:
    """CSV with a head line."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.heads, *table.rows])
    return out.getvalue().rstrip("\n")


def latex(table: Table) -> str:
    """A tabular for booktabs."""
    lines = [f"% {line}" for text in (table.title, table.caption) if text for line in text.splitlines()]
    lines += [rf"\begin{{tabular}}{{{table.align}}}", r"\toprule"]
    lines += [" & ".join(map(_escape, table.heads)) + r" \\", r"\midrule"]
    for number, row in enumerate(table.rows):
        cells = [_escape(cell) for cell in row]
        strong = number in table.strong
        lines.append(" & ".join(rf"\textbf{{{cell}}}" if strong else cell for cell in cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


_WIDE = 160
_PROSE = 32  # letters: a column with longer cells is text, which may be broken into lines

RENDERERS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": comma_separated, "latex": latex}
FORMATS = ("table", *RENDERERS)


def _pipes(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


_LATEX = {c: "\\" + c for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
}


def _escape(text: str) -> str:
    text = "".join(_LATEX.get(letter, letter) for letter in text)
    # Behind the \\ of the row above, a bracket or a star would be its option.
    return f"{{{text[0]}}}{text[1:]}" if text[:1] in ("[", "*") else text
