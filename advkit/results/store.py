"""The store of a sweep: a folder per cell, named by the hash of all that decides its numbers; shards of examples in it.

DIR/store.json                              the format's version
DIR/study.json                              the last sweep: its command, its cells and how many examples it wants of each
DIR/manifest.json                           of each cell that is complete, all its files by SHA-256
DIR/cells/KEY/cell.json                     the cell, and what is known about it (versions, hardware, hyper-parameters)
DIR/cells/KEY/00000-00256.safetensors       the facts of these examples; names its cell, and what lies beside it by SHA-256
DIR/cells/KEY/pictures-00000-00256.safetensors   some beaten examples of theirs
DIR/cells/KEY/asked.json                    of a cell without attack: what the model was asked before it was attacked

A shard is written beside its place and renamed, so a shard that exists is done, and resuming is looking. One sweep at a time
plans and writes; its workers each write shards of their own. Every file holds a checksum of itself (``advkit.seal``). What is
not whole is here as if it were not there, for a sweep makes it again; ``advkit.results.reading`` refuses it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from advkit.atomic import keep_names, put_whole
from advkit.documents import MISFIT
from advkit.errors import InputError, StoreError
from advkit.hashes import sha256
from advkit.results.asked import Asked
from advkit.results.cell import Cell, Facts, Picture, UnknownFields
from advkit.results.lock import LOCK_FILES, locked
from advkit.results.manifest import MANIFEST, Manifest, hashes_of
from advkit.results.sealed import Broken, check_beside, read_sealed
from advkit.results.shard import Shard, Span, name_of, pack_facts, pack_pictures, read_pictures, read_shard
from advkit.seal import sealed_json

__all__ = [
    "Record",
    "Span",
    "Store",
    "Study",
    "gaps",
    "in_order",
    "joined",
    "read_asked",
    "read_record",
]

_FORMAT = 2
_UNSEALED = 1  # the format of before: checksums of arrays, no manifest
_LOOKS = 0.1  # seconds between two looks for a file that another machine has written
_STUDY = "study.json"
_ASKED = "asked.json"
_SHARD = re.compile(r"(\d+)-(\d+)\.safetensors")


@dataclass(frozen=True)
class Record:
    """A cell and what else its cell.json says: ``weights``, ``data``, ``classes``, versions, hardware ..."""

    cell: Cell
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What the last sweep was asked for: how to run it again, and the examples it wants of each cell, in its order."""

    command: str
    samples: Mapping[str, int]  # by the cell's key
    about: Mapping[str, Any] = field(default_factory=dict)


