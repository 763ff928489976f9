"""Files that tell when one of their bytes has changed: each holds a SHA-256 of all its other bytes.

A JSON file begins with ``{"sealed": 1,`` and ends with the checksum; a safetensors file has it among the facts of its header.
Whoever can write the whole file can write another checksum too: a seal tells of accidents and of careless edits. Files of
before there were seals have none, and are told apart from sealed ones that lost a part.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from advkit.documents import ordered_header
from advkit.hashes import sha256

__all__ = ["SEALS", "Unsealed", "holds_json", "holds_tensors", "sealed_json", "sealed_tensors"]

SEALS = ("sealed", "sha256")
"""The keys that a seal adds to an object."""

_HEAD = b'{"sealed": 1,'
_TAIL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n\}\n')
_TAIL_SIZE = len(',\n "sha256": ""\n}\n') + 64
_NONE = "0" * 64
_MARK = b'"sha256":"'  # as the header of a safetensors file is written: without spaces


class Unsealed(ValueError):
    """A sealed file is not what it was when it was written."""

    def __init__(self) -> None:
        super().__init__("is damaged: it was cut off, or changed after it was written")


def sealed_json(found: Mapping[str, Any], *, indent: int | None = 1) -> bytes:
    """An object as JSON with a checksum at its end. It must not be empty."""
    text = json.dumps(dict(found), indent=indent)
    body = _HEAD + text[1:-1].rstrip().encode()
    return body + f',\n "sha256": "{sha256(body)}"\n}}\n'.encode()


def holds_json(content: bytes) -> bool:
    """Whether a JSON file is sealed, and whole; False for one without a seal. Raises Unsealed for a broken one."""
    tail = _TAIL.fullmatch(content[-_TAIL_SIZE:])
    if tail is None and not content.startswith(_HEAD):
        return False
    if tail is None or tail[1].decode() != sha256(content[:-_TAIL_SIZE]):
        raise Unsealed
    return True


def sealed_tensors(save: Callable[..., bytes], arrays: Mapping[str, Any], facts: Mapping[str, str]) -> bytes:
    """What ``save`` (safetensors' own, of NumPy or torch) makes of arrays and facts, with a checksum among the facts.

    The facts stand in the order of their names, where the library shuffles them: the same content is the same file.
    """
    content: bytes = save(dict(arrays), {**facts, "sha256": _NONE})
    end = 8 + int.from_bytes(content[:8], "little")
    start = ordered_header(content[:end])
    place = start.index(_MARK + _NONE.encode()) + len(_MARK)
    digest = hashlib.sha256(start)
    digest.update(memoryview(content)[end:])
    return start[:place] + digest.hexdigest().encode() + start[place + len(_NONE) :] + content[end:]


def holds_tensors(content: bytes) -> bool:
    """Whether a safetensors file is sealed, and whole; False for one without a seal. Raises Unsealed for a broken one."""
    end = 8 + int.from_bytes(content[:8], "little")
    place = content.find(_MARK, 8, end)
    if place < 0:
        return False
    place += len(_MARK)
    digest, view = hashlib.sha256(), memoryview(content)
    for part in (view[:place], _NONE.encode(), view[place + len(_NONE) :]):
        digest.update(part)
    if content[place : place + len(_NONE)] != digest.hexdigest().encode():
        raise Unsealed
    return True
