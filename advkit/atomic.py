"""Files that are never half written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from advkit.errors import WriteError

__all__ = ["put_whole", "write_whole"]


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a file beside ``path``, then rename it. Raises WriteError where the disk refuses."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written ({error.strerror or error}); nothing else was lost.") from error
    finally:
        with suppress(OSError):  # there is none where the folder is none
            beside.unlink(missing_ok=True)


def put_whole(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk, then rename it. Raises WriteError where the disk refuses."""

    def write(beside: Path) -> None:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    write_whole(path, write)
