"""Certificates in a folder: one for each setting, named by the hash of all that decides them; files of examples in it.

DIR/certificates.json               the format's version
DIR/KEY/setting.json                what the certificates are of
DIR/KEY/00000-00016.json            the facts of these examples

A file is written beside its place and renamed, so one that exists is done, and resuming is looking. Another model, defense,
certifier, seed or data set has another KEY: nothing is mixed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from advkit.atomic import put_whole
from advkit.documents import read_json, reason
from advkit.errors import InputError
from advkit.results.cell import Numbers
from advkit.results.certificates import KINDS, Certificates
from advkit.results.store import Span, gaps

__all__ = ["CertificateStore"]

_FORMAT = 1
_PART = re.compile(r"(\d+)-(\d+)\.json")


class CertificateStore:
    """The certificates of one setting in a folder."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        self.folder, self.setting = folder, dict(setting)
        self.key = hashlib.sha256(json.dumps(self.setting, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def place(self) -> Path:
        """Where this setting's files are."""
        return self.folder / self.key

    def create(self) -> CertificateStore:
        """Make the folder. Raises InputError where it holds something else, WriteError where the disk refuses."""
        head = self.folder / "certificates.json"
        if head.exists():
            try:
                found = read_json(head)["advkit certificates"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"{head} cannot be read ({reason(error)}); give another folder.") from None
            if found != _FORMAT:
                raise InputError(f"{self.folder} has format {found}, this advkit reads {_FORMAT}; use a newer advkit.")
        elif self.folder.exists() and (not self.folder.is_dir() or self._foreign()):
            raise InputError(f"{self.folder} is not empty and holds no certificates; give another folder.")
        else:
            put_whole(head, _text({"advkit certificates": _FORMAT}))
        if not (self.place / "setting.json").exists():
            put_whole(self.place / "setting.json", _text(self.setting))
        return self

    def missing(self, samples: int) -> list[Span]:
        """Which of the first ``samples`` examples are not done."""
        return gaps([span for span, path in self._parts() if _read(path) is not None], samples)

    def write(self, facts: Certificates) -> None:
        """Keep the facts of consecutive examples."""
        begin, end = int(facts.index[0]), int(facts.index[-1]) + 1
        found = {name: getattr(facts, name).tolist() for name in KINDS} | {"seconds": facts.seconds}
        put_whole(self.place / f"{begin:05d}-{end:05d}.json", _text(found))

    def facts(self, samples: int) -> Certificates:
        """What is done of the first ``samples`` examples. A file that cannot be read counts as if it were not there."""
        found = Certificates.joined(part for _, path in self._parts() if (part := _read(path)) is not None)
        kept = found.index < samples
        return Certificates(**{name: getattr(found, name)[kept] for name in KINDS}, seconds=found.seconds)

    def _parts(self) -> list[tuple[Span, Path]]:
        if not self.place.is_dir():
            return []
        matches = [(_PART.fullmatch(path.name), path) for path in sorted(self.place.iterdir())]
        return [((int(match[1]), int(match[2])), path) for match, path in matches if match]

    def _foreign(self) -> bool:
        """Whether there is anything in the folder but what a killed first line left."""
        return any(not path.name.startswith(".certificates.json.") for path in self.folder.iterdir())


def _text(found: object) -> bytes:
    return (json.dumps(found) + "\n").encode()


def _read(path: Path) -> Certificates | None:
    """The facts of a file; None where it is not whole."""
    try:
        found = read_json(path)
        arrays: dict[str, Numbers] = {name: np.asarray(found[name], kind) for name, kind in KINDS.items()}
        facts = Certificates(**arrays, seconds=float(found["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    begin, end = map(int, path.stem.split("-"))
    whole = facts.index.tolist() == list(range(begin, end)) and {len(a) for a in arrays.values()} == {end - begin}
    return facts if whole else None
