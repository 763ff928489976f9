"""What was finished in a folder of results: every file of it, by SHA-256.

Of a sweep's store, ``manifest.json`` says it of each cell that is complete. It is written by whoever holds the store's lock: a
cell that is worked on again is taken out before its first file changes, and entered again when it is complete. So a sweep that
is killed leaves cells that are in no manifest, which are unfinished, and never one that the manifest speaks of falsely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from advkit.documents import MISFIT
from advkit.errors import StoreError
from advkit.hashes import sha256_of_file
from advkit.results.sealed import Broken, content_of, read_sealed
from advkit.seal import sealed_json

__all__ = ["MANIFEST", "Manifest", "check_files", "hashes_of"]

MANIFEST = "manifest.json"

Files = Mapping[str, str]
"""Names of files, with their SHA-256."""


@dataclass(frozen=True)
class Manifest:
    """The files of each finished part, by the part's name; ``study``: whether a study says what is wanted."""

    parts: Mapping[str, Files] = field(default_factory=dict)
    study: bool = False
    covers: bool = True  # False: of a store of before, which has none

    def without(self, names: Iterable[str]) -> Manifest:
        """The same, but for parts that are worked on."""
        gone = set(names)
        return replace(self, parts={name: files for name, files in self.parts.items() if name not in gone})

    def lacking(self, part: str, present: Iterable[str]) -> list[str]:
        """Files of a part that are not among those present."""
        return sorted(self.parts.get(part, {}).keys() - set(present))

    def content(self) -> bytes:
        """As a file."""
        return sealed_json({"study": self.study, "parts": {name: dict(files) for name, files in self.parts.items()}})

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """The manifest in a file; None where there is none. Raises StoreError where it is not whole."""
        try:
            found, covered = read_sealed(path)
            if not covered:
                raise Broken(path, "altered", "has lost its checksum")
            parts = {str(part): dict(files) for part, files in found["parts"].items()}
            # What does not hold is removed and made anew: nothing elsewhere may be named here.
            if any(Path(name).name != name for files in (parts, *parts.values()) for name in files):
                raise Broken(path, "altered", "names files outside of its folder")
            return cls(parts, bool(found["study"]))
        except Broken as error:
            if error.kind == "missing":
                return None
            raise StoreError(f"{error}; run the sweep again, which makes a new one.") from None
        except MISFIT:
            raise StoreError(f"{path} is none of advkit's.") from None


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of files."""
    return {name: sha256_of_file(folder / name) for name in sorted(names)}


def check_files(folder: Path, files: Mapping[str, Any]) -> list[Broken]:
    """Which files are missing, or not what they were."""
    found = []
    for name, digest in files.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            found.append(Broken(folder / name, "foreign", f"is not in {folder}"))
            continue
        try:
            content_of(folder / name, str(digest))
        except Broken as error:
            found.append(error)
    return found