class Store:
    """The store in a folder. Nothing is read or written before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # ------------------------------------------------------------------ the whole

    def check(self) -> Store:
        """The store itself. Raises InputError where the folder is none, or one of a newer advkit."""
        self._format()
        return self

    def _format(self) -> int:
        path = self.folder / "store.json"
        try:
            found = read_sealed(path)[0]["advkit store"]
        except Broken as error:
            if error.kind == "missing":
                raise InputError(
                    f"{self.folder} holds no results of a sweep; give the folder that advkit sweep --out wrote."
                ) from None
            raise StoreError(f"{error}; run the sweep again, which writes it anew.") from None
        except MISFIT as error:
            raise InputError(f"{path} cannot be read ({error}); is it the folder of a sweep?") from None
        if found not in (_UNSEALED, _FORMAT):
            raise InputError(f"{self.folder} has format {found}, this advkit reads {_FORMAT}; use a newer advkit.")
        return int(found)

    def create(self) -> Store:
        """Make the folder a store, or check that it is one. One of before is one of today from then on."""
        self.admit()
        for name in self.cell_keys():
            place = self.folder / "cells" / name
            if place.is_symlink():  # what does not hold in it would be removed elsewhere
                raise InputError(
                    f"{place} leads elsewhere; cells are kept in folders of the store's own, so remove the link."
                )
        try:
            made = self._format() == _FORMAT and self.manifest() is not None
        except InputError:  # there is none yet, or it is damaged
            made = False
        if not made:
            # The manifest first: a store of this format without one has lost it.
            put_whole(self.folder / MANIFEST, Manifest(study=(self.folder / _STUDY).exists()).content())
            _write_json(self.folder / "store.json", {"advkit store": _FORMAT})
        return self

    def admit(self) -> None:
        """Raise InputError where the folder is not empty and no store. Writes nothing."""
        if (self.folder / "store.json").exists():
            try:
                self.check()
            except StoreError:  # damaged, and written anew by who creates it
                if not (self.folder / "cells").is_dir():
                    raise
            return
        # What one that was killed in its first lines has left.
        halves = (path.name for name in ("store.json", MANIFEST) for path in self.folder.glob(f".{name}.*.part"))
        ours = {*LOCK_FILES, MANIFEST, *halves}
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; results are kept in a folder, so give the name of one.")
        if self.folder.exists() and any(path.name not in ours for path in self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty and holds no results of a sweep; give another folder.")

    def manifest(self) -> Manifest:
        """What is finished. Raises StoreError where it cannot be told."""
        path = self.folder / MANIFEST
        found = Manifest.read(path)
        if found is None and self._format() == _FORMAT:
            raise StoreError(
                f"{path} is missing: it says what belongs to the store; run the sweep again, for a new one."
            )
        return found or Manifest(covers=False)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one writer; the lock ends with the process, however that ends."""
        with locked(self.folder, "sweep", lasting=True):
            yield

    def tidy(self) -> None:
        """Remove what killed writers left half written. Only for who holds the lock."""
        for place in (".*.part", "cells/*/.*.part"):
            for left in self.folder.glob(place):
                left.unlink(missing_ok=True)
        for left in self.folder.glob("cells/.*.gone"):
            shutil.rmtree(left, ignore_errors=True)

    # ------------------------------------------------------------------ cells

    def add(self, *records: Record, anew: bool = False) -> None:
        """Make room for cells; the cell.json of one that is there already stays as it is, unless it is to be written anew."""
        new = [record for record in records if anew or not (self._of(record.cell) / "cell.json").exists()]
        for record in new:
            found = {"cell": record.cell.to_json(), "about": dict(record.about)}
            # One that a power cut takes back is made again; its shards wait until its name is on the disk.
            _write_json(self._of(record.cell) / "cell.json", found, lasting=False)
        if new:
            keep_names(self.folder / "cells", self.folder)

    def remove(self, *cells: Cell) -> None:
        """Forget cells and all that is done of them. Only for who holds the lock."""
        gone = {cell.key for cell in cells if self._of(cell).is_dir()}
        study = self.study()
        if study is not None and gone & study.samples.keys():  # it must not name what is not there
            left = {key: count for key, count in study.samples.items() if key not in gone}
            self.write_study(replace(study, samples=left))
        self.reopen(gone)
        for key in sorted(gone):  # a folder that is there is whole, also where this is killed
            place = self.folder / "cells" / f".{key}.{uuid4().hex[:12]}.gone"
            (self.folder / "cells" / key).rename(place)
            shutil.rmtree(place, ignore_errors=True)

    def cell_keys(self) -> list[str]:
        """The names of the cells' folders, in order."""
        try:
            return sorted(name for name in os.listdir(self.folder / "cells") if not name.startswith("."))
        except FileNotFoundError:
            return []

    def records(self) -> list[Record]:
        """Every cell of the store, in the order of their keys. One whose cell.json cannot be read is an error."""
        return [record for record in map(self.record, self.cell_keys()) if record is not None]

    def record(self, key: str) -> Record | None:
        """The cell with this key, if it is there."""
        folder = os.path.join(self.folder, "cells", key)  # texts: a Path for each of 10,000 files takes half a second
        try:
            return read_record(folder, key)
        except Broken as error:
            if error.kind == "missing" and not _has_shards(folder):
                return None  # a writer that was killed had made its folder
            raise StoreError(f"{error}; run the sweep again, which makes it anew, or remove its folder.") from None

    # ------------------------------------------------------------------ what is finished

    def reopen(self, keys: Iterable[str]) -> None:
        """Take cells out of the manifest, before a file of theirs changes. Only for who holds the lock."""
        manifest = self.manifest()
        self._put_manifest(manifest, manifest.without(keys))

    def finish(self, samples: Mapping[str, int]) -> None:
        """Enter in the manifest the cells that are complete, given how many examples are wanted of each, by its key.

        Only for who holds the lock. A cell that holds shards of before stays out: nobody knows what became of them.
        """
        manifest, parts = self.manifest(), dict[str, Mapping[str, str]]()
        for key, count in samples.items():
            record = None if key in manifest.parts else self.record(key)
            if record is None:
                continue
            whole = self.whole(record.cell)
            if not gaps([span for span, _ in whole], count) and all(shard.covered for _, shard in whole):
                names = (name for name in os.listdir(self._of(record.cell)) if not name.startswith("."))
                parts[key] = hashes_of(self._of(record.cell), names)
        self._put_manifest(manifest, replace(manifest, parts={**manifest.parts, **parts}))

    def _put_manifest(self, old: Manifest, new: Manifest) -> None:
        new = replace(new, study=(self.folder / _STUDY).exists())
        if old.covers and new != old:
            put_whole(self.folder / MANIFEST, new.content())

    # ------------------------------------------------------------------ shards

    def look(self, cell: Cell, span: Span, path: Path | str, read: set[tuple[str, str]]) -> Shard:
        """A shard, which is whole with all that it names, but for what was ``read`` already. Raises Broken."""
        shard = read_shard(path, cell, span)
        check_beside(os.path.dirname(path), shard.files, read)
        return shard

    def whole(self, cell: Cell) -> list[tuple[Span, Shard]]:
        """Every shard that is whole, with all that it names."""
        found, read = [], set[tuple[str, str]]()
        for span, path in self.shards(cell):
            with suppress(Broken):
                found.append((span, self.look(cell, span, path, read)))
        return found

    def spans(self, cell: Cell) -> list[Span]:
        """Which examples are done. A shard that is not whole, or lacks what it names, does not count."""
        return [span for span, _ in self.whole(cell)]

    def missing(self, cell: Cell, samples: int) -> list[Span]:
        """Which of the first ``samples`` examples are not done."""
        return gaps(self.spans(cell), samples)

    def awaited(self, cell: Cell, span: Span, patience: float) -> bool:
        """Whether a shard that another machine says it wrote is to be seen here: a shared disk may take a while."""
        path, until = os.path.join(self.folder, "cells", cell.key, name_of(span)), time.monotonic() + patience
        while True:
            try:
                os.listdir(os.path.dirname(path))  # what a shared disk remembers of a folder is fresh once it is read
                os.stat(path)
                return True
            except OSError:
                if time.monotonic() >= until:
                    return False
            time.sleep(_LOOKS)

    def write(
        self,
        cell: Cell,
        span: Span,
        facts: Facts,
        pictures: Sequence[Picture] = (),
        made: Mapping[str, str] | None = None,
    ) -> None:
        """Write a shard; its pictures first, for the shard's own file says that all is there.

        ``made`` says where and by what: versions, hardware.
        """
        folder, files = self._of(cell), dict[str, str]()
        if pictures:
            name, content = f"pictures-{name_of(span)}", pack_pictures(pictures)
            put_whole(folder / name, content)
            files[name] = sha256(content)
        # What was asked is asked by who does the first examples, and written before their shard.
        companions = [path for path in self.companions(cell) if path.name != _ASKED or span[0] == 0]
        files |= hashes_of(folder, [path.name for path in companions])
        put_whole(folder / name_of(span), pack_facts(cell, span, facts, made or {}, files))

    def made(self, cell: Cell) -> list[dict[str, str]]:
        """Where and by what the cell's shards were made, each way once, in the order of the data."""
        found: list[dict[str, str]] = []
        for _, shard in self.whole(cell):
            if shard.made and shard.made not in found:
                found.append(dict(shard.made))
        return found

    def facts(self, cell: Cell, samples: int | None = None, *, begin: int = 0) -> Facts | None:
        """The facts of all examples that are done, from ``begin`` to before ``samples``; None where there are none yet.

        A shard that is not whole is left out, as if it had not been written; one that holds none of them is not read.
        """
        end = sys.maxsize if samples is None else samples
        parts = []
        for span, path in self.shards(cell):
            if span[0] < end and span[1] > begin:
                with suppress(Broken):
                    parts.append(read_shard(path, cell, span).facts)
        return joined(parts, begin, end)

    def pictures(self, cell: Cell) -> list[Picture]:
        """The beaten examples that were kept, in the order of the data."""
        found = []
        for path in sorted(self._of(cell).glob("pictures-*.safetensors")):
            with suppress(Broken):
                found += read_pictures(path)
        return in_order(found)

    def beside(self, cell: Cell, name: str) -> Path:
        """Where a file of a cell's own stands that is no shard of it."""
        return self._of(cell) / name

    def companions(self, cell: Cell) -> list[Path]:
        """The cell's files that its shards need or that say something of all of them: what was fitted, what was asked."""
        found = self._of(cell)
        return sorted(path for path in (*found.glob("fitted-*.*"), found / _ASKED) if path.exists())

    def add_asked(self, cell: Cell, asked: Sequence[Asked]) -> None:
        """Keep what the model of a cell without attack was asked."""
        _write_json(self.beside(cell, _ASKED), {"asked": [each.to_json() for each in asked]})

    def _of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.key

    def shards(self, cell: Cell) -> list[tuple[Span, str]]:
        """Every shard there is, whole or not, with its path."""
        folder = os.path.join(self.folder, "cells", cell.key)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        return self.shards_among(cell, names)

    def shards_among(self, cell: Cell, names: Iterable[str]) -> list[tuple[Span, str]]:
        """Those of a cell's files that are shards, with their paths."""
        folder = os.path.join(self.folder, "cells", cell.key)
        matches = (_SHARD.fullmatch(name) for name in sorted(names))
        return [((int(m[1]), int(m[2])), os.path.join(folder, m[0])) for m in matches if m]

    # ------------------------------------------------------------------ the study

    def write_study(self, study: Study) -> None:
        """Remember what is wanted."""
        found = {"command": study.command, "samples": dict(study.samples), "about": dict(study.about)}
        _write_json(self.folder / _STUDY, found)

    def study(self) -> Study | None:
        """What the last sweep was asked for, if there was one."""
        path = self.folder / _STUDY
        try:
            found = read_sealed(path)[0]
            return Study(found["command"], found["samples"], found["about"])
        except Broken as error:
            if error.kind == "missing":
                return None
            raise StoreError(f"{error}; run the sweep again, which writes it anew.") from None
        except MISFIT as error:
            raise StoreError(f"{path} cannot be read ({error}); run the sweep again, which writes it anew.") from None


