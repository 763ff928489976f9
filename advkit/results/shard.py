"""One shard of a cell as a file: the facts of a stretch of examples, what it belongs to, and what lies beside it.

A safetensors file under a checksum (``advkit.seal``). Its header names the cell, the radii, the examples, where it was made,
and by SHA-256 each file that it needs: its pictures, what was fitted, what the model was asked. So a shard that was copied from
another cell is told, and so is a picture that was changed. Shards of before say none of it; their arrays alone have a checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from advkit.documents import MISFIT, parse_json
from advkit.results.cell import Cell, Facts, Numbers, Picture
from advkit.results.sealed import Broken, content_of
from advkit.seal import Unsealed, holds_tensors, sealed_tensors

__all__ = ["Shard", "Span", "name_of", "pack_facts", "pack_pictures", "read_pictures", "read_shard"]

Span = tuple[int, int]
"""Examples from the first to before the second."""

_TYPES = {
    "index": np.int64,
    "labels": np.int64,
    "clean": np.int64,
    "attacked": np.bool_,
    "success": np.bool_,
    "prediction": np.int32,
    "distance": np.float64,
    "steps": np.int32,
    "forwards": np.int32,
    "backwards": np.int32,
    "tested": np.bool_,
}
_CODES: dict[str, np.dtype[Any]] = {
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "F64": np.dtype(np.float64),
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
}


@dataclass(frozen=True)
class Shard:
    """What a shard says. One that is not ``covered`` is of before there were checksums over whole files."""

    facts: Facts
    made: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)  # what it needs beside it: names and SHA-256
    covered: bool = True


def name_of(span: Span) -> str:
    """The name of a shard's file."""
    return f"{span[0]:05d}-{span[1]:05d}.safetensors"


def pack_facts(cell: Cell, span: Span, facts: Facts, made: Mapping[str, str], files: Mapping[str, str]) -> bytes:
    """A shard as a file."""
    arrays: dict[str, Numbers] = {
        name: np.asarray(array, _TYPES.get(name, np.bool_))  # what a control beat has the control's name
        for name, array in facts.per_example().items()
    }
    of = {"cell": cell.key, "radii": list(cell.radii), "examples": list(span), "files": dict(files)}
    told = {"made": json.dumps(dict(made))} if made else {}
    return _pack(arrays, {"of": json.dumps(of), "seconds": json.dumps(facts.seconds.tolist()), **told})


def read_shard(path: Path | str, cell: Cell | None = None, span: Span | None = None) -> Shard:
    """A shard, which must be of this cell and of these examples where they are given. Raises Broken."""
    arrays, told, covered = _unpack(path)
    try:
        of = parse_json(told["of"], path) if covered else {}
        shape = arrays["attacked"].shape[:2]
        seconds = np.asarray(parse_json(told["seconds"], path), np.float64).reshape(shape)
        shard = Shard(Facts.of(arrays, seconds), parse_json(told.get("made", "{}"), path), of.get("files", {}), covered)
        if covered:
            _belongs(path, of, cell, span)
        if any(Path(name).name != name for name in shard.files):
            raise Broken(path, "foreign", "names files that are not beside it")
    except MISFIT:
        raise Broken(path, "damaged", "is damaged: it holds no facts of examples") from None
    index = shard.facts.index
    if span is not None and (
        len(index) != span[1] - span[0] or (len(index) and (int(index[0]), int(index[-1]) + 1) != span)
    ):
        raise Broken(path, "foreign", "holds other examples than its name says")
    if cell is not None and shape != (len(cell.stages), len(cell.radii)):
        raise Broken(path, "foreign", "is that of another cell: it has other stages or radii")
    return shard


def _belongs(path: Path | str, of: Mapping[str, Any], cell: Cell | None, span: Span | None) -> None:
    if cell is not None and of["cell"] != cell.key:
        raise Broken(path, "foreign", f"is that of another cell, {of['cell']}")
    if cell is not None and tuple(of["radii"]) != cell.radii:
        raise Broken(path, "foreign", f"is that of other radii, {', '.join(of['radii'])}")
    if span is not None and tuple(of["examples"]) != span:
        raise Broken(path, "foreign", "holds other examples than its name says")


def pack_pictures(pictures: Sequence[Picture]) -> bytes:
    """Beaten examples as a file."""
    arrays = {
        "x": np.stack([picture.x for picture in pictures]),
        "x_adv": np.stack([picture.x_adv for picture in pictures]),
    }
    about = [
        [picture.index, picture.label, picture.prediction, picture.stage, picture.eps, picture.distance]
        for picture in pictures
    ]
    return _pack(arrays, {"about": json.dumps(about)})


def read_pictures(path: Path | str, digest: str | None = None) -> list[Picture]:
    """The beaten examples of a file, which must have this SHA-256 where one is given. Raises Broken."""
    arrays, told, _ = _unpack(path, digest)
    try:
        about: list[tuple[int, int, int, str, str, float]] = parse_json(told["about"], path)
        return [
            Picture(*row, x=x, x_adv=x_adv) for row, x, x_adv in zip(about, arrays["x"], arrays["x_adv"], strict=True)
        ]
    except MISFIT:
        raise Broken(path, "damaged", "is damaged: it holds no pictures of examples") from None


def _pack(arrays: Mapping[str, Numbers], facts: Mapping[str, str]) -> bytes:
    from safetensors.numpy import save

    return sealed_tensors(save, {name: np.ascontiguousarray(array) for name, array in arrays.items()}, facts)


def _unpack(path: Path | str, digest: str | None = None) -> tuple[dict[str, Numbers], dict[str, str], bool]:
    """The arrays and facts of a safetensors file, and whether a checksum covers all of it. Raises Broken.

    Read here and not by the library, which takes a file to be read twice for its facts: 10,000 shards are to be read in
    seconds.
    """
    content = content_of(path, digest)
    try:
        covered = holds_tensors(content)
        size = int.from_bytes(content[:8], "little")
        header = parse_json(content[8 : 8 + size], path)
        facts = header.pop("__metadata__")
        arrays: dict[str, Numbers] = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            kind = _CODES[entry["dtype"]]
            flat = np.frombuffer(content, kind, (end - begin) // kind.itemsize, 8 + size + begin)
            arrays[name] = flat.reshape(entry["shape"])
        whole = covered or facts["digest"] == _digest(arrays[name] for name in sorted(arrays))
    except Unsealed as error:
        raise Broken(path, "damaged", str(error)) from None
    except MISFIT:
        raise Broken(path, "damaged", "is damaged: it was cut off, or is none of advkit's") from None
    if not whole:
        raise Broken(path, "damaged", str(Unsealed()))
    return arrays, facts, covered


def _digest(arrays: Iterable[Numbers]) -> str:
    """Of shards of before: over their arrays alone."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
