"""One store from several: cells are named by what decides their numbers, so what is not there yet can be copied. No torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from advkit.atomic import put_whole
from advkit.errors import InputError, StoreError
from advkit.results.cell import Cell, Facts
from advkit.results.sealed import Broken
from advkit.results.shard import Shard
from advkit.results.store import Store, Study, read_record

__all__ = ["Merged", "merge"]


@dataclass
class Merged:
    """What a merge did: counts, and what was left out and why."""

    cells: int = 0
    shards: int = 0
    known: int = 0  # shards whose examples were all there already
    left: list[Broken] = field(default_factory=list)


def merge(into: Store, sources: Sequence[Store]) -> Merged:
    """Copy what ``into`` lacks. Damaged shards, and those that say otherwise than what is there, are left out and named.

    The study becomes that of all: of a cell in several, the most examples are wanted. Raises InputError where a source is no
    store, or is the target itself.
    """
    for source in sources:
        if os.path.realpath(source.check().folder) == os.path.realpath(into.folder):
            raise InputError(f"{source.folder} is to be merged into itself; name another folder.")
    into.create()
    report = Merged()
    with into.lock():
        into.reopen(key for source in sources for key in source.cell_keys())
        for source in sources:
            for key in source.cell_keys():
                _cell(into, source, key, report)
        study = _study([into.study(), *(source.study() for source in sources)], into.cell_keys())
        if study:
            into.write_study(study)
        into.finish(study.samples if study else {})
    return report


def _cell(into: Store, source: Store, key: str, report: Merged) -> None:
    try:
        record = read_record(str(source.folder / "cells" / key), key)
    except Broken as error:
        report.left.append(error)
        return
    except StoreError as error:  # of a newer advkit
        report.left.append(Broken(source.folder / "cells" / key, "foreign", f"is not known here: {error}"))
        return
    cell = record.cell
    new = not (into.folder / "cells" / cell.key / "cell.json").exists()
    into.add(record)
    report.cells += new
    read = set[tuple[str, str]]()
    for span, path in source.shards(cell):
        try:
            shard = source.look(cell, span, path, read)
            found = into.facts(cell)
            if found is not None and not _agrees(found, shard.facts):
                raise Broken(path, "foreign", f"says otherwise than {into.folder} does about the same examples")
            if found is not None and np.isin(shard.facts.index, found.index).all():
                report.known += 1
                continue
            _copy(into, source, cell, Path(path), shard)
            report.shards += 1
        except Broken as error:
            report.left.append(error)


def _agrees(one: Facts, other: Facts) -> bool:
    """Whether two shards tell the same of the examples that are in both."""
    _, here, there = np.intersect1d(one.index, other.index, assume_unique=True, return_indices=True)
    one, other = one.take(here), other.take(there)
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("labels", "clean", "attacked", "stands")
    )


def _copy(into: Store, source: Store, cell: Cell, path: Path, shard: Shard) -> None:
    """What the shard needs first, for its own file says that all is there. Raises Broken where that is another there."""
    here = {name: digest for _, each in into.whole(cell) for name, digest in each.files.items()}
    files = dict(shard.files)
    if not shard.covered:  # it does not say what it needs
        pictures = path.with_name(f"pictures-{path.name}")
        beside = [*source.companions(cell), *([pictures] if pictures.exists() else [])]
        files = {each.name: here.get(each.name, "") for each in beside}
    for name, digest in files.items():
        if here.get(name, digest) != digest:
            raise Broken(path, "foreign", f"needs another {name} than that of {into.folder}")
        target = into.beside(cell, name)
        if name not in here and not (target.exists() and not shard.covered and not name.startswith("pictures-")):
            put_whole(target, (path.parent / name).read_bytes())
    put_whole(into.folder / "cells" / cell.key / path.name, path.read_bytes())


def _study(studies: Sequence[Study | None], keys: Iterable[str]) -> Study | None:
    """What all of them want of the cells that are there."""
    found = [study for study in studies if study]
    if not found:
        return None
    samples: dict[str, int] = {}
    about: dict[str, object] = {}
    for study in found:
        for key, count in study.samples.items():
            samples[key] = max(count, samples.get(key, 0))
        about = {**study.about, **about}
    there = set(keys)
    return Study(found[0].command, {key: count for key, count in samples.items() if key in there}, about)
