"""The folder of a saved run: it holds one run, whole, and never takes the place of anything else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from advkit.errors import InputError, WriteError
from advkit.results.lock import LOCK_FILES, locked

__all__ = ["FACTS", "admit_run", "run_folder"]

FACTS = "evaluation.json"
"""The file that says what was run, and what came of it."""

_OTHERS = {
    "store.json": "the store of a sweep",
    "certificates.json": "the certificates of advkit certify",
    "sticker.json": "a sticker",
}
_NEW, _OLD = ".new-", ".old-"


def admit_run(folder: Path) -> None:
    """Raise InputError where a folder holds anything but a run of ``attack --save``. Writes nothing."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; a run is saved in a folder, so give the name of one.")
    names = {path.name for path in folder.iterdir()} - {*LOCK_FILES}
    names = {name for name in names if not name.startswith((_NEW, _OLD))}
    for name, what in _OTHERS.items():
        if name in names:
            raise InputError(f"{folder} holds {what}; give another folder to save the run in.")
    if names and FACTS not in names:
        raise InputError(f"{folder} is not empty and holds no saved run; give another folder.")


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
    old.mkdir()
    kept = {*LOCK_FILES, new.name, old.name}
    for name in sorted(os.listdir(folder), key=lambda name: name != FACTS):
        if name not in kept:
            (folder / name).rename(old / name)
    for name in sorted(os.listdir(new), key=lambda name: name == FACTS):
        (new / name).rename(folder / name)
