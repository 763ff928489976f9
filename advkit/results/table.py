"""A table is data; renderers only draw it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advkit.results.outcome import Evaluation, Row

if TYPE_CHECKING:
    from rich.table import Table as RichTable

__all__ = ["FORMATS", "RENDERERS", "Table", "per_class_table", "rich_table", "robustness_table", "show"]


@dataclass(frozen=True)
class Table:
    """Column heads and rows of text. ``align`` has a letter per column, l or r; ``strong`` rows stand out."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    strong: tuple[int, ...] = ()
    caption: str = ""


def robustness_table(result: Evaluation) -> Table:
    """Clean accuracy, a row per attack, and the worst case over all of them at each radius."""
    clean = result.clean_accuracy
    rows = [("none (clean)", "-", clean.percent, "-", "-", "-", "-")]
    rows += [_cells(row) for row in result.rows()]
    worst = [("worst case", eps, accuracy.percent, "-", "-", "-", "-") for eps, accuracy in result.worst()]
    staged = any(row.follows for row in result.rows())
    caption = "accuracy in % with 95 % Wilson intervals; success: of the examples that were right without attack."
    if staged:
        caption += " '+' rows met only what the rows above left standing."
    return Table(
        ("attack", "eps", "accuracy %", "success %", "median distance", "passes", "seconds"),
        (*rows, *worst),
        align="llrrrrr",
        strong=tuple(range(len(rows), len(rows) + len(worst))),
        caption=caption,
    )


def per_class_table(result: Evaluation) -> Table:
    """Clean and worst-case accuracy of each class."""
    rows = [
        (name, str(n), f"{100 * right / n:.1f}", *(f"{100 * standing / n:.1f}" for standing in left))
        for name, n, right, left in result.per_class()
    ]
    heads = ("class", "n", "clean %", *(f"worst at {eps} %" for eps in result.radii))
    return Table(heads, tuple(rows), align="l" + "r" * (len(heads) - 1))


def _cells(row: Row) -> tuple[str, ...]:
    return (
        f"+ {row.attack}" if row.follows else row.attack,
        row.eps,
        row.accuracy.percent,
        f"{100 * row.success:.1f}",
        "-" if row.median_distance is None else f"{row.median_distance:.4g}",
        f"{row.forwards:,} f + {row.backwards:,} b",
        f"{row.seconds:.1f}",
    )


def show(table: Table, form: str) -> None:
    """Print a table on standard output in one of FORMATS."""
    from rich.console import Console

    if form != "table":
        Console(soft_wrap=True).out(RENDERERS[form](table) + "\n", highlight=False)
        return
    screen = Console(highlight=False)
    if not screen.is_terminal:
        screen.width = _WIDE  # a file or a pipe has no width of its own
    screen.print(rich_table(table))


def rich_table(table: Table) -> RichTable:
    """For a terminal."""
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(caption=table.caption or None, caption_justify="left")
    for head, side in zip(table.heads, table.align, strict=True):
        drawn.add_column(head, justify="left" if side == "l" else "right")
    for number, row in enumerate(table.rows):
        # Text, not markup: a class may be called [bold].
        drawn.add_row(*map(Text, row), style="bold" if number in table.strong else None)
    return drawn


def markdown(table: Table) -> str:
    """GitHub's pipe table."""
    lines = [_pipes(table.heads), _pipes(tuple("---" if side == "l" else "---:" for side in table.align))]
    for number, row in enumerate(table.rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(_pipes(tuple(f"**{c}**" for c in cells) if number in table.strong else tuple(cells)))
    return "\n".join(lines + (["", table.caption] if table.caption else []))


def comma_separated(table: Table) -> str:
    """CSV with a head line."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.heads, *table.rows])
    return out.getvalue().rstrip("\n")


def latex(table: Table) -> str:
    """A tabular for booktabs."""
    lines = [rf"\begin{{tabular}}{{{table.align}}}", r"\toprule", _ampersands(table.heads), r"\midrule"]
    for number, row in enumerate(table.rows):
        cells = [_escape(cell) for cell in row]
        lines.append(
            " & ".join(rf"\textbf{{{c}}}" for c in cells) + r" \\" if number in table.strong else _ampersands(row)
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


_WIDE = 160

RENDERERS: dict[str, Callable[[Table], str]] = {"markdown": markdown, "csv": comma_separated, "latex": latex}
FORMATS = ("table", *RENDERERS)


def _pipes(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersands(cells: tuple[str, ...]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    for plain, escaped in (("\\", r"\textbackslash "), *((c, "\\" + c) for c in "&%$#_{}")):
        text = text.replace(plain, escaped)
    return text.replace("~", r"\textasciitilde ").replace("^", r"\textasciicircum ")
