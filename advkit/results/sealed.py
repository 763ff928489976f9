"""Files of results, read: whole, or with a word about what is wrong with them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from advkit.documents import DocumentError, DocumentMissing, parse_json, read_content
from advkit.hashes import sha256
from advkit.seal import SEALS, Unsealed, holds_json

__all__ = ["Broken", "Kind", "check_beside", "content_of", "hash_like", "read_sealed"]

Kind = Literal["damaged", "altered", "missing", "foreign"]
"""Cut off, changed, or none of advkit's; whole, and another than was written; gone; of something else."""

_LARGEST = 2**36  # bytes: more than any shard has
_SHORT = 32  # digits


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
    if digest is not None and hash_like(content, digest) != digest:
        raise Broken(path, "altered", "was changed after it was written: its checksum is another")
    return content


def check_beside(folder: str, files: Mapping[str, str], read: set[tuple[str, str]]) -> None:
    """Whether files have the SHA-256 that they are named with. Raises Broken. What is in ``read`` is not read again."""
    for name, digest in files.items():
        if (name, digest) not in read:
            content_of(os.path.join(folder, name), digest)
            read.add((name, digest))


def hash_like(content: bytes, digest: str) -> str:
    """What a file is known by: its SHA-256, or the shorter hash that saved runs of before hold."""
    if len(digest) == _SHORT:
        return hashlib.blake2b(content, digest_size=16).hexdigest()
    return sha256(content)


def read_sealed(path: Path | str, digest: str | None = None) -> tuple[Any, bool]:
    """What a JSON file says, and whether a checksum covers all of it. Raises Broken where it is not what was written."""
    content = content_of(path, digest)
    try:
        covered = holds_json(content)
        found = parse_json(content, path)
        if not covered and isinstance(found, dict) and not found.keys().isdisjoint(SEALS):
            raise Unsealed  # written anew by another program, which keeps the words of the seal and not its form
        return found, covered
    except Unsealed as error:
        raise Broken(path, "damaged", str(error)) from None
    except DocumentError as error:
        raise Broken(path, "damaged", f"cannot be read: {error.why}") from None
