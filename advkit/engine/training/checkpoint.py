"""A training on disk: one safetensors file, tensors and a JSON header, that is never half written and holds no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from advkit.atomic import write_whole
from advkit.documents import MISFIT, ordered_header, parse_json, reason
from advkit.errors import InputError, ModelError

__all__ = ["Saved", "check_same", "read_checkpoint", "save_tensors", "write_checkpoint"]

_FORMAT = 1


@dataclass(frozen=True)
class Saved:
    """What goes on where it stopped: groups of tensors by name, and facts as JSON."""

    facts: Mapping[str, Any]
    groups: Mapping[str, Mapping[str, Tensor]] = field(repr=False)


def write_checkpoint(path: Path, saved: Saved) -> None:
    """Write it whole. Raises WriteError where the disk refuses; what was there before is then still there."""
    tensors = {f"{group}/{name}": tensor for group, held in saved.groups.items() for name, tensor in held.items()}
    save_tensors(path, tensors, {"advkit": json.dumps({"format": _FORMAT, **saved.facts})})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, on the disk before it takes its name. Raises WriteError where the disk refuses."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    # clones: safetensors refuses tensors that share memory
    held = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}

    def write(beside: Path) -> None:
        beside.touch()
        mode = beside.stat().st_mode  # as the user's other files: save_file makes one that no one else can read
        try:
            save_file(held, beside, metadata=dict(metadata))
        except SafetensorError as error:
            raise OSError(str(error)) from error
        beside.chmod(mode)
        with beside.open("r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            file.seek(0)
            head = ordered_header(file.read(8 + size))
            if len(head) != 8 + size:  # it says the same in another order
                raise RuntimeError(f"the header of {path} has {8 + size} bytes, and {len(head)} in order")
            file.seek(0)
            file.write(head)
            file.flush()
            os.fsync(file.fileno())

    write_whole(path, write)


def read_checkpoint(path: Path) -> Saved | None:
    """The training that the file holds; None where there is no file.

    Raises ModelError for a file that is damaged, or of a kind that may hold code: that is not loaded.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        return None
    try:
        with path.open("rb") as raw:
            start = raw.read(9)
    except OSError as error:
        raise ModelError(f"the checkpoint {path} cannot be read ({error.strerror}).") from error
    if start[8:] != b"{":  # what a safetensors file has after the length of its header
        kind = (
            "a pickle or an archive with one" if start[:1] == b"\x80" or start[:2] == b"PK" else "no safetensors file"
        )
        raise ModelError(
            f"{path} is {kind}: it may hold code that would run when it is loaded, so it was not loaded; "
            "a training goes on from a checkpoint that advkit train wrote, or begins anew with --fresh."
        )
    try:
        with safe_open(path, framework="pt") as file:
            facts = parse_json((file.metadata() or {})["advkit"], path)
            groups: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118  (no mapping)
                group, _, name = key.partition("/")
                groups.setdefault(group, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError, *MISFIT) as error:
        raise ModelError(
            f"{path} is not a checkpoint of advkit train ({type(error).__name__}: {reason(error)}); begin anew with --fresh."
        ) from error
    if facts.get("format") != _FORMAT:
        raise ModelError(f"{path} was written by another version of advkit; begin anew with --fresh.")
    return Saved(facts, groups)


def check_same(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another training: what it is of, in the order of importance, must be the same."""
    for key in here:
        if there.get(key) != here[key]:
            raise InputError(
                f"{path} is of another training: its {key} is {there.get(key)!r} there, and {here[key]!r} is asked for; "
                "ask for the same again, begin anew with --fresh, or write elsewhere with another --out."
            )
