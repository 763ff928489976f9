"""The only place that parses JSON and TOML: whatever a file holds, its value comes back, or one sentence.

A document may have been cut off, altered or made to harm. It is read from a regular file alone, of at most ``LARGEST_JSON``
or ``LARGEST_TOML`` bytes, nested at most ``DEEPEST`` levels deep, its whole numbers within 64 bits and its texts in UTF-8 (a
mark at the beginning is passed over); no object says a key twice. NaN and Infinity are read as Python writes them: advkit's
own results hold a score that is no number as NaN. Whoever reads a setting refuses them there.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from advkit.errors import InputError
from advkit.paths import kind_problem, reason_of, shown

__all__ = [
    "DEEPEST",
    "LARGEST_JSON",
    "LARGEST_TOML",
    "MISFIT",
    "DocumentError",
    "DocumentMissing",
    "ordered_header",
    "parse_json",
    "parse_toml",
    "read_content",
    "read_json",
    "read_text",
    "read_toml",
    "reason",
]

LARGEST_JSON = 256 * 2**20  # the facts of 100,000 examples under 100 attacks take some 50 MB
LARGEST_TOML = 2**20  # studies and recipes are written by hand
DEEPEST = 64  # advkit's own documents have up to 9 levels
MISFIT = (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What is raised where the values of a document are taken for what they are not: of another kind, too large, not there."""

_INTEGERS = range(-(2**63), 2**63)  # what arrays hold
# tomllib's time grows with the square of the parts of a dotted key
_DOTTED = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""", re.ASCII)


class DocumentError(InputError):
    """A document cannot be read; ``why`` says so without its name, as the end of a sentence."""

    def __init__(self, source: object, why: str) -> None:
        self.why = why
        super().__init__(f"{source} cannot be read: {why}.")


class DocumentMissing(DocumentError, FileNotFoundError):
    """There is no such file."""


def reason(error: BaseException) -> str:
    """Why something cannot be read, to be put into a caller's own sentence."""
    return error.why if isinstance(error, DocumentError) else str(error)


def read_json(path: str | Path) -> Any:
    """What a JSON file holds. Raises DocumentError, or DocumentMissing where there is none."""
    return parse_json(read_content(path, LARGEST_JSON), path)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises DocumentError, or DocumentMissing where there is none."""
    return parse_toml(read_text(path), path)


def read_text(path: str | Path, most: int = LARGEST_TOML) -> str:
    """The text of a file in UTF-8, without a mark at its beginning."""
    return _decoded(read_content(path, most), path)


def read_content(path: str | Path, most: int) -> bytes:
    """The bytes of a regular file that has at most ``most`` of them. Never waits, as a pipe would have it."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        try:
            kind = os.fstat(handle)
            if problem := kind_problem(kind.st_mode):
                raise DocumentError(path, f"{problem}, not a file")
            content = _bounded(handle, most) if kind.st_size <= most else None
        finally:
            os.close(handle)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DocumentMissing(path, reason_of(error)) from error
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise DocumentError(shown(path), reason_of(error)) from error
    if content is None:
        raise DocumentError(path, f"it has over {most // 2**20} MiB, the most that is read of such a file")
    return content


def parse_json(text: str | bytes, source: object) -> Any:
    """What a JSON text says. Raises DocumentError, which names ``source``."""
    if len(text) > LARGEST_JSON:
        raise DocumentError(source, f"it has over {LARGEST_JSON // 2**20} MiB, the most that is read of such a text")
    text = _decoded(text, source) if isinstance(text, bytes) else text
    try:
        found = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        _not_json(text, source, error)
    except _Twice as error:
        raise DocumentError(source, f"it says {str(error)[:80]!r} twice in one object") from None
    except RecursionError:
        raise DocumentError(source, _TOO_DEEP) from None
    except ValueError:  # Python refuses to read whole numbers of over 4,300 digits
        raise DocumentError(source, _TOO_LONG) from None
    _check(found, source)
    if "\\ud" in text or "\\uD" in text:
        with suppress(UnicodeEncodeError):
            json.dumps(found, ensure_ascii=False).encode()
            return found
        raise DocumentError(source, "it holds half a character (a lone surrogate)")
    return found


def ordered_header(content: bytes) -> bytes:
    """A safetensors file, or its beginning up to the tensors, with its facts in the order of their names.

    The library writes them in an order that it draws anew each time, so that equal weights would give unequal files.
    """
    size = int.from_bytes(content[:8], "little")
    header = parse_json(content[8 : 8 + size], "the header")
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def parse_toml(text: str, source: object) -> dict[str, Any]:
    """The tables of a TOML text. Raises DocumentError, which names ``source``."""
    if len(text) > LARGEST_TOML:
        raise DocumentError(source, f"it has over {LARGEST_TOML // 2**20} MiB, the most that is read of such a text")
    if _DOTTED.search(text):
        raise DocumentError(source, f"it has a key of over {DEEPEST} parts")
    try:
        found = tomllib.loads(text.replace("\r\n", "\n").replace("\r", "\n"))
    except tomllib.TOMLDecodeError as error:
        raise DocumentError(source, f"it is not TOML: {error}") from None
    except RecursionError:
        raise DocumentError(source, _TOO_DEEP) from None
    except ValueError as error:  # whole numbers of over 4,300 digits, and days that no calendar has
        raise DocumentError(source, _TOO_LONG if "digits" in str(error) else f"it is not TOML: {error}") from None
    _check(found, source)
    return found


_TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"
_TOO_LONG = "it holds a whole number of more than 64 bits"


class _Twice(Exception):
    """An object says a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _bounded(handle: int, most: int) -> bytes | None:
    """All of a file, or None if that is over ``most`` bytes: what the system lists as of no size may be endless."""
    parts, size = [], 0
    while size <= most and (part := os.read(handle, 2**24)):
        parts.append(part)
        size += len(part)
    return b"".join(parts) if size <= most else None


def _decoded(content: bytes, source: object) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(source, f"it is not a text in UTF-8 (byte {error.start})") from None


def _not_json(text: str, source: object, error: json.JSONDecodeError) -> NoReturn:
    if not text.strip():
        raise DocumentError(source, "it is empty") from None
    place = f"line {error.lineno}, column {error.colno}"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        raise DocumentError(source, f"it is cut off at {place}") from None
    raise DocumentError(source, f"it is not JSON: {error.msg} at {place}") from None


def _check(found: object, source: object) -> None:
    """Refuse what is nested too deep, and whole numbers that no array holds."""
    level = [found]
    for _ in range(DEEPEST):
        inner: list[object] = []
        for value in level:
            parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
            kinds = set(map(type, parts))
            if int in kinds and not all(part in _INTEGERS for part in parts if type(part) is int):
                raise DocumentError(source, _TOO_LONG)
            if dict in kinds or list in kinds:
                inner += [part for part in parts if isinstance(part, dict | list)]
        level = inner
        if not level:
            return
    raise DocumentError(source, _TOO_DEEP)
