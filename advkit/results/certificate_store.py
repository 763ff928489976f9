"""Certificates in a folder: one for each setting, named by the hash of all that decides them; files of examples in it.

DIR/certificates.json               the format's version
DIR/KEY/setting.json                what the certificates are of
DIR/KEY/00000-00016.json            the facts of these examples; names its KEY and the examples
DIR/KEY/manifest.json               once all that were asked for are done: every file by SHA-256

A file is written beside its place and renamed, so one that exists is done, and resuming is looking. Another model, defense,
certifier, seed or data set has another KEY: nothing is mixed. Every file holds a checksum of itself (``advkit.seal``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from advkit.atomic import put_whole
from advkit.documents import MISFIT
from advkit.errors import InputError
from advkit.hashes import sha256
from advkit.results.cell import Numbers
from advkit.results.certificates import KINDS, Certificates
from advkit.results.lock import LOCK_FILES
from advkit.results.manifest import MANIFEST, Manifest, hashes_of
from advkit.results.sealed import Broken, read_sealed
from advkit.results.store import Span, gaps
from advkit.seal import sealed_json

__all__ = ["CertificateStore", "check_setting", "parts_of", "read_part"]

_FORMAT = 2
_UNSEALED = 1  # the format of before, without checksums
_PART = re.compile(r"(\d+)-(\d+)\.json")


class CertificateStore:
    """The certificates of one setting in a folder."""

    def __init__(self, folder: Path, setting: Mapping[str, Any]) -> None:
        self.folder, self.setting = folder, dict(setting)
        self.key = _key(self.setting)

    @property
    def place(self) -> Path:
        """Where this setting's files are."""
        return self.folder / self.key

    def create(self) -> CertificateStore:
        """Make the folder. Raises InputError where it holds something else, WriteError where the disk refuses."""
        head = self.folder / "certificates.json"
        if head.exists():
            try:
                found = read_sealed(head)[0]["advkit certificates"]
            except Broken as error:
                raise InputError(f"{error}; give another folder.") from None
            except MISFIT:
                raise InputError(f"{head} is none of advkit's; give another folder.") from None
            if found not in (_UNSEALED, _FORMAT):
                raise InputError(f"{self.folder} has format {found}, this advkit reads {_FORMAT}; use a newer advkit.")
        elif self.folder.exists() and (not self.folder.is_dir() or self._foreign()):
            raise InputError(f"{self.folder} is not empty and holds no certificates; give another folder.")
        else:
            put_whole(head, sealed_json({"advkit certificates": _FORMAT}))
        try:
            check_setting(self.place)
        except Broken:  # there is none yet, or it is damaged
            put_whole(self.place / "setting.json", sealed_json({"setting": self.setting}))
        return self

    def begin(self, samples: int) -> None:
        """Make ready to go on: what does not hold is removed, to be made anew. What is worked on has no manifest."""
        bad = [path for span, path in parts_of(self.place) if _whole(path, self.key, span) is None]
        if bad or self.missing(samples):
            (self.place / MANIFEST).unlink(missing_ok=True)
        for path in bad:
            path.unlink(missing_ok=True)

    def finish(self) -> None:
        """Say of every file what it is, now that all are there."""
        if not (self.place / MANIFEST).exists():
            names = ["setting.json", *(path.name for _, path in parts_of(self.place))]
            put_whole(self.place / MANIFEST, Manifest({self.key: hashes_of(self.place, names)}).content())

    def missing(self, samples: int) -> list[Span]:
        """Which of the first ``samples`` examples are not done."""
        return gaps([span for span, path in parts_of(self.place) if _whole(path, self.key, span) is not None], samples)

    def write(self, facts: Certificates) -> None:
        """Keep the facts of consecutive examples."""
        begin, end = int(facts.index[0]), int(facts.index[-1]) + 1
        found = {name: getattr(facts, name).tolist() for name in KINDS} | {"seconds": facts.seconds}
        of = {"of": self.key, "examples": [begin, end]}
        put_whole(self.place / f"{begin:05d}-{end:05d}.json", sealed_json({**of, **found}, indent=None))

    def facts(self, samples: int) -> Certificates:
        """What is done of the first ``samples`` examples. A file that cannot be read counts as if it were not there."""
        found = Certificates.joined(
            part for span, path in parts_of(self.place) if (part := _whole(path, self.key, span)) is not None
        )
        kept = found.index < samples
        return Certificates(**{name: getattr(found, name)[kept] for name in KINDS}, seconds=found.seconds)

    def _foreign(self) -> bool:
        """Whether there is anything in the folder but what a killed first line left."""
        names = (path.name for path in self.folder.iterdir())
        return any(name not in LOCK_FILES and not name.startswith(".certificates.json.") for name in names)


def parts_of(place: Path) -> list[tuple[Span, Path]]:
    """Every file of certificates in the folder of a setting, whole or not, with the examples that its name says."""
    if not place.is_dir():
        return []
    matches = [(_PART.fullmatch(path.name), path) for path in sorted(place.iterdir())]
    return [((int(match[1]), int(match[2])), path) for match, path in matches if match]


def check_setting(place: Path) -> bool:
    """Whether a checksum covers the setting of a folder, which must be the one it is named by. Raises Broken."""
    path = place / "setting.json"
    found, covered = read_sealed(path)
    if not isinstance(found, dict) or _key(found.get("setting", {}) if covered else found) != place.name:
        raise Broken(path, "foreign", "is that of other certificates")
    return covered


def read_part(path: Path, key: str, span: Span) -> tuple[Certificates, bool]:
    """The certificates in a file, and whether a checksum covers it. Raises Broken where they are of something else."""
    found, covered = read_sealed(path)
    try:
        arrays: dict[str, Numbers] = {name: np.asarray(found[name], kind) for name, kind in KINDS.items()}
        facts = Certificates(**arrays, seconds=float(found["seconds"]))
        if covered and (found["of"], tuple(found["examples"])) != (key, span):
            raise Broken(path, "foreign", f"is that of other certificates, {found['of']}, or of other examples")
    except MISFIT:
        raise Broken(path, "damaged", "is damaged: it holds no certificates") from None
    if facts.index.tolist() != list(range(*span)) or {len(a) for a in arrays.values()} != {span[1] - span[0]}:
        raise Broken(path, "foreign", "holds other examples than its name says")
    return facts, covered


def _whole(path: Path, key: str, span: Span) -> Certificates | None:
    """The facts of a file; None where it is not whole."""
    try:
        return read_part(path, key, span)[0]
    except Broken:
        return None


def _key(setting: Mapping[str, Any]) -> str:
    return sha256(json.dumps(dict(setting), sort_keys=True))[:20]
