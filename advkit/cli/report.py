"""advkit report."""

from __future__ import annotations

from pathlib import Path

import click

from advkit.cli._command import Command, PathType


@click.command(cls=Command)
@click.argument("folder", metavar="DIR", type=PathType())
@click.option("--out", type=PathType(dir_okay=False), metavar="FILE.html", help="[default: DIR/report.html]")
def command(folder: Path, out: Path | None) -> None:
    """Write the results of a sweep as one HTML page: table, curves, pictures, checks, and how to run it again.

    The page is one file and loads nothing from anywhere; send it, print it, keep it beside the results.
    """
    from advkit.results.report import write_report

    path = out or folder / "report.html"
    write_report(folder, path)
    click.echo(path)
