"""The store: what is whole counts, what is not does not, and what others wrote is read or refused in words."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from stores import Made, aged, cell_of, facts_of, rewritten

from advkit.errors import InputError, StoreError
from advkit.results.cell import Cell
from advkit.results.grid import load_grid
from advkit.results.store import Record, Store, Study

RIGHT = [1] * 6 + [0] * 2


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "store")


def shard(store: Store, cell: Cell) -> Path:
    ((_, path),) = store.shards(cell)
    return Path(path)


# ---------------------------------------------------------------------- what is whole


@pytest.mark.parametrize("spot", [0.0, 0.1, 0.3, 0.6, 0.99])
def test_a_shard_with_a_changed_byte_is_either_the_same_or_not_there(made: Made, spot: float) -> None:
    cell = made.put(cell_of("pgd"), [0] * 3 + [1] * 3 + [0] * 2, RIGHT)
    before = made.store.facts(cell)
    path = shard(made.store, cell)
    content = bytearray(path.read_bytes())
    for place in range(int(spot * len(content)), min(int(spot * len(content)) + 40, len(content))):
        changed = bytearray(content)
        changed[place] ^= 0x15
        path.write_bytes(changed)
        found, done = made.store.facts(cell), made.store.spans(cell)
        assert bool(done) == (found is not None), "what is said to be done is what can be read"
        if found is not None and before is not None:
            for name, array in before.per_example().items():
                assert (found.per_example()[name] == array).all(), name


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_truncated_shard_is_missing(made: Made, keep: int) -> None:
    cell = made.put(cell_of("pgd"), [0] * 8, RIGHT)
    path = shard(made.store, cell)
    path.write_bytes(path.read_bytes()[:keep])
    assert made.store.missing(cell, 8) == [(0, 8)]
    assert made.store.facts(cell) is None


def test_a_shard_under_the_name_of_other_examples_is_missing(made: Made) -> None:
    cell = made.put(cell_of("pgd"), [0] * 8, RIGHT)
    path = shard(made.store, cell)
    path.rename(path.with_name("00008-00016.safetensors"))
    assert made.store.missing(cell, 16) == [(0, 16)]


def test_pictures_that_are_damaged_are_left_out(made: Made) -> None:
    from advkit.results.cell import Picture

    cell = cell_of("pgd")
    x = facts_of(cell, [0] * 4).labels.astype("uint8").reshape(1, 2, 2)
    made.store.add(Record(cell))
    made.store.write(cell, (0, 4), facts_of(cell, [0] * 4), [Picture(0, 1, 2, "pgd", "8/255", 0.01, x, x)])
    (path,) = (made.store.folder / "cells" / cell.key).glob("pictures-*")
    assert len(made.store.pictures(cell)) == 1
    path.write_bytes(path.read_bytes().replace(b"[[0, 1, 2", b"[[0, 1 2,"))
    assert made.store.pictures(cell) == []


# ---------------------------------------------------------------------- what others wrote


def test_cells_of_before_a_field_was_known_keep_their_folder_and_are_read(made: Made, tmp_path: Path) -> None:
    """The folder's name is the hash of what was written, whatever fields have come since."""
    cell = made.put(cell_of("pgd"), [0] * 8, RIGHT)
    bare = made.put(cell_of(), RIGHT)
    aged(made.store.folder)
    for each in (cell, bare):
        place = made.store.folder / "cells" / each.key
        found = json.loads((place / "cell.json").read_text())
        del found["cell"]["defense_hash"]
        (place / "cell.json").write_text(json.dumps(found))
        key = hashlib.sha256(json.dumps(found["cell"], sort_keys=True).encode()).hexdigest()[:20]
        place.rename(place.with_name(key))
    (made.store.folder / "study.json").unlink()
    old = Store(made.store.folder)
    assert [len(old.facts(record.cell) or ()) for record in old.records()] == [8, 8]
    attacked, clean = sorted((record.cell for record in old.records()), key=lambda cell: not cell.stages)
    assert attacked.clean.key == clean.key
    assert replace(attacked, defense="jpeg").clean.key != clean.key
    assert len(load_grid(made.store.folder).lines) == 1


def test_a_new_field_that_says_nothing_is_no_part_of_the_key() -> None:
    cell = cell_of("pgd")
    assert "attack_hash" not in cell.to_json()
    assert replace(cell, attack_hash="ab").key != cell.key
    assert Cell.from_json(replace(cell, attack_hash="ab").to_json()).attack_hash == "ab"


def test_a_cell_of_a_newer_advkit_is_a_sentence_and_not_to_be_removed(made: Made) -> None:
    cell = made.put(cell_of("pgd"), [0] * 8, RIGHT)
    path = made.store.folder / "cells" / cell.key / "cell.json"
    rewritten(path, lambda found: found["cell"].update(weather="rain"))
    with pytest.raises(StoreError, match=r"was written by a newer advkit \(weather\); use that"):
        made.store.records()


def test_where_shards_were_made_is_told_once_each(made: Made) -> None:
    cell = cell_of("pgd")
    made.store.add(Record(cell))
    for begin, node in ((0, "a"), (4, "b"), (8, "a")):
        made.store.write(cell, (begin, begin + 4), facts_of(cell, [1] * 4, first=begin), made={"node": node})
    made.store.write(cell, (12, 16), facts_of(cell, [1] * 4, first=12))
    assert made.store.made(cell) == [{"node": "a"}, {"node": "b"}]
    assert len(made.store.facts(cell) or ()) == 16


def test_a_shard_of_a_shared_disk_is_waited_for(made: Made) -> None:
    cell = cell_of("pgd")
    made.store.add(Record(cell))
    assert not made.store.awaited(cell, (0, 4), 0.0)
    script = "import sys, time; from pathlib import Path; time.sleep(0.3); Path(sys.argv[1]).touch()"
    late = made.store.folder / "cells" / cell.key / "00000-00004.safetensors"
    with subprocess.Popen([sys.executable, "-c", script, str(late)]):
        assert made.store.awaited(cell, (0, 4), 20.0)


def test_a_clock_that_is_wrong_hides_nothing_that_the_last_sweep_asked_for(made: Made) -> None:
    """Two machines, or one before its clock was set: what was made "later" need not be newer."""
    old = made.put(cell_of("pgd", code="old"), [1] * 8, RIGHT, made="2031-01-01T00:00:00Z")
    new = made.put(cell_of("pgd", code="newer"), [0] * 8, RIGHT, made="2026-01-01T00:00:00Z")
    for wanted in (new, old):
        made.store.write_study(Study("advkit sweep", {wanted.key: 8}))
        assert [line.cell.code for line in load_grid(made.store.folder).lines] == [wanted.code]


# ---------------------------------------------------------------------- one writer


HOLD = """
import sys, time
from pathlib import Path
from advkit.results.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_the_first_is_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another sweep \(process {first.pid}, since .*Z\) is writing"):
            Store(tmp_path).lock().__enter__()
        first.send_signal(signal.SIGKILL)
        first.wait()
        with Store(tmp_path).lock():
            pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]
    Store(tmp_path).create()


def test_a_file_system_without_locks_has_one_writer_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with Store(tmp_path).lock():
        with pytest.raises(
            InputError, match=r"another sweep .* is writing .*keeps no locks: if no sweep runs any more"
        ):
            Store(tmp_path).lock().__enter__()
        Store(tmp_path).admit()
    with Store(tmp_path).lock():
        pass
    assert not (tmp_path / ".lock.held").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        Store(tmp_path / "store").lock().__enter__()
