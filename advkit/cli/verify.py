"""advkit verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from advkit.cli._command import Command, PathType
from advkit.cli._shared import bar, checked_device, console, trust_option, trusted
from advkit.errors import InputError, UnknownName


@click.command(name="verify", cls=Command)
@click.argument("folder", metavar="DIR", type=PathType())
@click.option("--model", metavar="NAME", help="The model, where it is not where it was: as for advkit attack.")
@click.option("--weights", metavar="FILE|NAME", help="Its weights, where they are not where they were.")
@click.option("--data", metavar="NAME|PATH", help="The data, where they are not where they were.")
@trust_option
@click.option("--device", help="cpu, cuda, cuda:1 ... [default: cpu]")
@click.option("--strict", is_flag=True, help="Doubts are differences too: answers at a tie of two classes.")
@click.option("--format", "form", default="table", show_default=True, help="table or json.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    folder: Path,
    model: str | None,
    weights: str | None,
    data: str | None,
    trust_code: tuple[str, ...],
    device: str | None,
    strict: bool,
    form: str,
    quiet: bool,
) -> None:
    """Verify what advkit attack --save or advkit sweep --out wrote: ask the model again about every saved example, measure
    every budget in float64, count every figure again. Exit code 1 where something differs, the first of which is named, or
    where no model could be asked.

    \b
    advkit attack --eps 8/255 --save runs/first --as png
    advkit verify runs/first
    advkit verify runs/first --weights moved/net.safetensors --format json
    """
    from advkit.engine.verify import verify
    from advkit.engine.verify_store import verify_store

    # Parse
    if form not in ("table", "json"):
        raise UnknownName("format", form, ("table", "json"))
    where = checked_device(device or "cpu")
    trust = trusted(trust_code, model)

    # Run
    with bar(console(quiet), "verify") as progress:
        if (folder / "store.json").exists():
            if model is not None or weights is not None:
                raise InputError("a sweep has several models, each where it was; leave --model and --weights out.")
            found = verify_store(folder, device=where, data=data, trust=trust, progress=progress)
        else:
            found = verify(
                folder, device=where, model=model, weights=weights, data=data, trust=trust, progress=progress
            )

    # Render
    doubtful = strict and bool(found.doubts)
    if form == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        for line in found.lines():
            click.echo(line)
        if found.holds and not doubtful:
            left = f", but for {found.unasked:,} models that could not be asked" if found.unasked else ""
            click.echo(f"{folder} holds{left}.")
    if not found.holds:
        click.echo(found.sentence, err=True)
    if not found.holds or doubtful:
        sys.exit(1)
