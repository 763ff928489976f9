"""Files that are never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from advkit.errors import WriteError

__all__ = ["keep_names", "put_first", "put_whole", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then rename it. Raises WriteError where the disk refuses."""
    _place(path, write, os.replace)


def put_whole(path: Path, content: bytes, *, lasting: bool = True) -> None:
    """Write a file so that neither a crash nor a power cut leaves a part of it, or takes it back once this returns.

    One that is not ``lasting`` may be gone after a power cut, which takes half the time. Raises WriteError where the disk
    refuses.
    """
    new = _missing_above(path) if lasting else []
    _place(path, lambda beside: _written(beside, content), os.replace)
    if lasting:
        keep_names(path.parent, *(made.parent for made in new))


def put_first(path: Path, content: bytes) -> bool:
    """The same, unless the file is there already, which is then left as it is; whether it was written.

    Of several that do so at once, on any machines that share the folder, one wins.
    """
    new, first = _missing_above(path), [True]
    _place(path, lambda beside: _written(beside, content), lambda *paths: first.append(_rename_to_nothing(*paths)))
    if first[-1]:
        keep_names(path.parent, *(made.parent for made in new))
    return first[-1]


def keep_names(*folders: Path) -> None:
    """Wait until the names in folders are on the disk, so that a power cut takes none of them back."""
    for folder in folders:
        with suppress(OSError):  # some file systems have nothing to wait for, and say so by an error
            place = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(place)
            finally:
                os.close(place)


def _place(path: Path, write: Callable[[Path], object], rename: Callable[[Path, Path], object]) -> None:
    # No process number: processes of two machines, or of two containers, often have the same one.
    beside = path.with_name(f".{path.name}.{uuid4().hex[:12]}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        rename(beside, path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({error.strerror or error}); nothing else was lost.") from error
    finally:
        with suppress(OSError):  # there is none where the folder is none
            beside.unlink(missing_ok=True)


def _rename_to_nothing(beside: Path, path: Path) -> bool:
    """Rename, unless the name is taken; whether it was free."""
    try:
        os.link(beside, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if path.exists():
            return False
        os.replace(beside, path)
    return True


def _written(path: Path, content: bytes) -> None:
    """Write, and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _missing_above(path: Path) -> list[Path]:
    """The folders that have to be made for a file."""
    return [folder for folder in path.parents if not folder.exists()] if not path.parent.exists() else []
