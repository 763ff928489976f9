"""What the commands that read a store share: its folder, filters, formats, and where the text goes."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from advkit.cli._command import PathType
from advkit.errors import InputError, UnknownName

if TYPE_CHECKING:
    from advkit.results.baseline import Versus
    from advkit.results.grid import Grid
    from advkit.results.pivot import Pivot
    from advkit.results.pivot_table import Layout
    from advkit.results.table import Table

__all__ = [
    "drawn",
    "filter_option",
    "form_of",
    "format_options",
    "grid_options",
    "on_screen",
    "opened",
    "outdated_option",
    "put",
    "put_doubts",
    "put_fitting",
    "put_lines",
    "put_pivot",
    "put_table",
]

_SUFFIXES = {
    ".txt": "table",
    ".md": "markdown",
    ".csv": "csv",
    ".json": "json",
    ".tex": "latex",
    ".html": "html",
    ".htm": "html",
}
_NARROWEST = 3  # letters of a column and of the gap beside it
_WIDE = 160  # letters: a file or a pipe has no width of its own

filter_option = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only where model, weights, defense, data, norm, goal, seed, attack, surrogate or eps is this, with shell wildcards; "
    "repeatable. The same key again is an alternative; KEY!=VALUE leaves out.",
)
outdated_option = click.option("--outdated", is_flag=True, help="Also show cells that newer code has made again.")
_FORMAT = click.option(
    "--format",
    "form",
    metavar="NAME",
    help="table, markdown, csv, json, latex or html. [default: by --out, else table]",
)
_OUT = click.option("--out", type=PathType(), metavar="FILE", help="Write here: .md, .csv, .json, .tex, .html or .txt.")


def format_options(command: Callable[..., None]) -> Callable[..., None]:
    """--format and --out."""
    return _FORMAT(_OUT(command))


def grid_options(command: Callable[..., None]) -> Callable[..., None]:
    """DIR, --filter, --outdated, --format and --out."""
    folder = click.argument("folder", metavar="DIR", type=PathType())
    return folder(filter_option(outdated_option(format_options(command))))


def opened(folder: Path, filters: tuple[str, ...], outdated: bool = False) -> tuple[Grid, Grid]:
    """The grid of a store, whole and filtered. Raises InputError where there is nothing in it yet."""
    from advkit.results.filters import filtered
    from advkit.results.grid import load_grid

    whole = load_grid(folder, outdated=outdated)
    if not whole.lines and not whole.clean:
        raise InputError(f"{folder} holds no finished results yet; run its sweep first.")
    return whole, filtered(whole, filters)


def form_of(form: str | None, out: Path | None) -> str:
    """The format asked for, else that of the file's name."""
    names = sorted(set(_SUFFIXES.values()))
    if form is not None:
        if form not in names:
            raise UnknownName("format", form, names)
        return form
    if out is None:
        return "table"
    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"--out {out} does not say in which format to write; end it in {', '.join(_SUFFIXES)}, or give --format."
        )
    return _SUFFIXES[out.suffix.lower()]


def drawn(table: Table, form: str) -> str:
    """A table as text, in any format; as plain text at full width."""
    from advkit.results.html import html_page
    from advkit.results.table import RENDERERS

    if form == "table":
        return _joined([table], None)
    return html_page(table) if form == "html" else RENDERERS[form](table)


def put(text: str, out: Path | None) -> None:
    """Write text to a file, whole or not at all, or print it."""
    text = text.rstrip("\n") + "\n"
    if out is None:
        sys.stdout.write(text)
        return
    from advkit.atomic import put_whole

    put_whole(out, text.encode())


def put_fitting(draw: Callable[[bool, bool], Table], fixed: int, out: Path | None, columns: int = 0) -> None:
    """Print a table as wide as the screen allows: with intervals beside, else below, else in parts below each other.

    ``draw`` makes it, given whether intervals stand below and whether there is bold type. The first ``fixed`` columns
    are in each part; ``columns`` is how many there are in all, where that is known before.
    """
    from advkit.results.plain import blocks

    width = shutil.get_terminal_size().columns if on_screen(out) else _WIDE
    may_fit = columns * _NARROWEST <= width  # to draw 10,000 cells twice takes a second
    parts = blocks(draw(False, on_screen(out)), fixed, width) if may_fit else []
    if len(parts) != 1:
        parts = blocks(draw(True, on_screen(out)), fixed, width)
    put(_joined(parts, width, on_screen(out)), out)


def put_table(table: Table, form: str, fixed: int, out: Path | None) -> None:
    """Write or print a table that has one look only."""
    if form == "table":
        put_fitting(lambda stacked, bold: table, fixed, out)
    else:
        put(drawn(table, form), out)


def put_pivot(
    pivot: Pivot,
    grid: Grid,
    form: str,
    out: Path | None,
    *,
    intervals: bool = True,
    versus: Mapping[int, Versus] | None = None,
    base: str = "",
    ties: bool = False,
) -> None:
    """Write or print a pivot: with a number in each cell as CSV, else as is good to read."""
    from advkit.results.pivot_table import number_table, pivot_table

    def draw(below: bool, bold: bool) -> Table:
        layout: Layout = "paper" if form == "latex" else "below" if below else "beside"
        return pivot_table(
            pivot, grid, intervals=intervals, layout=layout, bold=bold, ties=ties, versus=versus, base=base
        )

    if form == "csv":
        put(drawn(number_table(pivot, intervals=intervals, versus=versus), form), out)
    elif form == "table":
        put_fitting(draw, len(pivot.rows), out, len(pivot.rows) + len(pivot.column_places))
    else:
        put(drawn(draw(False, True), form), out)


def put_lines(table: Table, form: str, out: Path | None) -> None:
    """Write or print a table of lines: with every digit as CSV, else as is good to read."""
    from advkit.results.pivot_table import readable

    shown = table if form == "csv" else readable(table)
    put_table(shown, form, shown.heads.index("eps") + 1, out)


def put_doubts(grid: Grid, form: str, out: Path | None) -> None:
    """Say under a table what the models' own answers say against their numbers; beside a file or another format apart."""
    apart = form != "table" or out is not None
    for doubt in grid.doubts if form != "json" else ():
        click.echo(str(doubt), err=apart)
    if grid.uncovered:
        click.echo(
            f"Note: {grid.uncovered:,} of {len(grid.records):,} cells are not covered: an older advkit made them, without "
            "checksums over whole files.",
            err=apart,
        )


def on_screen(out: Path | None) -> bool:
    """Whether what is printed goes to a terminal."""
    return out is None and sys.stdout.isatty()


def _joined(parts: list[Table], width: int | None, bold: bool = False) -> str:
    """Parts of one table, with its title above and its caption below."""
    from advkit.results.plain import plain

    title, caption = parts[0].title, parts[0].caption
    said = [textwrap.fill(caption, width or _WIDE, break_on_hyphens=False)] if caption else []
    return "\n\n".join([*([title] if title else []), *(plain(part, bold) for part in parts), *said])
