"""A table is data; renderers only draw it."""

from __future__ import annotations

import csv
import io
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advkit.results.outcome import Evaluation, Row

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["FORMATS", "RENDERERS", "Table", "long_table", "per_class_table", "rich_table", "robustness_table", "show"]


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


def robustness_table(result: Evaluation) -> Table:
    """Clean accuracy, a row per attack, and the worst case over all of them at each radius."""
    clean = result.clean_accuracy
    rows: list[tuple[str, ...]] = [("none (clean)", "-", clean.percent, "-", "-", "-", "-")]
    rows += [_cells(row) for row in result.rows()]
    worst = [("worst case", eps, accuracy.percent, "-", "-", "-", "-") for eps, accuracy in result.worst()]
    staged = any(row.follows for row in result.rows())
    caption = (
        "accuracy with its 95 % Wilson interval; success: of the examples that were right without attack; "
        "passes: forward and backward, of one example each."
    )
    if staged:
        caption += " '+' rows met only what the rows above left standing."
    return Table(
        ("attack", "eps", "accuracy %", "success %", "median distance", "passes f+b", "seconds"),
        (*rows, *worst),
        align="llrrrrr",
        strong=tuple(range(len(rows), len(rows) + len(worst))),
        caption=caption,
        title=_title(result),
    )


def per_class_table(result: Evaluation) -> Table:
    """Clean and worst-case accuracy of each class."""
    rows = [
        (name, str(n), f"{100 * right / n:.1f}", *(f"{100 * standing / n:.1f}" for standing in left))
        for name, n, right, left in result.per_class()
    ]
    heads = ("class", "n", "clean %", *(f"worst at {eps} %" for eps in result.radii))
    return Table(heads, tuple(rows), align="l" + "r" * (len(heads) - 1), title=_title(result))


def long_table(result: Evaluation, per_class: bool = False) -> Table:
    """One number per cell and what it is of in every row: for programs, and to be put below those of other runs."""
    heads = ("model", "weights", "data", "n", "norm", "goal", "seed", "class", "attack", "eps", *_NUMBERS)
    of = (result.model, result.weights, result.data, str(len(result)), result.norm, result.goal, str(result.seed))
    none = ("",) * (len(_NUMBERS) - 3)

    def shares(name: str, attack: str, eps: str, values: Sequence[object]) -> tuple[str, ...]:
        return (*of, name, attack, eps, *map(str, values), *none)

    rows = [shares("", "none", "", result.clean_accuracy)]
    for row in result.rows():
        found = row.to_json()
        cells = ("" if found[key] is None else str(found[key]) for key in ("attack", "eps", *_NUMBERS))
        rows.append((*of, "", *cells))
    rows += [shares("", "worst case", eps, accuracy) for eps, accuracy in result.worst()]
    for name, n, right, left in result.per_class() if per_class else ():
        rows.append(shares(name, "none", "", (right / n, "", "")))
        rows += [
            shares(name, "worst case", eps, (kept / n, "", "")) for eps, kept in zip(result.radii, left, strict=True)
        ]
    return Table(heads, tuple(rows), align="l" * 10 + "r" * len(_NUMBERS))


def _title(result: Evaluation) -> str:
    aim = "" if result.goal == "untargeted" else f", targeted: {result.goal}"
    return (
        f"{result.model} (weights {result.weights}) on {result.data}, n = {len(result)}, "
        f"{result.norm}{aim}, seed {result.seed}"
    )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"+ {row.attack}" if row.follows else row.attack,
        row.eps,
        row.accuracy.percent,
        f"{100 * row.success:.1f}",
        "-" if row.median_distance is None else f"{row.median_distance:.4g}",
        f"{_short(row.forwards)}+{_short(row.backwards)}",
        f"{row.seconds:.1f}",
    )


def _short(count: int) -> str:
    """A few digits: 999, 8.1k, 12k, 4.5M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.{0 if count >= 9.95 * size else 1}f}{letter}"
    return str(count)


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
_NUMBERS = ("accuracy", "low", "high", "success", "median_distance", "forwards", "backwards", "seconds")
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
