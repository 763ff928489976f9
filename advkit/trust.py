"""What a text may bring to run: the one decision for every model and defense that is named by a text. Imports no torch.

Files that advkit wrote, and those that somebody sends, name models and defenses: the name of a registry or a weight file is
data, ``net.py:factory`` is code. Code runs only where the caller wrote the very same text himself: as an argument in Python,
or on the command line. A ``Trust`` holds what he wrote, and an empty one, the default everywhere, lets nothing run.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Self

from advkit.errors import InputError, Untrusted
from advkit.hashes import sha256_of_file
from advkit.paths import expanded, file_problem, shown

__all__ = ["NOTHING", "Trust", "check_code", "digest", "split_code"]


@dataclass(frozen=True)
class Trust:
    """The texts that the caller wrote himself, files by their full paths as they are found from where he is.

    ``named``: as the model or defense to be used. ``code``: as code to be trusted wherever it is named, for which a
    TorchScript archive is not looked through either. ``used``: what of the code something named, kept where they are joined.
    """

    named: frozenset[str] = frozenset()
    code: frozenset[str] = frozenset()
    used: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def of(cls, *named: str, code: tuple[str, ...] = ()) -> Self:
        """What was written, read from the current folder; of a chain ``a+b`` each part too."""
        parts = (part for text in named for part in {text, *text.split("+")})
        return cls(frozenset(map(_placed, parts)), frozenset(map(_placed, code)))

    def __or__(self, other: Trust) -> Trust:
        used = (self if self.code else other).used
        return Trust(self.named | other.named, self.code | other.code, used)

    def check(self, text: str, what: str = "code", then: str = "it was not imported") -> None:
        """Raise Untrusted for a text that the caller did not write: ``what`` it names, and what was ``then`` not done."""
        if _placed(text) in self.named or self._uses(text):
            return
        raise Untrusted(
            f"{shown(text, None)} is {what} that a file names, and not you, so {then}; if you trust it, add "
            f"--trust-code {shown(shlex.quote(_shortest(text)), None)} to the command."
        )

    def blindly(self, path: Path) -> bool:
        """Whether the caller wrote that this very file is code to be trusted."""
        return self._uses(str(path))

    def idle(self, text: str) -> bool:
        """Whether nothing was named so far that this text of code was needed for."""
        return _placed(text) not in self.used

    def _uses(self, text: str) -> bool:
        placed = _placed(text)
        self.used.update({placed} & self.code)
        return placed in self.code


NOTHING = Trust()


def split_code(text: str) -> tuple[str, bool, list[str]]:
    """``file.py:factory[:ARG...]`` or ``package.module:factory[:ARG...]``: the place, whether it is a file, and the rest."""
    head, is_file, tail = f"{text}:".partition(".py:")
    place, *rest = [f"{head}.py", *tail.split(":")] if is_file else f"{text}:".split(":")
    return place, bool(is_file), rest[:-1]


def check_code(text: str, what: str) -> None:
    """Raise InputError for a text that cannot name code: neither a file, nor a name in a Python file or module."""
    place, is_file, rest = split_code(text)
    if not rest:
        named = not is_file and file_problem(expanded(place)) is None
    else:
        named = all(rest[:1]) and (is_file or all(part.isidentifier() for part in place.split(".")))
    if "\0" in text or not named:
        raise InputError(
            f"{what} is {shown(text)!r}, which names no code; give FILE.py:NAME[:ARG...], package.module:NAME, or "
            "a TorchScript file that is there."
        )


def digest(text: str) -> str:
    """The SHA-256 of the file that a text of code names; empty where it is none. Nothing is imported to find it."""
    place, is_file, rest = split_code(text)
    path = expanded(place) if is_file or not rest else _module_file(place)
    return sha256_of_file(path) if path is not None and file_problem(path) is None else ""


def _placed(text: str) -> str:
    """The text with its file by its full path, so that two ways to write one file are one."""
    place, is_file, rest = split_code(text)
    if (not is_file and rest) or "\0" in text:
        return text
    return ":".join([os.path.realpath(expanded(place)), *rest])


def _shortest(text: str) -> str:
    """The text with its file as it can be written from the current folder."""
    place, is_file, rest = split_code(text)
    if (not is_file and rest) or "\0" in text:
        return text
    beside = os.path.relpath(os.path.realpath(expanded(place)))
    return ":".join([place if beside.startswith("..") else beside, *rest])


def _module_file(name: str) -> Path | None:
    """Where a module would be imported from."""
    path: list[str] | None = [os.getcwd(), *sys.path]
    found = None
    for part in name.split("."):
        found = PathFinder.find_spec(part, path) if path else None
        if found is None:
            return None
        path = list(found.submodule_search_locations or ())
    return None if found is None or not found.origin else Path(found.origin)
