"""Renderers draw whatever a class is called."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console
from test_outcome import evaluation, outcome

from advkit.results.robustness import long_table, per_class_table, robustness_table
from advkit.results.statistics import short
from advkit.results.table import RENDERERS, Table, rich_table, show

ODD = ("[bold]", "a|b", "50 % & more_$#{}~^\\", "two\nlines", "*", "<b>", "日本", 'a,"b"')
TABLE = Table(("class", "n"), tuple((name, "1") for name in ODD), align="lr", strong=(1,))


def test_csv_gives_back_what_was_put_in() -> None:
    assert list(csv.reader(io.StringIO(RENDERERS["csv"](TABLE), newline=""))) == [
        ["class", "n"],
        *([n, "1"] for n in ODD),
    ]


def test_markdown_keeps_one_line_per_row_and_two_cells_per_line() -> None:
    lines = RENDERERS["markdown"](TABLE).splitlines()
    assert len(lines) == 2 + len(ODD)
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    assert "| **a\\|b** | **1** |" in lines


def test_latex_escapes_what_latex_reads() -> None:
    lines = RENDERERS["latex"](TABLE).splitlines()
    assert r"{[}bold] & 1 \\" in lines
    assert r"50 \% \& more\_\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{} & 1 \\" in lines
    assert r"{*} & 1 \\" in lines
    assert r"\textbf{a\textbar{}b} & \textbf{1} \\" in lines
    assert r"two lines & 1 \\" in lines


def test_a_terminal_shows_names_as_they_are() -> None:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(rich_table(TABLE))
    drawn = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in drawn
    assert "日本" in drawn


def test_the_robustness_table_has_clean_first_and_the_worst_case_last() -> None:
    table = robustness_table(evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("b", [0, 1, 1, 1, 0], follows="a")))
    assert [row[0] for row in table.rows] == ["none (clean)", "a", "+ b", "worst case"]
    assert table.rows[1][1:] == ("8/255", "40.0 [11.8, 76.9]", "50.0", "0.01", "10+4", "1.2")
    assert table.strong == (3,)
    assert "left standing" in table.caption
    assert table.title == "net (weights here) on signs, n = 5, linf, seed 0"


@pytest.mark.parametrize(
    ("count", "written"), [(0, "0"), (999, "999"), (1000, "1.0k"), (8123, "8.1k"), (12345, "12k"), (4_560_000, "4.6M")]
)
def test_passes_are_written_short(count: int, written: str) -> None:
    assert short(count) == written


def test_the_long_table_has_a_number_in_each_cell() -> None:
    table = long_table(evaluation(outcome("a", [1, 1, 0, 1, 0])), per_class=True)
    rows = [dict(zip(table.heads, row, strict=True)) for row in table.rows]
    assert [(row["class"], row["attack"], float(row["accuracy"])) for row in rows] == [
        ("", "none", 0.8),
        ("", "a", 0.4),
        ("", "worst case", 0.4),
        ("stop", "none", 1.0),
        ("stop", "worst case", 1 / 3),
        ("yield", "none", 0.5),
        ("yield", "worst case", 0.5),
    ]


def test_classes_have_their_own_table() -> None:
    table = per_class_table(evaluation(outcome("a", [1, 1, 0, 1, 0])))
    assert table.heads == ("class", "n", "clean %", "worst at 8/255 %")
    assert table.rows == (("stop", "3", "100.0", "33.3"), ("yield", "2", "50.0", "50.0"))


def test_tables_are_printed_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    show([TABLE, TABLE], "markdown")
    assert capsys.readouterr().out.count("| class | n |") == 2
    show([TABLE, TABLE], "table")
    out = capsys.readouterr().out
    assert out.count("[bold]") == 2
    assert "\x1b" not in out
