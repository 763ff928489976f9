"""The store of a sweep: a folder per cell, named by the hash of all that decides its numbers; shards of examples in it.

DIR/store.json                              the format's version
DIR/study.json                              the last sweep: its command, its cells and how many examples it wants of each
DIR/cells/KEY/cell.json                     the cell, and what is known about it (versions, hardware, hyper-parameters)
DIR/cells/KEY/00000-00256.safetensors       the facts of these examples, with a checksum
DIR/cells/KEY/pictures-00000-00256.safetensors   some beaten examples of theirs
DIR/cells/KEY/asked.json                    of a cell without attack: what the model was asked before it was attacked

A shard is written beside its place and renamed, so a shard that exists is done, and resuming is looking. One sweep at a time
plans and writes; its workers each write shards of their own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from advkit.atomic import keep_names, put_whole
from advkit.documents import parse_json, read_json, reason
from advkit.errors import InputError, StoreError
from advkit.results.asked import Asked
from advkit.results.cell import Cell, Facts, Numbers, Picture, UnknownFields

__all__ = ["Record", "Span", "Store", "Study", "gaps", "read_facts"]

_FORMAT = 1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOOKS = 0.1  # seconds between two looks for a file that another machine has written
_LOCK, _SOFT_LOCK, _WRITER = ".lock", ".lock.held", ".writer"
_ASKED = "asked.json"
_SHARD = re.compile(r"(\d+)-(\d+)\.safetensors")
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

Span = tuple[int, int]
"""Examples from the first to before the second."""


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
        path = self.folder / "store.json"
        try:
            found = read_json(path)["advkit store"]
        except FileNotFoundError:
            raise InputError(
                f"{self.folder} holds no results of a sweep; give the folder that advkit sweep --out wrote."
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({reason(error)}); is it the folder of a sweep?") from None
        if found != _FORMAT:
            raise InputError(f"{self.folder} has format {found}, this advkit reads {_FORMAT}; use a newer advkit.")
        return self

    def create(self) -> Store:
        """Make the folder a store, or check that it is one."""
        self.admit()
        if not (self.folder / "store.json").exists():
            _write_json(self.folder / "store.json", {"advkit store": _FORMAT})
        return self

    def admit(self) -> None:
        """Raise InputError where the folder is not empty and no store. Writes nothing."""
        if (self.folder / "store.json").exists():
            self.check()
            return
        # What one that was killed in its first line has left.
        ours = {_LOCK, _SOFT_LOCK, _WRITER, *(path.name for path in self.folder.glob(".store.json.*.part"))}
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder} is a file; results are kept in a folder, so give the name of one.")
        if self.folder.exists() and any(path.name not in ours for path in self.folder.iterdir()):
            raise InputError(f"{self.folder} is not empty and holds no results of a sweep; give another folder.")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the store for one writer; the lock ends with the process, however that ends.

        Where the file system keeps no locks (some NFS), a file stands for one; it outlives a writer that was killed on
        another machine.
        """
        from filelock import Timeout

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = _held(self.folder)
        except Timeout as error:
            left = ""
            if error.lock_file.endswith(_SOFT_LOCK):
                left = f" This file system keeps no locks: if no sweep runs any more, remove {error.lock_file}."
            raise InputError(
                f"another sweep{self._writer()} is writing to {self.folder}; wait until it ends, or give another folder "
                f"(--out).{left}"
            ) from None
        except OSError as error:
            raise InputError(f"the folder {self.folder} cannot be written to ({error.strerror}).") from None
        try:
            with suppress(OSError):  # it only serves a message
                (self.folder / _WRITER).write_text(f"process {os.getpid()} on {platform.node()}, since {_now()}")
            yield
        finally:
            with suppress(OSError):
                (self.folder / _WRITER).unlink(missing_ok=True)
            held.release()

    def _writer(self) -> str:
        """Who holds the lock, in brackets, as far as is known."""
        try:
            return f" ({(self.folder / _WRITER).read_text()})"
        except (OSError, ValueError):
            return ""

    def tidy(self) -> None:
        """Remove what killed writers left half written. Only for who holds the lock."""
        for place in (".*.part", "cells/*/.*.part"):
            for left in self.folder.glob(place):
                left.unlink(missing_ok=True)

    # ------------------------------------------------------------------ cells

    def add(self, *records: Record) -> None:
        """Make room for cells; one that is there already stays as it is."""
        new = [record for record in records if not (self._of(record.cell) / "cell.json").exists()]
        for record in new:
            found = {"cell": record.cell.to_json(), "about": dict(record.about)}
            # One that a power cut takes back is made again; its shards wait until its name is on the disk.
            _write_json(self._of(record.cell) / "cell.json", found, lasting=False)
        if new:
            keep_names(self.folder / "cells", self.folder)

    def remove(self, cell: Cell) -> None:
        """Forget a cell and all that is done of it. Only for who holds the lock."""
        shutil.rmtree(self._of(cell), ignore_errors=True)

    def records(self) -> list[Record]:
        """Every cell of the store, in the order of their keys. One whose cell.json cannot be read is an error."""
        try:
            names = sorted(os.listdir(self.folder / "cells"))
        except FileNotFoundError:
            return []
        folder = os.path.join(self.folder, "cells")  # texts: a Path for each of 10,000 files takes half a second
        found = (_read_record(os.path.join(folder, name, "cell.json")) for name in names)
        return [record for record in found if record is not None]

    def record(self, key: str) -> Record | None:
        """The cell with this key, if it is there."""
        return _read_record(os.path.join(self.folder, "cells", key, "cell.json"))

    # ------------------------------------------------------------------ shards

    def spans(self, cell: Cell) -> list[Span]:
        """Which examples are done. A shard that is not whole does not count."""
        return [span for span, path in self.shards(cell) if _is_whole(path, span)]

    def missing(self, cell: Cell, samples: int) -> list[Span]:
        """Which of the first ``samples`` examples are not done."""
        return gaps(self.spans(cell), samples)

    def awaited(self, cell: Cell, span: Span, patience: float) -> bool:
        """Whether a shard that another machine says it wrote is to be seen here: a shared disk may take a while."""
        path, until = os.path.join(self.folder, "cells", cell.key, _name(span)), time.monotonic() + patience
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
        folder = self._of(cell)
        if pictures:
            put_whole(folder / f"pictures-{_name(span)}", _pack_pictures(pictures))
        put_whole(folder / _name(span), _pack_facts(facts, made or {}))

    def made(self, cell: Cell) -> list[dict[str, str]]:
        """Where and by what the cell's shards were made, each way once, in the order of the data."""
        found: list[dict[str, str]] = []
        for _, path in self.shards(cell):
            unpacked = _unpack(path)
            with suppress(ValueError):
                told = parse_json(unpacked[1].get("made", "{}"), path) if unpacked else {}
                if told and told not in found:
                    found.append(told)
        return found

    def facts(self, cell: Cell, samples: int | None = None, *, begin: int = 0) -> Facts | None:
        """The facts of all examples that are done, from ``begin`` to before ``samples``; None where there are none yet.

        A shard that is not whole is left out, as if it had not been written; one that holds none of them is not read.
        """
        end = sys.maxsize if samples is None else samples
        near = [path for (first, last), path in self.shards(cell) if first < end and last > begin]
        parts = [part for path in near if (part := read_facts(path)) is not None]
        if not parts:
            return None
        facts = Facts.joined(parts)
        if len(facts) and (facts.index[0] < begin or facts.index[-1] >= end):
            facts = facts.take(np.flatnonzero((facts.index >= begin) & (facts.index < end)))
        return facts if len(facts) else None

    def pictures(self, cell: Cell) -> list[Picture]:
        """The beaten examples that were kept, in the order of the data."""
        found = [
            picture
            for path in sorted(self._of(cell).glob("pictures-*.safetensors"))
            for picture in _read_pictures(path)
        ]
        return sorted({(p.index, p.stage, p.eps): p for p in found}.values(), key=lambda p: p.index)

    def beside(self, cell: Cell, name: str) -> Path:
        """Where a file of a cell's own stands that is no shard of it."""
        return self._of(cell) / name

    def companions(self, cell: Cell) -> list[Path]:
        """The cell's files that its shards need or that say something of all of them: what was fitted, what was asked."""
        found = self._of(cell)
        return sorted(path for path in (*found.glob("fitted-*.safetensors"), found / _ASKED) if path.exists())

    def add_asked(self, cell: Cell, asked: Sequence[Asked]) -> None:
        """Keep what the model of a cell without attack was asked."""
        _write_json(self.beside(cell, _ASKED), [each.to_json() for each in asked])

    def asked(self, cell: Cell) -> tuple[Asked, ...] | None:
        """What the model of a cell without attack was asked; None where nobody asked, or the file cannot be read."""
        try:
            return tuple(Asked.from_json(each) for each in read_json(self.beside(cell, _ASKED)))
        except (OSError, ValueError, KeyError, TypeError):  # as a shard that is not whole
            return None

    def _of(self, cell: Cell) -> Path:
        return self.folder / "cells" / cell.key

    def shards(self, cell: Cell) -> list[tuple[Span, str]]:
        """Every shard there is, whole or not, with its path."""
        folder = os.path.join(self.folder, "cells", cell.key)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        matches = (_SHARD.fullmatch(name) for name in sorted(names))
        return [((int(m[1]), int(m[2])), os.path.join(folder, m[0])) for m in matches if m]

    # ------------------------------------------------------------------ the study

    def write_study(self, study: Study) -> None:
        """Remember what is wanted."""
        found = {"command": study.command, "samples": dict(study.samples), "about": dict(study.about)}
        _write_json(self.folder / "study.json", found)

    def study(self) -> Study | None:
        """What the last sweep was asked for, if there was one."""
        path = self.folder / "study.json"
        try:
            found = read_json(path)
            return Study(found["command"], found["samples"], found["about"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path} cannot be read ({reason(error)}); run the sweep again, which writes it anew."
            ) from None


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


