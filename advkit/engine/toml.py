"""Writing TOML; the standard library only reads it. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

__all__ = ["toml_table", "toml_value"]


def toml_table(head: str, rows: Mapping[str, object]) -> str:
    """A table with its head, such as ``[study]``; what is None is left out."""
    lines = [f"{_key(key)} = {toml_value(value)}" for key, value in rows.items() if value is not None]
    return "\n".join([head, *lines, ""])


def toml_value(value: object) -> str:
    """Texts, numbers, truths, and lists and tables of them. None, which TOML lacks, is the text that settings read as it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {toml_value(inner)}' for key, inner in value.items())} }}"
    if isinstance(value, Iterable):
        return f"[{', '.join(map(toml_value, value))}]"
    return '"none"' if value is None else str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else toml_value(key)
