"""Names of classes in a JSON file beside the pictures."""

from __future__ import annotations

import json
from pathlib import Path

from advkit.errors import DataError

__all__ = ["read_json", "read_names"]


def read_names(source: Path) -> list[str]:
    """The names of all classes: a list, or an object from index to name."""
    named = read_json(source)
    if isinstance(named, dict) and set(named) == {str(i) for i in range(len(named))}:
        named = [named[str(i)] for i in range(len(named))]
    if not isinstance(named, list) or not named or not all(isinstance(name, str) for name in named):
        raise DataError(f"{source} must be a list of names, or an object from every index 0, 1, 2 ... to its name.")
    return named


def read_json(source: Path) -> object:
    """What a JSON file holds."""
    try:
        content: object = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{source} cannot be read as JSON: {error}.") from error
    return content
