"""Whether the facts of a sweep's store fit each other: every file, every cell, every kept picture. No model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from advkit.core.units import Eps
from advkit.errors import DataError
from advkit.results.cell import Cell, Facts, Numbers, Picture
from advkit.results.check_store import check_store
from advkit.results.folder_check import FolderCheck
from advkit.results.store import Record, Store
from advkit.results.verify import Difference, Differs

__all__ = ["check_cell", "check_kept", "check_whole"]

_ROUNDING = 1e-9


def check_whole(store: Store) -> FolderCheck:
    """Every file of the store can be read and has the content it was written with; raises DataError where not."""
    found = check_store(store.folder)
    if found.broken:
        first, *others = found.broken
        more = f", and {len(others):,} more files are not as they should be" if others else ""
        raise DataError(f"{first}{more}.")
    return found


def check_cell(store: Store, record: Record, facts: Facts, clean: Facts | None) -> None:
    """The facts of a cell follow from each other, and from those without attack. Raises Differs at the first that does not."""
    cell, folder = record.cell, str(store.beside(record.cell, "."))
    if clean is not None and clean is not facts:
        _, here, there = np.intersect1d(facts.index, clean.index, return_indices=True)
        for name in ("labels", "clean"):
            _alike(folder, name, getattr(facts, name)[here], getattr(clean, name)[there], facts.index[here])
    met: Numbers = np.broadcast_to(facts.correct, facts.attacked.shape[1:])
    for s, stage in enumerate(cell.stages):
        for r, radius in enumerate(cell.radii):
            of = f"{stage.name} at {radius}"
            attacked, success = facts.attacked[s, r], facts.success[s, r]
            _alike(folder, f"{of}, attacked", attacked, met[r], facts.index)
            changed = attacked & (facts.prediction[s, r] != facts.labels)
            if cell.goal == "untargeted":
                _alike(folder, f"{of}, success", success & attacked, changed, facts.index)
            else:  # the target is not stored; what reaches it is not the label
                _alike(folder, f"{of}, success", success & attacked & changed, success & attacked, facts.index)
            far = np.flatnonzero(success & attacked & ~(facts.distance[s, r] <= float(Eps(radius))))
            if len(far):
                i = int(far[0])
                most = f"at most {radius}"
                raise Differs(
                    Difference(folder, f"{of}, distance", most, float(facts.distance[s, r, i]), int(facts.index[i]))
                )
        met = facts.stands[s]


def check_kept(store: Store, cell: Cell, facts: Facts, picture: Picture) -> None:
    """What is said of a kept picture is what the facts of its example say."""
    path = str(_file(store, cell, picture))
    place = int(np.searchsorted(facts.index, picture.index))
    if place >= len(facts) or facts.index[place] != picture.index:
        raise Differs(Difference(path, "example", picture.index, "none of the cell's", picture.index))
    names = [stage.name for stage in cell.stages]
    if picture.stage not in names or picture.eps not in cell.radii:
        raise Differs(
            Difference(path, "attack", f"{picture.stage} at {picture.eps}", "none of the cell's", picture.index)
        )
    at = (names.index(picture.stage), cell.radii.index(picture.eps), place)
    pairs: Mapping[str, tuple[Any, Any]] = {
        "label": (picture.label, facts.labels[place]),
        "answer": (picture.prediction, facts.prediction[at]),
        "success": (True, facts.success[at]),
    }
    for name, (stored, found) in pairs.items():
        if int(stored) != int(found):
            raise Differs(Difference(path, name, int(stored), int(found), picture.index))
    if abs(picture.distance - facts.distance[at]) > _ROUNDING * max(1.0, abs(picture.distance)):
        raise Differs(Difference(path, "distance", picture.distance, float(facts.distance[at]), picture.index))


def _file(store: Store, cell: Cell, picture: Picture) -> Path:
    """The file that holds a picture."""
    for (begin, end), shard in store.shards(cell):
        if begin <= picture.index < end:
            return store.beside(cell, f"pictures-{Path(shard).name}")
    return store.beside(cell, "pictures")


def _alike(file: str, fact: str, stored: Numbers, found: Numbers, index: Numbers) -> None:
    wrong = np.flatnonzero(stored != found)
    if len(wrong):
        i = int(wrong[0])
        raise Differs(Difference(file, fact, stored[i].item(), found[i].item(), int(index[i])))