def joined(parts: Sequence[Facts], begin: int = 0, end: int = sys.maxsize) -> Facts | None:
    """The facts of shards, from ``begin`` to before ``end``; None where there are none."""
    if not parts:
        return None
    facts = Facts.joined(parts)
    if len(facts) and (facts.index[0] < begin or facts.index[-1] >= end):
        facts = facts.take(np.flatnonzero((facts.index >= begin) & (facts.index < end)))
    return facts if len(facts) else None


def in_order(pictures: Iterable[Picture]) -> list[Picture]:
    """Pictures in the order of the data, each once."""
    return sorted({(p.index, p.stage, p.eps): p for p in pictures}.values(), key=lambda p: p.index)


def gaps(done: Sequence[Span], samples: int) -> list[Span]:
    """The stretches of the first ``samples`` examples that no span covers."""
    found, begin = [], 0
    for first, last in sorted(done):
        if first >= samples:
            break
        if first > begin:
            found.append((begin, first))
        begin = max(begin, last)
    return [*found, (begin, samples)] if begin < samples else found


def read_record(folder: str, key: str) -> Record:
    """The cell.json of a folder with this name. Raises Broken, and StoreError for one of a newer advkit."""
    path = os.path.join(folder, "cell.json")
    found, _ = read_sealed(path)
    try:
        record = Record(Cell.from_json(found["cell"]), found["about"])
    except UnknownFields as error:
        raise StoreError(f"{path} was written by a newer advkit ({error}); use that.") from None
    except MISFIT as error:
        raise Broken(path, "damaged", f"cannot be read ({error})") from None
    if record.cell.key != key:
        raise Broken(path, "foreign", f"is that of another cell, {record.cell.key}")
    return record


def read_asked(path: Path | str) -> tuple[tuple[Asked, ...], bool]:
    """What a model was asked, and whether a checksum covers it. Raises Broken."""
    found, covered = read_sealed(path)
    try:
        return tuple(Asked.from_json(each) for each in (found["asked"] if covered else found)), covered
    except (ArithmeticError, AttributeError, KeyError, TypeError) as error:
        raise Broken(path, "damaged", f"cannot be read ({error})") from None


def _has_shards(folder: str) -> bool:
    with suppress(OSError):
        return any(_SHARD.fullmatch(name) for name in os.listdir(folder))
    return False


def _write_json(path: Path, found: Mapping[str, Any], *, lasting: bool = True) -> None:
    put_whole(path, sealed_json(found), lasting=lasting)
