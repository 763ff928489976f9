"""One store from several: cells are named by what decides their numbers, so what is not there yet can be copied. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from advkit.atomic import put_whole
from advkit.errors import InputError, StoreError
from advkit.results.cell import Cell, Facts
from advkit.results.cells import Damage
from advkit.results.store import Store, Study, read_facts

__all__ = ["Merged", "merge"]


@dataclass
class Merged:
    """What a merge did: counts, and what was left out and why."""

    cells: int = 0
    shards: int = 0
    known: int = 0  # shards whose examples were all there already
    left: list[Damage] = field(default_factory=list)


def merge(into: Store, sources: Sequence[Store]) -> Merged:
    """Copy what ``into`` lacks. Damaged shards, and those that say otherwise than what is there, are left out and named.

    The study becomes that of all: of a cell in several, the most examples are wanted. Raises InputError where a source is no
    store, or is the target itself.
    """
    for source in sources:
        if source.check().folder.resolve() == into.folder.resolve():
            raise InputError(f"{source.folder} is to be merged into itself; name another folder.")
    into.create()
    report = Merged()
    with into.lock():
        for source in sources:
            for folder in sorted(path for path in (source.folder / "cells").glob("*") if path.is_dir()):
                _cell(into, source, folder, report)
        study = _study([into.study(), *(source.study() for source in sources)])
        if study:
            into.write_study(study)
    return report


def _cell(into: Store, source: Store, folder: Path, report: Merged) -> None:
    try:
        record = source.record(folder.name)
    except StoreError:
        record = None
    if record is None or record.cell.key != folder.name:
        report.left.append(Damage(folder / "cell.json", "cannot be read, or is that of another cell"))
        return
    cell = record.cell
    new = not (into.folder / "cells" / cell.key / "cell.json").exists()
    into.add(record)
    report.cells += new
    for companion in source.companions(cell):
        if not into.beside(cell, companion.name).exists():
            put_whole(into.beside(cell, companion.name), companion.read_bytes())
    for _, path in source.shards(cell):
        facts = read_facts(path)
        if facts is None:
            report.left.append(Damage(Path(path), "is damaged"))
            continue
        found = into.facts(cell)
        if found is not None and not _agrees(found, facts):
            report.left.append(Damage(Path(path), f"says otherwise than {into.folder} does about the same examples"))
        elif found is not None and np.isin(facts.index, found.index).all():
            report.known += 1
        else:
            _copy(into, cell, Path(path))
            report.shards += 1


def _agrees(one: Facts, other: Facts) -> bool:
    """Whether two shards tell the same of the examples that are in both."""
    _, here, there = np.intersect1d(one.index, other.index, assume_unique=True, return_indices=True)
    one, other = one.take(here), other.take(there)
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("labels", "clean", "attacked", "stands")
    )


def _copy(into: Store, cell: Cell, path: Path) -> None:
    """The pictures first, for the shard's own file says that all is there."""
    for each in (path.with_name(f"pictures-{path.name}"), path):
        if each.exists():
            put_whole(into.folder / "cells" / cell.key / each.name, each.read_bytes())


def _study(studies: Sequence[Study | None]) -> Study | None:
    found = [study for study in studies if study]
    if not found:
        return None
    samples: dict[str, int] = {}
    about: dict[str, object] = {}
    for study in found:
        for key, count in study.samples.items():
            samples[key] = max(count, samples.get(key, 0))
        about = {**study.about, **about}
    return Study(found[0].command, samples, about)
