"""What a path names, asked before anything is opened: a pipe or a device would never end."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = ["expanded", "file_problem", "is_folder", "reason_of", "shown"]

_LONGEST = 200  # letters of a path in a sentence

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


def file_problem(path: str | Path) -> str | None:
    """Why a path names no regular file that can be read, as the end of a sentence; None where it does."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return reason_of(error)
    if stat.S_ISREG(mode):
        return None
    return next((told for is_kind, told in _KINDS if is_kind(mode)), "it is no regular file")


def is_folder(path: str | Path) -> bool:
    """Whether a path names a folder; False for one that names nothing, whatever it holds."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def expanded(path: str | Path) -> Path:
    """The path with the user's folder for ``~``; as it is where there is no such user."""
    return Path(os.path.expanduser(path))


def shown(path: str | Path) -> str:
    """A path as a sentence can hold it."""
    text = str(path).replace("\0", "\\0")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} letters)"


def reason_of(error: OSError | ValueError) -> str:
    """What the system says of a path, in words: "there is no such file", "permission denied"."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return said[:1].lower() + said[1:]
    return "a path holds no NUL character" if "null" in str(error) else str(error)
