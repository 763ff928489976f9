"""Files of results, read: whole, or with a word about what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from advkit.documents import DocumentError, DocumentMissing, parse_json, read_content
from advkit.seal import Unsealed, holds_json, sha256

__all__ = ["Broken", "Kind", "content_of", "read_sealed"]

Kind = Literal["damaged", "altered", "missing", "foreign", "unfinished"]
"""Cut off, or none of advkit's; changed after it was written; gone; of something else; left by a run that was killed."""

_LARGEST = 2**36  # bytes: more than any shard has


class Broken(Exception):
    """A file is not what it should be: which, in what way, and in words that follow its name."""

    def __init__(self, path: Path | str, kind: Kind, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path, self.kind, self.what = Path(path), kind, what


def content_of(path: Path | str, digest: str | None = None) -> bytes:
    """A file's bytes, which must have this SHA-256 where one is given. Raises Broken."""
    try:
        content = read_content(path, _LARGEST)
    except DocumentMissing:
        raise Broken(path, "missing", "is missing") from None
    except DocumentError as error:
        raise Broken(path, "damaged", f"cannot be read: {error.why}") from None
    if digest is not None and sha256(content) != digest:
        raise Broken(path, "altered", "was changed after it was written: its checksum is another")
    return content


def read_sealed(path: Path | str, digest: str | None = None) -> tuple[Any, bool]:
    """What a JSON file says, and whether a checksum covers all of it. Raises Broken where it is not what was written."""
    content = content_of(path, digest)
    try:
        covered = holds_json(content)
        return parse_json(content, path), covered
    except Unsealed as error:
        raise Broken(path, "damaged", str(error)) from None
    except DocumentError as error:
        raise Broken(path, "damaged", f"cannot be read: {error.why}") from None
