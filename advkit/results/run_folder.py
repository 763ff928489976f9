"""The folder of a saved run: it holds one run, whole, and takes the place of nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from advkit.documents import read_json
from advkit.errors import InputError, WriteError
from advkit.results.lock import LOCK_FILES, locked

__all__ = ["FACTS", "admit_run", "refuse_others", "run_folder"]

FACTS = "evaluation.json"
"""The file that says what was run, and what came of it."""

_KINDS = {
    FACTS: "a saved run",
    "store.json": "the store of a sweep",
    "certificates.json": "the certificates of advkit certify",
    "sticker.json": "a sticker",
}
_NEW, _OLD = ".new-", ".old-"


def admit_run(folder: Path) -> None:
    """Raise InputError where a folder holds anything but a run of ``attack --save``. Writes nothing."""
    _refuse_inside(folder)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; a run is saved in a folder, so give the name of one.")
    refuse_others(folder, FACTS)
    names = {path.name for path in folder.iterdir()} - {*LOCK_FILES}
    names = {name for name in names if not name.startswith((_NEW, _OLD))}
    if names and FACTS not in names:
        raise InputError(f"{folder} is not empty and holds no saved run; give another folder.")
    _own(folder)


def refuse_others(folder: Path, own: str) -> None:
    """Raise InputError where a folder holds results of another kind than those that the file ``own`` tells of."""
    for name, what in _KINDS.items():
        if name != own and (folder / name).exists():
            raise InputError(f"{folder} holds {what}; give another folder.")


def _refuse_inside(folder: Path) -> None:
    """A store is all there is in its folder of cells."""
    for above in folder.resolve().parents:
        if (above / "store.json").exists() and (above / "cells") in (folder.resolve(), *folder.resolve().parents):
            raise InputError(f"{folder} is inside of {above}, the store of a sweep; give another folder.")


def _own(folder: Path) -> set[str]:
    """What of a folder belongs to the run in it: who saves there again replaces this, and nothing else."""
    if not (folder / FACTS).exists():
        return set()
    try:
        facts = read_json(folder / FACTS)
        files = [str(name).partition("/")[0] for name in facts.get("files", ())]
        places = [str(each["folder"]) for each in facts.get("outcomes", ()) if "folder" in each]
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder} holds a saved run that cannot be read, so what belongs to it cannot be told; give another folder."
        ) from error
    return {FACTS, "clean", "figures", *files, *places}


@contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """A new folder inside ``folder``; what a run has written to it takes the place of a former run, whole, at the end.

    That is once the run's facts are there: one that ends before leaves the former run as it was. Meanwhile no other run is
    saved there. Raises InputError as ``admit_run``, and WriteError where the disk refuses.
    """
    admit_run(folder)
    with locked(folder, "attack", "--save"):
        for left in (*folder.glob(f"{_NEW}*"), *folder.glob(f"{_OLD}*")):
            shutil.rmtree(left, ignore_errors=True)
        new, old = (folder / f"{prefix}{uuid4().hex[:12]}" for prefix in (_NEW, _OLD))
        try:
            new.mkdir()
            try:
                yield new
            finally:  # also where a command ends with an exit code of its own, once it has saved
                if (new / FACTS).exists():
                    _exchange(folder, new, old)
        except OSError as error:
            if error.filename is None:
                raise
            raise WriteError(f"{folder} cannot be written to ({error.strerror}); give another folder.") from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _exchange(folder: Path, new: Path, old: Path) -> None:
    """By renames, the facts first out and last in: whenever it ends, what is there is one run or says that it is none."""
    replaced = (_own(folder) | set(os.listdir(new))) & set(os.listdir(folder))
    old.mkdir()
    for name in sorted(replaced, key=lambda name: name != FACTS):
        (folder / name).rename(old / name)
    for name in sorted(os.listdir(new), key=lambda name: name == FACTS):
        (new / name).rename(folder / name)
