"""One writer for a folder of results: whoever else would write there is told who does."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from advkit.atomic import put_whole
from advkit.documents import DocumentError, read_text
from advkit.errors import InputError, WriteError

__all__ = ["LOCK_FILES", "locked"]

_LOCK, _SOFT_LOCK, _WRITER = ".lock", ".lock.held", ".writer"
LOCK_FILES = (_LOCK, _SOFT_LOCK, _WRITER)
"""What may stand in a folder because of its lock."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path, what: str, option: str = "--out", *, lasting: bool = False) -> Iterator[None]:
    """Hold a folder for one writer, which is called ``what``; the lock ends with the process, however that ends.

    Where the file system keeps no locks (some NFS), a file stands for one; it outlives a writer that was killed on another
    machine. The lock's own file stays where it is ``lasting``: many may come for it. Raises InputError where another holds
    it, or the folder cannot be written to.
    """
    from filelock import Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = _held(folder)
    except Timeout as error:
        left = ""
        if error.lock_file.endswith(_SOFT_LOCK):
            left = f" This file system keeps no locks: if no {what} runs any more, remove {error.lock_file}."
        raise InputError(
            f"another {what}{_writer(folder)} is writing to {folder}; wait until it ends, or give another folder "
            f"({option}).{left}"
        ) from None
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be written to ({error.strerror}).") from None
    try:
        with suppress(WriteError):  # it only serves a message
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            put_whole(folder / _WRITER, f"process {os.getpid()}, since {now}".encode(), lasting=False)
        yield
    finally:
        with suppress(OSError):
            (folder / _WRITER).unlink(missing_ok=True)
            if not lasting:
                (folder / _LOCK).unlink(missing_ok=True)
        held.release()


def _writer(folder: Path) -> str:
    """Who holds the lock, in brackets, as far as is known."""
    try:
        return f" ({read_text(folder / _WRITER, 1000)})"
    except DocumentError:
        return ""


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
