"""Everything in a folder of results, read to the last byte: what is damaged, altered, missing or foreign. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from advkit.documents import MISFIT
from advkit.errors import InputError, StoreError
from advkit.results.certificate_store import check_setting, parts_of, read_part
from advkit.results.check_store import check_store
from advkit.results.folder_check import FolderCheck
from advkit.results.manifest import MANIFEST, Manifest, check_files
from advkit.results.run_folder import FACTS
from advkit.results.sealed import Broken, read_sealed

__all__ = ["check_certificates", "check_folder", "check_run", "check_sticker"]


def check_folder(folder: Path) -> FolderCheck:
    """Read every file of what advkit wrote to a folder. Raises InputError where it is nothing that can be checked."""
    for name, check in _KINDS.items():
        if (folder / name).exists():
            return check(folder)
    if (folder / MANIFEST).exists() and (folder / "cells").is_dir():
        return FolderCheck("shards", broken=[Broken(folder / "store.json", "missing", "is missing")])
    raise InputError(
        f"{folder} holds nothing that advkit wrote: no {', no '.join(_KINDS)}. Give the folder of a sweep, of attack --save, "
        "of certify --out or of a sticker."
    )


def check_run(folder: Path) -> FolderCheck:
    """Read every file of what ``attack --save`` wrote."""
    found, path = FolderCheck("files"), folder / FACTS
    try:
        facts, covered = read_sealed(path)
        files: Mapping[str, str] = dict(facts["files"])
        places = {"clean", *(str(each["folder"]) for each in facts["outcomes"])}
    except Broken as error:
        found.broken.append(error)
        return found
    except MISFIT as error:
        found.broken.append(Broken(path, "damaged", f"does not say which files there are ({error})"))
        return found
    found.broken += check_files(folder, files)
    found.whole = 1 + len(files) - len(found.broken)
    found.uncovered = int(not covered)
    for place in sorted(places):
        inside = sorted((folder / place).glob("*")) if Path(place).name == place else []
        strange = [each for each in inside if f"{place}/{each.name}" not in files and each.suffix in _OF_RUNS]
        found.broken += [Broken(each, "foreign", "belongs to no attack of this run") for each in strange]
    return found


def check_certificates(folder: Path) -> FolderCheck:
    """Read every file of certificates."""
    found = FolderCheck("files")
    try:
        found.uncovered += not read_sealed(folder / "certificates.json")[1]
        found.whole += 1
    except Broken as error:
        found.broken.append(error)
    for place in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        _certificates(place, found)
    return found


def _certificates(place: Path, found: FolderCheck) -> None:
    reads: list[Callable[[], bool]] = [lambda: check_setting(place)]
    parts = parts_of(place)
    reads += [lambda span=span, path=path: read_part(path, place.name, span)[1] for span, path in parts]  # type: ignore[misc]
    before = found.uncovered
    for read in reads:
        try:
            found.uncovered += not read()
            found.whole += 1
        except Broken as error:
            found.broken.append(error)
    known = {"setting.json", MANIFEST, *(path.name for _, path in parts)}
    strange = sorted(path for path in place.iterdir() if path.name not in known and not path.name.startswith("."))
    found.broken += [Broken(path, "foreign", "belongs to no certificates") for path in strange]
    try:
        manifest = Manifest.read(place / MANIFEST)
    except StoreError as error:
        found.broken.append(Broken(place / MANIFEST, "damaged", f"does not hold: {error}"))
        return
    if manifest is None and found.uncovered - before == len(reads):
        return  # an older advkit's, which made none
    if manifest is None:
        found.notes.append(f"{place} is unfinished; the same command goes on there.")
        return
    told = {error.path for error in found.broken}
    files = manifest.parts.get(place.name, {})
    found.broken += [error for error in check_files(place, files) if error.path not in told]
    found.broken += [Broken(path, "foreign", f"is not in {MANIFEST}") for _, path in parts if path.name not in files]


def check_sticker(folder: Path) -> FolderCheck:
    """Read every file of a sticker, and what advkit print wrote beside it but the PDF."""
    found, path = FolderCheck("files"), folder / "sticker.json"
    try:
        facts, covered = read_sealed(path)
        files: Mapping[str, str] = dict(facts["files"]) if covered else {}
    except Broken as error:
        found.broken.append(error)
        return found
    found.broken += check_files(folder, files)
    found.whole = 1 + len(files) - len(found.broken)
    found.uncovered = int(not covered)
    try:
        found.uncovered += not read_sealed(folder / "print.json")[1]
        found.whole += 1
    except Broken as error:
        found.broken += [error] if error.kind != "missing" else []
    return found


_OF_RUNS = (".safetensors", ".png")
_KINDS: Mapping[str, Callable[[Path], FolderCheck]] = {
    "store.json": check_store,
    FACTS: check_run,
    "certificates.json": check_certificates,
    "sticker.json": check_sticker,
}
"""By the file that tells what a folder is."""
