"""Stores beside each other, in each other, and as data frames."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from stores import Made, cell_of, facts_of, small, staged

from advkit.errors import InputError, MissingExtra
from advkit.results import export as exporting
from advkit.results.cells import merged
from advkit.results.check_store import check_store
from advkit.results.compare import compared
from advkit.results.export import export, to_pandas
from advkit.results.grid import load_grid
from advkit.results.merge import merge
from advkit.results.store import Store, Study


def test_a_store_does_not_differ_from_itself(tmp_path: Path) -> None:
    grid = load_grid(small(tmp_path))
    pairs = compared(grid, load_grid(tmp_path))
    assert len(pairs) == 8
    assert not [pair for pair in pairs if pair.differs]
    assert all(pair.versus and pair.versus.p == 1 for pair in pairs)


def test_changes_are_paired_by_example_and_across_versions_of_the_code(tmp_path: Path) -> None:
    before, after = Made(tmp_path / "a"), Made(tmp_path / "b")
    before.put(cell_of("pgd"), [1, 1, 0, 0, 0, 1], [1] * 6)
    after.put(cell_of("pgd", code="newer"), [1, 0, 1, 1, 1], [1] * 5)
    pair = next(p for p in compared(load_grid(tmp_path / "a"), load_grid(tmp_path / "b")) if p.line.attack == "pgd")
    assert pair.versus is not None
    found = pair.versus.found
    assert (found.n, found.gained, found.lost) == (5, 3, 1)
    assert found.value == pytest.approx(2 / 5)


def test_other_examples_are_not_tested(tmp_path: Path) -> None:
    Made(tmp_path / "a").put(cell_of("pgd"), [1, 1, 0], [1] * 3)
    Made(tmp_path / "b").put(cell_of("pgd", data_hash="other"), [1, 0, 0], [1] * 3)
    pair = next(p for p in compared(load_grid(tmp_path / "a"), load_grid(tmp_path / "b")) if p.line.attack == "pgd")
    assert pair.versus is None
    assert pair.change == pytest.approx(-1 / 3)


def test_what_is_in_one_store_only_is_there_too(tmp_path: Path) -> None:
    Made(tmp_path / "a").put(cell_of("pgd"), [1], [1])
    Made(tmp_path / "b").put(cell_of("fgsm"), [1], [1])
    pairs = compared(load_grid(tmp_path / "a"), load_grid(tmp_path / "b"))
    assert [(p.before is not None, p.after is not None) for p in pairs if not p.line.over] == [
        (True, False),
        (False, True),
    ]


def test_merging_brings_cells_shards_and_what_is_wanted_together(tmp_path: Path) -> None:
    one, two = Made(tmp_path / "one"), Made(tmp_path / "two")
    shared = one.put(cell_of("pgd"), [1, 0], [1, 1], wanted=4)
    two.put(cell_of("pgd"), [0, 1], [1, 1], first=2, wanted=4)
    alone = two.put(cell_of("fgsm"), [1, 1], [1, 1])
    into = Store(tmp_path / "all")
    report = merge(into, [one.store, two.store])
    assert (report.cells, report.shards, report.left) == (2, 3, [])
    facts = into.facts(shared)
    assert facts is not None
    assert facts.stands[0, 0].tolist() == [True, False, False, True]
    study = into.study()
    assert study is not None
    assert dict(study.samples) == {shared.key: 4, alone.key: 2}
    again = merge(into, [one.store, two.store])
    assert (again.cells, again.shards, again.known) == (0, 0, 3)


def test_merging_leaves_out_what_is_damaged_or_says_otherwise(tmp_path: Path) -> None:
    one, two = Made(tmp_path / "one"), Made(tmp_path / "two")
    cell = one.put(cell_of("pgd"), [1, 0], [1, 1])
    two.put(cell_of("pgd"), [1, 1, 1], [1, 1, 1])
    broken = two.put(cell_of("fgsm"), [1, 1], [1, 1])
    ((_, path),) = two.store.shards(broken)
    content = bytearray(Path(path).read_bytes())
    content[-1] ^= 1
    Path(path).write_bytes(content)
    report = merge(one.store, [two.store])
    assert sorted(left.what.split()[0] for left in report.left) == ["is", "says"]
    facts = one.store.facts(cell)
    assert facts is not None
    assert len(facts) == 2
    assert one.store.facts(broken) is None


def test_merging_replaces_a_damaged_shard(tmp_path: Path) -> None:
    one, two = Made(tmp_path / "one"), Made(tmp_path / "two")
    cell = one.put(cell_of("pgd"), [1, 0], [1, 1])
    two.put(cell_of("pgd"), [1, 0], [1, 1])
    ((_, path),) = one.store.shards(cell)
    Path(path).write_bytes(b"torn")
    assert merge(one.store, [two.store]).shards == 1
    assert one.store.facts(cell) is not None


def test_a_store_is_not_merged_into_itself(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="into itself"):
        merge(Store(small(tmp_path)), [Store(tmp_path / ".")])
    with pytest.raises(InputError, match="holds no results"):
        merge(Store(tmp_path), [Store(tmp_path / "nothing")])


def test_a_check_names_every_damage(tmp_path: Path) -> None:
    made = Made(small(tmp_path))
    assert (check_store(made.store.folder).whole, check_store(made.store.folder).broken) == (6, [])
    folders = sorted((tmp_path / "cells").iterdir())
    next(folders[0].glob("0*.safetensors")).write_bytes(b"torn")
    (folders[1] / "cell.json").write_text("{")
    (folders[2] / ".x.part").touch()
    (folders[3] / "cell.json").write_text((folders[4] / "cell.json").read_text())
    found = check_store(made.store.folder)
    assert found.whole == 3
    assert [(each.kind, each.path.parent) for each in found.broken] == [
        ("damaged", folders[0]),
        ("damaged", folders[1]),
        ("foreign", folders[3]),
    ]
    assert any("half written" in note for note in found.notes), "what a kill leaves is no damage"


def test_spans_that_touch_are_one() -> None:
    assert merged([(5, 9), (0, 3), (3, 4)]) == [(0, 4), (5, 9)]


def test_each_line_is_a_row_of_a_data_frame(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    frame = load_grid(small(tmp_path)).to_pandas()
    assert frame.equals(to_pandas(load_grid(tmp_path)))
    assert len(frame) == 8
    assert frame.query("attack == 'pgd' and defense == 'jpeg'").accuracy.tolist() == [0.6]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_each_example_is_a_row_in_every_file(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    assert export(load_grid(small(tmp_path / "store")), out, examples=True) == 40
    if suffix == ".csv":
        rows = list(csv.DictReader(out.read_text().splitlines()))
    elif suffix == ".json":
        rows = json.loads(out.read_text())
    else:
        import pandas

        rows = pandas.read_parquet(out).to_dict("records")
    stands = [str(row["stands"]) for row in rows if (row["attack"], row["defense"]) == ("pgd", "none")]
    assert stands == ["False"] * 7 + ["True"] + ["False"] * 2
    wrong = [row for row in rows if int(row["index"]) == 9]
    assert {str(row["clean_correct"]) for row in wrong} == {"False"}
    assert {int(row["clean_prediction"]) for row in wrong} == {(9 + 1) % 3}


def test_examples_say_who_was_attacked_and_what_it_took(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    assert export(load_grid(staged(tmp_path / "store")), out, examples=True) == 8
    rows = json.loads(out.read_text())
    of = {stage: [row for row in rows if row["attack"] == stage] for stage in ("first", "second")}
    assert [row["attacked"] for row in of["first"]] == [True] * 4
    assert [row["attacked"] for row in of["second"]] == [True, False, True, True]
    assert [row["prediction"] for row in of["second"]] == [0, -1, 2, 2]
    assert [row["stands"] for row in of["second"]] == [True, False, True, False]
    assert [(row["steps"], row["forwards"], row["backwards"]) for row in of["first"]] == [(2, 2, 2)] * 4


def test_examples_of_fewer_than_are_stored_are_those_of_the_line(tmp_path: Path) -> None:
    made = Made(tmp_path / "store")
    cell = made.put(cell_of("pgd"), [1, 0, 1, 1], [1, 1, 0, 1])
    made.store.write_study(Study("", {cell.key: 3}))
    grid = load_grid(tmp_path / "store")
    assert export(grid, tmp_path / "rows.json", examples=True) == 3
    assert [row["attacked"] for row in json.loads((tmp_path / "rows.json").read_text())] == [True, True, False]


def test_without_pandas_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(exporting.importlib, "import_module", missing)
    grid = load_grid(small(tmp_path))
    with pytest.raises(MissingExtra, match=r"advkit\[pandas\]"):
        to_pandas(grid)
    with pytest.raises(MissingExtra, match=r"advkit\[pandas\]"):
        export(grid, tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_shards_join_to_the_same_facts(tmp_path: Path) -> None:
    made = Made(tmp_path)
    cell = cell_of("pgd")
    made.put(cell, [1, 0, 1], [1] * 3)
    made.put(cell, [0, 1], [1] * 2, first=3)
    (line,) = load_grid(tmp_path).lines
    assert np.array_equal(line.stands, facts_of(cell, [1, 0, 1, 0, 1], [1] * 5).stands[0, 0])
