"""The only place that reads arrays from ``.npz`` files: nothing is unpickled, and nothing allocated on a header's word."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from advkit.errors import DataError
from advkit.paths import file_problem, shown

__all__ = ["free_memory", "read_arrays"]

_Array = NDArray[Any]
_SHARE = 0.5  # of the free memory: what works on the arrays needs some too
_LARGE = 2**30  # bytes, from which on how well an array was compressed says something
_RATIO = 200  # no photographs and no weights are compressed so well: the most that deflate can do is about 1,000
_PART = 2**22  # bytes read at a time
_HEAD = 2**16  # bytes: no header of an array is longer


def read_arrays(path: str | Path, names: Iterable[str], what: str = "file") -> tuple[dict[str, _Array], list[str]]:
    """Those of the arrays ``names`` that an ``.npz`` file holds, and the names of all that it holds.

    ``what`` is the file's role, for errors. Raises DataError for a file that is none, for arrays of Python objects, for
    headers that do not belong to what follows them, and for what would not fit into memory.
    """
    if problem := file_problem(path):
        raise DataError(f"the {what} {shown(path)} cannot be read as an .npz file: {problem}.")
    try:
        with zipfile.ZipFile(path) as archive:
            held = _members(path, archive)
            return {name: _array(path, name, archive, held[name]) for name in names if name in held}, list(held)
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise whatever they meet in a damaged file
        if isinstance(error, zipfile.BadZipFile) and _is_array(path):
            raise DataError(
                f"{path} holds a single array; save two with numpy.savez(path, x=pictures, y=labels)."
            ) from None
        reason = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"the {what} {path} cannot be read as an .npz file: {reason}.") from error


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    found = []
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    with suppress(OSError, ValueError):  # a container's own limit
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    with suppress(ImportError, OSError, ValueError):  # ulimit -v
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            found.append(limit - taken)
    return max(0, min(found)) if found else None


def _members(path: str | Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The arrays of an archive by name."""
    held: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name in held:
            raise DataError(f"{path} holds the array {name} twice, and which one counts cannot be told; save it again.")
        held[name] = member
    return held


def _array(path: str | Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Array:
    with archive.open(member) as source:
        shape, fortran, dtype = _head(path, name, source)
        if dtype.hasobject:
            raise DataError(
                f"{path}: {name} holds Python objects, which are not loaded because loading them could run code; "
                f"save {name} as an array of text or numbers, of one shape."
            )
        length = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or source.tell() + length != member.file_size:
            raise DataError(
                f"{path}: {name} says that it is {dtype} of shape {shape}, {_size(length)}, and what follows is "
                f"{_size(member.file_size - source.tell())}; the file is damaged: save it again."
            )
        _check_room(path, name, length, member)
        array = np.empty(shape, dtype, order="F" if fortran else "C")
        _fill(array.reshape(-1, order="A").view(np.uint8).data if length else memoryview(b""), source)
    return array


def _head(path: str | Path, name: str, source: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """What the header of an array says: shape, whether it is in Fortran's order, and type."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(source)
        return readers[version](source, max_header_size=_HEAD)
    except Exception as error:  # the header is a text of Python's, and is parsed by Python
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataError(f"{path}: the header of {name} cannot be read ({reason}); save it again.") from error


def _check_room(path: str | Path, name: str, length: int, member: zipfile.ZipInfo) -> None:
    """Refuse what would fill the memory, and what was compressed better than any data are."""
    room = free_memory()
    if room is not None and length > _SHARE * room:
        raise DataError(
            f"{path}: {name} unpacks to {_size(length)}, and of {_size(room)} of free memory at most half is used for it; "
            "give a part of it, or a folder of picture files, which are read as they are needed."
        )
    if length > _LARGE and length > _RATIO * max(1, member.compress_size):
        raise DataError(
            f"{path}: {name} unpacks from {_size(member.compress_size)} to {_size(length)}, as no pictures do; "
            "save it without compression (numpy.savez) if it is meant so."
        )


def _fill(target: memoryview, source: IO[bytes]) -> None:
    """Read into ``target`` to its end, in parts; then to the end of the member, where its checksum is compared."""
    at = 0
    while at < len(target):
        part = source.read(min(_PART, len(target) - at))
        if not part:
            raise EOFError("it ends in the middle of an array")
        target[at : at + len(part)] = part
        at += len(part)
    source.read(1)


def _is_array(path: str | Path) -> bool:
    with Path(path).open("rb") as source:
        return source.read(6) == b"\x93NUMPY"


def _size(length: int) -> str:
    """Bytes in words: 12.1 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if abs(length) >= unit:
            return f"{length / unit:,.1f} {name}"
    return f"{length:,} bytes"
