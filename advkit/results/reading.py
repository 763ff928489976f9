"""A store as those read it who show it: what does not hold is refused, with the file and the cell. No torch.

To a sweep a shard that is not whole is one that is still to be made, so that ``Store`` leaves it out. A table that left it out
would say something else than what was measured, without a word.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from advkit.errors import StoreError
from advkit.results.asked import Asked
from advkit.results.cell import Cell, Facts, Picture
from advkit.results.manifest import Manifest
from advkit.results.sealed import Broken, check_beside
from advkit.results.shard import Shard, Span, read_pictures, read_shard
from advkit.results.store import Record, Store, Study, in_order, joined, read_asked

__all__ = ["CellFacts", "Reading"]

_PICTURES = "pictures-"


@dataclass(frozen=True)
class CellFacts:
    """The facts of a cell, what its model was asked, and whether checksums cover all of it."""

    facts: Facts
    asked: tuple[Asked, ...] | None = None
    covered: bool = True


class Reading:
    """Reads the store in a folder, and raises StoreError at what does not hold."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder).check()

    @cached_property
    def manifest(self) -> Manifest:
        """What is finished."""
        return self.store.manifest()

    def study(self) -> Study | None:
        """What the last sweep asked for, if there was one."""
        found = self.store.study()
        if found is None and self.manifest.study:
            path = self.store.folder / "study.json"
            raise StoreError(
                f"{path} is missing: it says what the sweep asked for; run the sweep again, which writes it anew."
            )
        return found

    def records(self, study: Study | None = None) -> list[Record]:
        """Every cell of the store; those that the study asks for must be there."""
        found = self.store.records()
        gone = study.samples.keys() - {record.cell.key for record in found} if study and self.manifest.covers else ()
        for key in sorted(gone):
            path = self.store.folder / "cells" / key
            raise StoreError(
                f"{path / 'cell.json'} is missing, and the sweep asked for this cell; run the sweep again."
            )
        return found

    def facts(self, cell: Cell, samples: int | None = None) -> CellFacts | None:
        """What is done of the first ``samples`` examples; None where there is nothing yet."""
        folder = self._folder(cell)
        with self._refusing(cell):
            names = self._names(cell, folder)
            end = sys.maxsize if samples is None else samples
            near = [(span, path) for span, path in self.store.shards_among(cell, names) if span[0] < end]
            read = set[tuple[str, str]]()
            shards = [self._shard(cell, span, path, names, read) for span, path in near]
            facts = joined([shard.facts for shard in shards], 0, end)
            if facts is None:
                return None
            covered = all(shard.covered for shard in shards)
            if cell.stages or "asked.json" not in names:
                return CellFacts(facts, None, covered)
            asked, sealed = read_asked(os.path.join(folder, "asked.json"))
            return CellFacts(facts, asked, covered and sealed)

    def spans(self, cell: Cell) -> list[Span]:
        """Which examples are done."""
        folder = self._folder(cell)
        with self._refusing(cell):
            names = self._names(cell, folder)
            shards, read = self.store.shards_among(cell, names), set[tuple[str, str]]()
            for span, path in shards:
                self._shard(cell, span, path, names, read)
            return [span for span, _ in shards]

    def pictures(self, cell: Cell) -> list[Picture]:
        """The beaten examples that were kept, in the order of the data."""
        folder, found = self._folder(cell), list[Picture]()
        with self._refusing(cell):
            names = self._names(cell, folder)
            for span, path in self.store.shards_among(cell, names):
                shard, own = read_shard(path, cell, span), f"{_PICTURES}{os.path.basename(path)}"
                if own in shard.files or (not shard.covered and own in names):
                    found += read_pictures(os.path.join(folder, own), shard.files.get(own))
        return in_order(found)

    def _folder(self, cell: Cell) -> str:
        return os.path.join(self.store.folder, "cells", cell.key)

    def _names(self, cell: Cell, folder: str) -> list[str]:
        """The files of a cell; those that the manifest names must be there."""
        names: list[str] = []
        with suppress(FileNotFoundError):
            names = os.listdir(folder)
        for lacking in self.manifest.lacking(cell.key, names):
            raise Broken(os.path.join(folder, lacking), "missing", "is missing")
        return names

    def _shard(self, cell: Cell, span: Span, path: str, names: list[str], read: set[tuple[str, str]]) -> Shard:
        """A shard, whose pictures are there, and whose other files are what they were."""
        shard, folder = read_shard(path, cell, span), os.path.dirname(path)
        if not shard.covered and cell.key in self.manifest.parts:
            raise Broken(path, "altered", "is an older advkit's, and not the one that was finished here")
        for name in shard.files.keys() - set(names):
            raise Broken(os.path.join(folder, name), "missing", "is missing")
        others = {name: digest for name, digest in shard.files.items() if not name.startswith(_PICTURES)}
        check_beside(folder, others, read)
        return shard

    @contextmanager
    def _refusing(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except Broken as error:
            raise StoreError(
                f"{error} (cell {cell.key[:8]}, {cell.title}); the same sweep makes it anew, and advkit results check "
                f"{self.store.folder} names all that does not hold."
            ) from None