def _read_record(path: str) -> Record | None:
    """A cell.json; None where there is no such file. One that cannot be read is an error."""
    try:
        found = read_json(path)
        return Record(Cell.from_json(found["cell"]), found["about"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UnknownFields as error:
        raise StoreError(f"{path} was written by a newer advkit ({error}); use that.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({reason(error)}); remove its folder, and the next sweep makes it anew."
        ) from None


def _name(span: Span) -> str:
    return f"{span[0]:05d}-{span[1]:05d}.safetensors"


def _write_json(path: Path, found: object, *, lasting: bool = True) -> None:
    put_whole(path, (json.dumps(found, indent=1) + "\n").encode(), lasting=lasting)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _held(folder: Path) -> Any:
    """The lock of a folder, held. Raises filelock's Timeout where another has it."""
    from filelock import FileLock, SoftFileLock

    held = FileLock(folder / _LOCK, timeout=0)
    try:
        held.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        held = SoftFileLock(folder / _SOFT_LOCK, timeout=0)
        held.acquire()
    return held


def _pack(arrays: Mapping[str, Numbers], facts: Mapping[str, str]) -> bytes:
    from safetensors.numpy import save

    digest = _digest(arrays[name] for name in sorted(arrays))
    content: bytes = save({k: np.ascontiguousarray(v) for k, v in arrays.items()}, {**facts, "digest": digest})
    return content


def _unpack(path: Path | str) -> tuple[dict[str, Numbers], dict[str, str]] | None:
    """The arrays and facts of a safetensors file; None where it is not whole.

    Read here and not by the library, which takes a file to be read twice for its facts: 10,000 shards are to be read in
    seconds.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
        size = int.from_bytes(content[:8], "little")
        header = parse_json(content[8 : 8 + size], path)
        facts = header.pop("__metadata__")
        arrays: dict[str, Numbers] = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            kind = _CODES[entry["dtype"]]
            flat = np.frombuffer(content, kind, (end - begin) // kind.itemsize, 8 + size + begin)
            arrays[name] = flat.reshape(entry["shape"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if facts.get("digest") != _digest(arrays[name] for name in sorted(arrays)):
        return None
    return arrays, facts


def _digest(arrays: Iterator[Numbers]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _is_whole(path: Path | str, span: Span) -> bool:
    """Whether a shard can be read, and holds the examples that its name says."""
    facts = read_facts(path)
    if facts is None or len(facts) != span[1] - span[0]:
        return False
    return not len(facts) or (int(facts.index[0]), int(facts.index[-1]) + 1) == span


def _pack_facts(facts: Facts, made: Mapping[str, str]) -> bytes:
    arrays: dict[str, Numbers] = {
        name: np.asarray(array, _TYPES.get(name, np.bool_))  # what a control beat has the control's name
        for name, array in facts.per_example().items()
    }
    told = {"made": json.dumps(dict(made))} if made else {}
    return _pack(arrays, {"seconds": json.dumps(facts.seconds.tolist()), **told})


def read_facts(path: Path | str) -> Facts | None:
    """The facts of a shard; None where it is not whole."""
    found = _unpack(path)
    if found is None:
        return None
    arrays, facts = found
    try:
        shape = arrays["attacked"].shape[:2]
        return Facts.of(arrays, np.asarray(parse_json(facts["seconds"], path), np.float64).reshape(shape))
    except (ValueError, KeyError, TypeError):  # the checksum is of the arrays alone
        return None


def _pack_pictures(pictures: Sequence[Picture]) -> bytes:
    arrays = {
        "x": np.stack([picture.x for picture in pictures]),
        "x_adv": np.stack([picture.x_adv for picture in pictures]),
    }
    about = [
        [picture.index, picture.label, picture.prediction, picture.stage, picture.eps, picture.distance]
        for picture in pictures
    ]
    return _pack(arrays, {"about": json.dumps(about)})


def _read_pictures(path: Path | str) -> list[Picture]:
    found = _unpack(path)
    if found is None:
        return []
    arrays, facts = found
    try:
        about: list[tuple[int, int, int, str, str, float]] = parse_json(facts["about"], path)
        return [
            Picture(*row, x=x, x_adv=x_adv) for row, x, x_adv in zip(about, arrays["x"], arrays["x_adv"], strict=True)
        ]
    except (ValueError, KeyError, TypeError):  # the checksum is of the arrays alone
        return []
