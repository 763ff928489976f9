"""Everything in the store of a sweep, read to the last byte; and what does not hold removed, to be made anew. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from advkit.atomic import keep_names
from advkit.errors import StoreError
from advkit.results.cell import Cell
from advkit.results.folder_check import FolderCheck
from advkit.results.manifest import MANIFEST, Manifest, check_files
from advkit.results.sealed import Broken, content_of, read_sealed
from advkit.results.shard import Span, read_pictures
from advkit.results.store import Record, Store, gaps, read_asked, read_record
from advkit.seal import Unsealed, holds_tensors

__all__ = ["check_store", "mend"]

_OURS = re.compile(r"(pictures-)?\d+-\d+\.safetensors|fitted-\d+-\d+\.(safetensors|json)|asked\.json")


def check_store(folder: Path) -> FolderCheck:
    """Read every file of a store. Raises InputError where the folder is none."""
    found, store = FolderCheck("shards"), Store(folder)
    try:
        store.check()
        manifest, study = store.manifest(), store.study()
    except StoreError as error:
        found.broken.append(Broken(store.folder, "damaged", f"does not hold: {error}"))
        return found
    if study is None and manifest.study:
        found.broken.append(Broken(store.folder / "study.json", "missing", "is missing"))
    wanted: Mapping[str, int] = study.samples if study else {}
    if manifest.covers:
        for key in sorted((wanted.keys() | manifest.parts.keys()) - set(store.cell_keys())):
            found.broken.append(Broken(store.folder / "cells" / key, "missing", "is missing"))
    states = [_cell(store, key, manifest, wanted.get(key), found) for key in store.cell_keys()]
    left = [state for state in states if state]
    if left:
        found.notes.append(f"{len(left):,} cells are unfinished: {sum(left):,} examples are not done.")
    if waiting := states.count(0):
        found.notes.append(f"{waiting:,} cells are complete, and not in {MANIFEST} yet; the same sweep enters them.")
    return found


def _cell(store: Store, key: str, manifest: Manifest, wanted: int | None, found: FolderCheck) -> int | None:
    """How many examples of a cell are not done that are wanted; None where none are wanted, or the manifest has the cell."""
    folder = store.folder / "cells" / key
    if not folder.is_dir():
        found.broken.append(Broken(folder, "foreign", "is no folder of a cell"))
        return None
    try:
        cell = read_record(str(folder), key).cell
        sealed = read_sealed(folder / "cell.json")[1]
    except Broken as error:
        if error.kind == "missing" and not any(_OURS.fullmatch(path.name) for path in folder.iterdir()):
            found.notes.append(f"{folder} is empty: a writer was killed; the same sweep goes on there.")
        else:
            found.broken.append(error)
        return None
    except StoreError as error:
        found.broken.append(Broken(folder, "damaged", f"does not hold: {error}"))
        return None
    named, spans, read = set[str](), list[Span](), set[tuple[str, str]]()
    for span, path in store.shards(cell):
        try:
            shard = store.look(cell, span, path, read)
        except Broken as error:
            found.broken.append(error)
            continue
        named |= {Path(path).name, *shard.files}
        spans.append(span)
        found.whole += 1
        found.uncovered += not (shard.covered and sealed)
    entered = manifest.parts.get(key)
    told = {error.path for error in found.broken}
    found.broken += [error for error in check_files(folder, entered or {}) if error.path not in told]
    _others(folder, named, entered, found)
    return (
        None
        if wanted is None or entered or not manifest.covers
        else sum(end - begin for begin, end in gaps(spans, wanted))
    )


def _others(folder: Path, named: set[str], entered: Mapping[str, str] | None, found: FolderCheck) -> None:
    """The files that no shard names: whole where they are ours, else foreign."""
    told = {error.path for error in found.broken}
    for path in sorted(folder.iterdir()):
        name = path.name
        if name in named or name == "cell.json" or path in told or (entered is not None and name in entered):
            continue
        if name.startswith(".") and name.endswith(".part"):
            found.notes.append(f"{path} is half written: a sweep is at work, or was killed; the same sweep removes it.")
        elif entered is not None or not _OURS.fullmatch(name):
            found.broken.append(Broken(path, "foreign", "belongs to no shard of this cell"))
        else:
            try:
                _read(path)
            except Broken as error:
                found.broken.append(error)


def _read(path: Path) -> None:
    """A file that a shard will name, or would have: of a sweep that is at work, or was killed."""
    if path.name == "asked.json":
        read_asked(path)
    elif path.name.startswith("pictures-"):
        read_pictures(path)
    elif path.suffix == ".json":
        read_sealed(path)
    else:
        try:
            holds_tensors(content_of(path))
        except Unsealed as error:
            raise Broken(path, "damaged", str(error)) from None


def mend(store: Store, records: Iterable[Record], samples: int) -> None:
    """Make cells ready to be worked on: what does not hold is removed, to be made anew. Only for who holds the lock.

    A cell that is worked on is in the manifest no more.
    """
    manifest = store.manifest()
    open_, gone, remade = list[str](), list[Path](), list[Record]()
    for record in records:
        cell = record.cell
        folder, entered = store.folder / "cells" / cell.key, manifest.parts.get(cell.key, {})
        bad, spans = _bad(store, cell, entered)
        if folder / "cell.json" in bad:
            remade.append(record)
        gone += bad
        if entered and (bad or gaps(spans, samples)):
            open_.append(cell.key)
    store.reopen(open_)
    for path in gone:
        if path.name != "cell.json":
            path.unlink(missing_ok=True)
    store.add(*remade, anew=True)
    keep_names(*{path.parent for path in gone})


def _bad(store: Store, cell: Cell, entered: Mapping[str, str]) -> tuple[list[Path], list[Span]]:
    """Files of a cell that do not hold, with the shards that need them; and which examples the other shards hold."""
    folder = store.folder / "cells" / cell.key
    found = {error.path for error in check_files(folder, entered)}
    try:
        read_record(str(folder), cell.key)
    except Broken as error:
        found.add(error.path)
    spans, read = list[Span](), set[tuple[str, str]]()
    for span, path in store.shards(cell):
        try:
            shard = store.look(cell, span, path, read)
        except Broken as error:
            found |= {Path(path), error.path}
        else:
            if any(folder / name in found for name in shard.files):
                found.add(Path(path))
            else:
                spans.append(span)
    return sorted(found), spans
