"""A saved run is one run, whole, and takes the place of nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from advkit.errors import InputError
from advkit.results.lock import LOCK_FILES, locked
from advkit.results.run_folder import admit_run, run_folder


def _run(folder: Path, *names: str) -> None:
    with run_folder(folder) as new:
        for name in names:
            (new / name).write_text(name)
        (new / "evaluation.json").write_text(json.dumps({"files": dict.fromkeys(names, "")}))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_takes_the_place_of_its_own_former_one_and_leaves_nothing_of_it(tmp_path: Path):
    _run(tmp_path / "a", "one")
    assert _names(tmp_path / "a") == {"one", "evaluation.json"}
    _run(tmp_path / "a", "two")
    assert _names(tmp_path / "a") == {"two", "evaluation.json"}


def test_a_run_that_ends_early_leaves_the_former_one_as_it_was(tmp_path: Path):
    _run(tmp_path / "a", "one")

    def ends() -> None:
        with run_folder(tmp_path / "a") as new:
            (new / "two").touch()
            raise KeyError

    with pytest.raises(KeyError):
        ends()
    assert _names(tmp_path / "a") == {"one", "evaluation.json"}


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path):
    _run(tmp_path / "a", "one")
    (tmp_path / "a" / ".new-0123").mkdir()
    (tmp_path / "a" / ".old-0123").mkdir()
    _run(tmp_path / "a", "two")
    assert _names(tmp_path / "a") == {"two", "evaluation.json"}


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda place: (place / "store.json").write_text("{}"), "holds the store of a sweep"),
        (lambda place: (place / "certificates.json").write_text("{}"), "holds the certificates"),
        (lambda place: (place / "cats").mkdir(), "is not empty and holds no saved run"),
        (lambda place: (place / "a.png").touch(), "is not empty and holds no saved run"),
    ],
)
def test_a_folder_of_anything_else_is_refused_and_left_alone(tmp_path: Path, fill: Callable[[Path], object], said: str):
    fill(tmp_path)
    before = _names(tmp_path)
    with pytest.raises(InputError, match=said):
        admit_run(tmp_path)
    with pytest.raises(InputError, match=said):
        _run(tmp_path)
    assert _names(tmp_path) == before


def test_what_lies_beside_a_run_and_is_not_of_it_stays(tmp_path: Path):
    _run(tmp_path / "a", "one")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "a" / "figures").mkdir()
    _run(tmp_path / "a" / "another", "three")
    _run(tmp_path / "a", "two")
    assert _names(tmp_path / "a") == {"two", "evaluation.json", "notes.txt", "another"}
    assert _names(tmp_path / "a" / "another") == {"three", "evaluation.json"}


@pytest.mark.parametrize("facts", ["{", "[]", "null", '{"files": 3}', '{"outcomes": 3}'])
def test_a_run_that_cannot_be_read_is_not_replaced(tmp_path: Path, facts: str):
    (tmp_path / "evaluation.json").write_text(facts)
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="holds a saved run that cannot be read"):
        _run(tmp_path)
    assert _names(tmp_path) == {"evaluation.json", "mine"}


def test_a_run_is_not_saved_among_the_cells_of_a_store(tmp_path: Path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "store.json").touch()
    for place in ("cells", "cells/new", "cells/new/deeper"):
        with pytest.raises(InputError, match=r"is inside of .* the store of a sweep"):
            _run(tmp_path / place)
    _run(tmp_path / "beside")
    assert not _names(tmp_path / "cells")


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="is a file"):
        admit_run(tmp_path / "a")


def test_one_writer_at_a_time(tmp_path: Path):
    with locked(tmp_path, "training"):
        assert ".writer" in _names(tmp_path)
        assert "process" in (tmp_path / ".writer").read_text()
        with (
            pytest.raises(InputError, match=r"another training \(process \d+, since .*\) is writing to"),
            locked(tmp_path, "training"),
        ):
            pass
        with pytest.raises(InputError, match=r"another attack .* give another folder \(--save\)"):
            _run(tmp_path)
    assert not _names(tmp_path) & {*LOCK_FILES}
