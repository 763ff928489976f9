"""Every exception that advkit raises on purpose.

AdvkitError
├── InputError            (also a ValueError) what the caller gave cannot be used; the CLI prints it and exits with 2
│   ├── UnknownName       no such attack, backbone, data set ...; names the nearest
│   ├── MissingExtra      an optional package is not installed; names the extra
│   ├── ModelError        the model or its weights do not fit the data
│   ├── DataError         pictures or labels cannot be used
│   ├── StoreError        a file of a sweep's store cannot be read
│   ├── Untrusted         a file names code that the caller did not name
│   └── WriteError        the disk refused a file
├── PassError             the caller's model raised or answered nonsense while it was being attacked
└── ThreatViolation       an attack returned a point outside its ball: a bug in the attack, never the user's fault
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AdvkitError",
    "DataError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "PassError",
    "StoreError",
    "ThreatViolation",
    "UnknownName",
    "Untrusted",
    "WriteError",
    "first_line",
    "nearest",
]


_MOST_NAMES = 20  # in one sentence


class AdvkitError(Exception):
    """Root of the tree: everything that advkit raises on purpose."""


class InputError(AdvkitError, ValueError):
    """What the caller gave cannot be used: says what was given, what is allowed, what to do."""


class UnknownName(InputError):
    """A name that no registry holds."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        article = "an" if kind[0] in "aeiou" else "a"
        shown = ", ".join(names)
        if len(names) > _MOST_NAMES:
            alike = difflib.get_close_matches(name.lower(), names, n=_MOST_NAMES, cutoff=0.5) or names[:_MOST_NAMES]
            shown = f"{', '.join(alike)} ... ({len(names)} in all: advkit list {kind.replace(' ', '')}s)"
        super().__init__(f"{name!r} is not the name of {article} {kind}.{nearest(name, names)} Known: {shown}.")


class Untrusted(InputError):
    """A file names code, and the caller did not name the same: it was not run."""


class MissingExtra(InputError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'advkit[{extra}]'.")


class ModelError(InputError):
    """The model or its weights do not fit."""


class DataError(InputError):
    """Pictures or labels cannot be used."""


class StoreError(InputError):
    """A file of a sweep's store cannot be read."""


class WriteError(InputError):
    """The disk refused a file: it is full, or read-only."""


class PassError(AdvkitError):
    """The caller's model answered with something that is not a row of finite scores per example."""


class ThreatViolation(AdvkitError):
    """An attack returned a point outside its ball; the run is invalid."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence " Did you mean 'pgd'?" where a known name is close, else nothing."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def first_line(error: BaseException, *, typed: bool = False) -> str:
    """What another's error says, in one line without a full stop, its type before it if ``typed``; the type if it is silent."""
    said, kind = str(error).strip().partition("\n")[0].strip().rstrip("."), type(error).__name__
    return f"{kind}: {said}" if said and typed else said or kind
