"""advkit list."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from advkit.cli._attacks import balls_of
from advkit.cli._command import Command, refuse_idle
from advkit.cli._shared import bar, check_format, console
from advkit.errors import InputError, UnknownName

if TYPE_CHECKING:
    from torch import nn

    from advkit.registry import Entry, Registry
    from advkit.results.table import Table

_KINDS = ("attacks", "backbones", "datasets", "defenses", "directions", "executors", "losses", "trackers")


@click.command(name="list", cls=Command)
@click.argument("kind", required=False, metavar="[KIND]")
@click.option(
    "--size", type=click.IntRange(1), default=32, show_default=True, help="Side of the pictures, for backbones."
)
@click.option("--channels", type=click.IntRange(1), default=3, show_default=True, help="Channels of the pictures.")
@click.option("--classes", type=click.IntRange(2), default=10, show_default=True, help="Classes, for backbones.")
@click.option("--settings", is_flag=True, help="Show what can be set, with defaults.")
@click.option("--only", metavar="TEXT", default="", help="Names that hold this text.")
@click.option("--bridged", is_flag=True, help="Also the attacks of Foolbox, torchattacks and ART that are installed.")
@click.option("--format", "form", default="table", show_default=True, help="table, markdown, csv, json, latex or html.")
@click.pass_context
def command(
    ctx: click.Context,
    kind: str | None,
    size: int,
    channels: int,
    classes: int,
    settings: bool,
    only: str,
    bridged: bool,
    form: str,
) -> None:
    """List what there is, by name: attacks, backbones, datasets, defenses, directions, executors, losses or trackers.

    "advkit list backbones" also shows parameters, multiply-adds, activation memory and receptive field for the size of
    picture given.
    """
    from advkit.results.table import show

    if kind is not None and kind not in _KINDS:
        raise UnknownName("list", kind, _KINDS)
    check_format(form)
    if kind == "backbones":
        refuse_idle(
            ctx, "on the list of backbones, whose settings advkit list shows with all lists", "settings", "bridged"
        )
    elif kind is not None:
        refuse_idle(
            ctx, f"on the list of {kind}", "size", "channels", "classes", *([] if kind == "attacks" else ["bridged"])
        )
    else:
        refuse_idle(ctx, "without the word backbones", "size", "channels", "classes")
    tables = {
        each: _backbones(size, channels, classes, only)
        if kind == "backbones"
        else _entries(each, only, settings, bridged)
        for each in ([kind] if kind else _KINDS)
    }
    if only:
        tables = {each: table for each, table in tables.items() if table.rows}
    if not tables:
        raise InputError(f"no name among the {kind or 'lists'} holds {only!r}; leave out --only to see all.")
    if form == "json":
        found = {each: [dict(zip(t.heads, row, strict=True)) for row in t.rows] for each, t in tables.items()}
        click.echo(json.dumps(found))
    else:
        show(list(tables.values()), form)


def _entries(kind: str, only: str, settings: bool, bridged: bool) -> Table:
    from advkit import catalog
    from advkit.results.table import Table

    registry: Registry[object] = getattr(catalog, kind.upper())
    found = [*registry.entries(), *(registry.bridged() if bridged else ())]
    entries = [entry for entry in found if only in entry.name]
    columns = {registry.kind: [entry.name for entry in entries]}
    if kind == "attacks":
        columns["knows"] = [getattr(entry.factory, "tells", "gradient") for entry in entries]
        columns["norms"] = [" ".join(ball.__name__ for ball in balls_of(entry)) for entry in entries]
    if kind == "defenses":
        columns["kind"] = [_kind(entry) for entry in entries]
        columns["backward"] = [_backward(entry) for entry in entries]
    columns["what it does"] = [entry.summary for entry in entries]
    if settings:
        columns["settings"] = [_settings(entry) for entry in entries]
    columns["paper"] = [entry.facts.get("paper", "") for entry in entries]
    return Table(tuple(columns), tuple(zip(*columns.values(), strict=True)), align="l" * len(columns))


def _kind(entry: Entry[object]) -> str:
    """What is done with a defense: ``train``, or change another training (``modifier``), stand in front of a model
    (``wrapper``), prove (``certifier``) or detect (``detector``)."""
    from advkit.core.defense import Certifier, Modifier, Objective, Wrapper
    from advkit.core.detector import Detector

    bases = (Objective, Modifier, Wrapper, Certifier, Detector)
    kinds = {"train" if base is Objective else base.__name__.lower(): base for base in bases}
    made = entry.factory if isinstance(entry.factory, type) else object
    return next((name for name, base in kinds.items() if issubclass(made, base)), "")


def _backward(entry: Entry[object]) -> str:
    """How the gradient passes a wrapper, by default; ``EOT`` where it is the mean over draws."""
    from advkit.core.defense import RandomWrapper, Wrapper

    made = entry.factory
    if not (isinstance(made, type) and issubclass(made, Wrapper)):
        return ""
    chosen = entry.settings.get("gradient")
    backward = str(chosen.default) if chosen is not None else made.backward
    return f"{backward}, EOT" if issubclass(made, RandomWrapper) else backward


def _settings(entry: Entry[object]) -> str:
    return ", ".join(name if p.default is p.empty else f"{name}={p.default!r}" for name, p in entry.settings.items())


def _backbones(size: int, channels: int, classes: int, only: str) -> Table:
    from advkit.catalog import BACKBONES
    from advkit.results.table import Table

    rows = []
    chosen = [entry for entry in BACKBONES.entries() if only in entry.name]
    with bar(console(), "backbones") as progress:
        for number, entry in enumerate(chosen):
            rows.append(_numbers(entry, size, channels, classes))
            progress(number + 1, len(chosen))
    heads = ("backbone", "parameters", "multiply-adds", "activations", "receptive field", "what it is")
    caption = f"for {classes} classes and pictures {channels} x {size} x {size}; activations in float32, one picture."
    return Table(heads, tuple(rows), align="lrrrrl", caption=caption)


def _numbers(entry: Entry[nn.Module], size: int, channels: int, classes: int) -> tuple[str, ...]:
    import torch

    from advkit.backbones import describe
    from advkit.errors import AdvkitError

    try:
        with torch.device("meta"):  # shapes only: nothing is computed
            net = entry.create(classes=classes, channels=channels, size=size)
        found = describe(net, channels, size, size)
    except AdvkitError as error:
        return (entry.name, "-", "-", "-", "-", str(error).partition(" (")[0])
    return (
        entry.name,
        f"{found.parameters:,}",
        f"{found.multiply_adds:,}",
        f"{found.activation_bytes / 2**20:.2f} MB",
        str(found.receptive_field),
        entry.summary,
    )
