"""What a path names, asked before anything is opened: a pipe or a device would never end."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from advkit.errors import InputError

__all__ = ["check_path", "expanded", "file_problem", "is_folder", "kind_problem", "reason_of", "shown"]

_LONGEST_PART, _LONGEST = 255, 4000  # bytes of a name and of a path, as Linux takes them
_IN_A_SENTENCE = 200  # letters

_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "it is a folder"),
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISCHR, "it is a device"),
    (stat.S_ISBLK, "it is a device"),
)


def check_path(what: str, text: str) -> None:
    """Raise InputError for a path that no file can have."""
    if not text.strip():
        raise InputError(f"{what} is empty; give a path, or leave it out.")
    if "\0" in text:
        raise InputError(f"{what} is {shown(text)!r}, with a null character; no file has such a name.")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in text.split("/")]
    if max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST:
        raise InputError(
            f"{what} is {text[:40]}... ({len(text):,} characters); a name has at most {_LONGEST_PART} bytes, a path "
            f"{_LONGEST:,}."
        )


def file_problem(path: str | Path) -> str | None:
    """Why a path names no regular file that can be read, as the end of a sentence; None where it does."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return reason_of(error)
    return kind_problem(mode)


def kind_problem(mode: int) -> str | None:
    """The same for what is there, by its ``st_mode``."""
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


def shown(text: str | Path, most: int | None = _IN_A_SENTENCE) -> str:
    """A path, or another text of somebody else's, as a sentence can hold it: what would steer a terminal is spelled out."""
    plain = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in str(text))
    return plain if most is None or len(plain) <= most else f"{plain[:most]}... ({len(plain):,} letters)"


def reason_of(error: OSError | ValueError) -> str:
    """What the system says of a path, in words: "there is no such file", "permission denied"."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "there is no such file"
    if isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        return said[:1].lower() + said[1:]
    return "no file has a null character in its name" if "null" in str(error) else str(error)
