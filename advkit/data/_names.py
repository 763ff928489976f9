"""Names of classes in a JSON file beside the pictures."""

from __future__ import annotations

from pathlib import Path

from advkit.documents import DocumentError, read_json
from advkit.errors import DataError

__all__ = ["read_listing", "read_names"]


def read_names(source: Path) -> list[str]:
    """The names of all classes: a list, or an object from index to name."""
    named = read_listing(source)
    if isinstance(named, dict) and set(named) == {str(i) for i in range(len(named))}:
        named = [named[str(i)] for i in range(len(named))]
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise DataError(f"{source} must be a list of names, or an object from every index 0, 1, 2 ... to its name.")
    return named


def read_listing(source: Path) -> object:
    """What a JSON file beside pictures holds."""
    try:
        content: object = read_json(source)
    except DocumentError as error:
        raise DataError(str(error)) from None
    return content
