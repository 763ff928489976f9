"""What leaves the machine in stores, reports and messages: no passwords, and no names of users and hosts unasked.

Passwords in addresses (``mlflow:http://user:password@host``) are replaced wherever words of a command line are kept or
printed. Paths in the user's home folder are kept as ``~/...``, by which they are found again here and say nothing of who it
is; the names of hosts are left out. Where ``ADVKIT_RECORD`` holds the word ``paths`` or ``host``, these are kept as they are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["host", "kept_path", "kept_words", "redacted", "safe_cell"]

_NUMBERS = re.compile(r"[-+][\d\s.,\[\]%±/e+-]*")
_PASSWORD = re.compile(r"(?<=://)[^\s/@'\"]+@")


def redacted(text: str) -> str:
    """A text without the user names and passwords of addresses in it."""
    return _PASSWORD.sub("***@", text)


def kept_path(path: Path | str) -> str:
    """A path as it is kept: in the user's home folder, from there."""
    text, home = str(path), _home()
    return f"~{text[len(home) :]}" if home and (text == home or text.startswith(f"{home}/")) else text


def kept_words(text: str) -> str:
    """A word or a longer text as it is kept, or shown to others."""
    text, home = redacted(text), _home()
    return re.sub(rf"(?<![\w./-]){re.escape(home)}(?=/|\b)", "~", text) if home else text


def host(name: str) -> dict[str, str]:
    """The fact that names a host, where that is asked for."""
    return {"node": name} if _is_asked_for("host") else {}


def safe_cell(value: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula: a text that begins like one has an apostrophe before it.

    What is a number, with its interval perhaps, stays as it is. Who reads the text back takes the apostrophe off.
    """
    if not isinstance(value, str) or value[:1] not in tuple("=+-@\t\r") or _NUMBERS.fullmatch(value):
        return value
    return f"'{value}"


def _home() -> str:
    """The user's home folder where paths in it are kept from there, else nothing; the root is no home."""
    return "" if _is_asked_for("paths") else os.path.expanduser("~").rstrip("/")


def _is_asked_for(word: str) -> bool:
    return word in re.split(r"[\s,]+", os.environ.get("ADVKIT_RECORD", ""))
