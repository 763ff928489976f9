"""advkit results."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from advkit.cli._command import Command, PathType
from advkit.cli._results import (
    filter_option,
    form_of,
    format_options,
    opened,
    outdated_option,
    put,
    put_table,
)
from advkit.errors import UnknownName

_FOLDER = PathType()


class _Group(click.Group):
    """A group whose unknown commands are answered like every other unknown name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise UnknownName("results command", args[0], self.commands)
        return super().resolve_command(ctx, args)


@click.group(name="results", cls=_Group)
def command() -> None:
    """List, show, check, compare, merge and export the results of sweeps.

    \b
    advkit results list runs/study --filter attack=pgd
    advkit results compare runs/before runs/after --changed
    advkit results merge runs/all runs/machine-1 runs/machine-2
    advkit results export runs/study --out study.parquet --examples
    """


@command.command(name="list", cls=Command)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@filter_option
@format_options
def list_(folder: Path, filters: tuple[str, ...], form: str | None, out: Path | None) -> None:
    """List the cells of a store: what each is of, how many of its examples are done, which code made it."""
    from advkit.results.cells import list_table, listed
    from advkit.results.filters import narrowed
    from advkit.results.reading import Reading

    kind = form_of(form, out)
    cells = listed(Reading(folder), lambda records: narrowed(records, filters))
    if kind == "json":
        put(json.dumps(cells), out)
    else:
        put_table(list_table(cells, full=kind == "csv"), kind, 1, out)


@command.command(cls=Command)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("key")
@click.option("--format", "form", metavar="NAME", help="table or json. [default: table]")
def show(folder: Path, key: str, form: str | None) -> None:
    """Show everything recorded about a cell: hyper-parameters, versions, hardware. The beginning of its KEY is enough."""
    from advkit.results.cells import one, show_lines, shown
    from advkit.results.reading import Reading

    if form not in (None, "table", "json"):
        raise UnknownName("format", form, ("table", "json"))
    reading = Reading(folder)
    found = shown(reading, one(reading, key))
    put(json.dumps(found) if form == "json" else "\n".join(show_lines(found)), None)


@command.command(cls=Command)
@click.argument("folder", metavar="DIR", type=_FOLDER)
def check(folder: Path) -> None:
    """Read every byte of what advkit wrote and say what is damaged, altered, missing or foreign. Exit code 1 where anything is.

    DIR is the folder of a sweep, of attack --save, of certify --out, or of a sticker. Without the models: advkit verify asks
    them too.
    """
    from advkit.results.check import check_folder

    found = check_folder(folder)
    for line in found.lines():
        put(line, None)
    if found.broken:
        sys.exit(1)


@command.command(cls=Command)
@click.argument("before", metavar="DIR_A", type=_FOLDER)
@click.argument("after", metavar="DIR_B", type=_FOLDER)
@filter_option
@click.option("--changed", is_flag=True, help="Only lines that changed, or that are in one store only.")
@format_options
def compare(
    before: Path, after: Path, filters: tuple[str, ...], changed: bool, form: str | None, out: Path | None
) -> None:
    """Compare two stores line by line: accuracy in A, in B, and the change, tested where the examples are the same."""
    from advkit.results.compare import compared, comparison_table

    kind = form_of(form, out)
    pairs = compared(opened(before, filters)[1], opened(after, filters)[1])
    names = (before.name or str(before), after.name or str(after))
    names = names if names[0] != names[1] else (str(before), str(after))
    if kind == "json":
        put(json.dumps([pair.to_json() for pair in pairs if pair.differs or not changed]), out)
    elif kind == "csv":
        put_table(comparison_table(pairs, names, full=True, changed=changed), kind, 0, out)
    else:
        table = comparison_table(pairs, names, full=False, changed=changed)
        put_table(table, kind, len(table.heads) - 3, out)


@command.command(cls=Command)
@click.argument("into", metavar="INTO", type=_FOLDER)
@click.argument("sources", metavar="FROM...", type=_FOLDER, nargs=-1, required=True)
def merge(into: Path, sources: tuple[Path, ...]) -> None:
    """Copy what INTO lacks from other stores. What is damaged, or says otherwise than INTO does, is left out and named."""
    from advkit.results.merge import merge as merged
    from advkit.results.store import Store

    report = merged(Store(into), [Store(source) for source in sources])
    for left in report.left:
        click.echo(f"Note: left out: {left.path} {left.what}.", err=True)
    put(
        f"{report.cells:,} new cells and {report.shards:,} shards copied to {into}; {report.known:,} shards were there "
        f"already, {len(report.left):,} left out.",
        None,
    )


@command.command(cls=Command)
@click.argument("folder", metavar="DIR", type=_FOLDER)
@filter_option
@outdated_option
@click.option("--out", type=_FOLDER, required=True, metavar="FILE", help="Write here: .csv, .parquet or .json.")
@click.option("--examples", is_flag=True, help="One row for each example of each line, not one for each line.")
def export(folder: Path, filters: tuple[str, ...], outdated: bool, out: Path, examples: bool) -> None:
    """Write results in the long form that data frames like, one row for each model, defense, attack and radius."""
    from advkit.results.export import check_suffix
    from advkit.results.export import export as exported

    check_suffix(out)
    count = exported(opened(folder, filters, outdated)[1], out, examples=examples)
    click.echo(f"wrote {count:,} rows to {out}", err=True)
