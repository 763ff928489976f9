"""What a content is known by: its SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["sha256", "sha256_of_file"]


def sha256(content: bytes | str) -> str:
    """Of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def sha256_of_file(path: str | Path) -> str:
    """Of a file, which is read in parts."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
