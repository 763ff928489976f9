"""``advkit results``: stores listed, shown, checked, compared, merged and exported."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_line import Run
from stores import Made, cell_of, small

from advkit.results.grid import load_grid
from advkit.results.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return small(tmp_path / "study")


def test_every_cell_is_listed_with_what_is_done(run: Run, store: Path) -> None:
    cells = run("results", "list", store, "--format", "json").json
    assert [(cell["defense"], cell["attack"]) for cell in cells] == [
        (defense, attack) for defense in ("none", "jpeg") for attack in ("none", "fgsm", "pgd")
    ]
    assert all((cell["done"], cell["wanted"], cell["outdated"]) == (10, 10, False) for cell in cells)
    out = run("results", "list", store, "--filter", "attack=p*").out
    assert out.count("10/10") == 2
    assert "2 cells; of the 2 that the last sweep asked for, 2 are done." in out


def test_what_differs_between_cells_has_a_column(run: Run, store: Path, tmp_path: Path) -> None:
    assert "seed" not in run("results", "list", store).out
    made = Made(tmp_path / "other")
    made.put(cell_of(), [1])
    for seed in (0, 7):
        made.put(cell_of("pgd", seed=seed), [1], [1])
    head, _, *rows = run("results", "list", tmp_path / "other").out.splitlines()[:5]
    assert head.split()[3] == "seed"
    assert [row.split()[3] for row in rows] == ["none", "0", "7"], "without attack there is none"


def test_a_cell_that_is_not_done_says_how_far_it_is(run: Run, tmp_path: Path) -> None:
    Made(tmp_path).put(cell_of("pgd"), [1, 0], [1, 1], wanted=8)
    assert "2/8" in run("results", "list", tmp_path).out


def test_a_cell_is_shown_by_the_beginning_of_its_key(run: Run, store: Path) -> None:
    key = cell_of("pgd", defense="jpeg").key
    out = run("results", "show", store, key[:6]).out
    assert "pgd at 8/255" in out
    assert "pgd(Linf(8/255))" in out
    assert "2026-01-01T00:00:00Z" in out
    found = run("results", "show", store, key, "--format", "json").json
    assert found["cell"]["defense"] == "jpeg"
    assert found["done"] == [[0, 10]]


def test_a_check_finds_nothing_wrong_and_then_a_torn_file(run: Run, store: Path) -> None:
    study = Store(store).study()
    assert study is not None
    answer = run("results", "check", store)
    assert answer.code == 0
    assert "6 cells are complete, and not in manifest.json yet" in answer.out
    Store(store).finish(study.samples)
    answer = run("results", "check", store)
    assert (answer.code, answer.out) == (0, "6 shards are whole, 0 files are not as they should be.\n")
    torn = next(store.glob("cells/*/0*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-1])
    answer = run("results", "check", store)
    assert answer.code == 1
    assert f"{torn} is damaged" in answer.out


def test_two_stores_are_compared_and_only_changes_shown_on_demand(run: Run, store: Path, tmp_path: Path) -> None:
    other = Made(small(tmp_path / "other"))
    other.put(cell_of("bim"), [1] * 8 + [0] * 2, [1] * 8 + [0] * 2)
    same = " ".join(run("results", "compare", store, store).out.split())
    assert "8 lines are in both, 0 only in" in same
    out = run("results", "compare", store, tmp_path / "other", "--changed").out
    assert "bim" in out
    assert "fgsm" not in out
    said = " ".join(out.split())
    assert "7 lines are in both, 1 only in study, 2 only in other. 7 that did not change are not listed." in said
    assert "Holm-adjusted for 7 tests." in said, "those that are not listed were tested too"
    rows = run("results", "compare", store, tmp_path / "other", "--format", "json").json
    assert {row["change"] for row in rows if row["attack"] == "pgd"} == {0.0}
    assert [row["before"] for row in rows if row["attack"] == "bim"] == [None]


def test_the_first_seed_is_a_number_too(run: Run, tmp_path: Path) -> None:
    made = Made(tmp_path / "a")
    made.put(cell_of(), [1, 1])
    for seed in (0, 1):
        made.put(cell_of("pgd", seed=seed), [1, 0], [1, 1])
    lines = run("results", "compare", tmp_path / "a", tmp_path / "a").out.splitlines()
    seeds = [line.split()[2] for line in lines if line.startswith("net")]
    assert seeds == ["-", "0", "1", "0", "1"]


def test_stores_are_merged_and_what_is_left_out_is_named(run: Run, store: Path, tmp_path: Path) -> None:
    answer = run("results", "merge", tmp_path / "all", store)
    assert answer.out.startswith("6 new cells and 6 shards copied")
    assert load_grid(tmp_path / "all").to_json() == load_grid(store).to_json()
    Made(tmp_path / "odd").put(cell_of("pgd"), [1] * 10, [1] * 8 + [0] * 2)
    answer = run("results", "merge", tmp_path / "all", tmp_path / "odd")
    assert "0 shards copied" in answer.out
    assert "says otherwise" in answer.err


def test_results_are_exported_by_line_and_by_example(run: Run, store: Path, tmp_path: Path) -> None:
    assert "8 rows" in run("results", "export", store, "--out", tmp_path / "x.json").err
    grid = load_grid(store).to_json()
    assert json.loads((tmp_path / "x.json").read_text()) == [*grid["clean"], *grid["cells"], *grid["worst"]]
    run("results", "export", store, "--out", tmp_path / "x.csv", "--examples", "--filter", "attack=pgd")
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert len(rows) == 20
    assert sum(row["success"] == "True" for row in rows) == 7 + 2


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("lst", "."), ("'lst'", "'list'")),
        (("show", "{store}", "zzz"), ("zzz", "results list")),
        (("show", "{store}", ""), ("6 cells",)),
        (("list", "nowhere"), ("nowhere", "holds no results")),
        (("list", "{store}", "--filter", "model=nt"), ("'net'",)),
        (("merge", "{store}", "{store}"), ("into itself",)),
        (("merge", "{store}/../new", "nowhere"), ("nowhere",)),
        (("export", "{store}", "--out", "x.xls"), ("x.xls", ".parquet")),
    ],
)
def test_bad_input_is_refused(refused: object, store: Path, args: tuple[str, ...], parts: tuple[str, ...]) -> None:
    said = refused("results", *(arg.replace("{store}", str(store)) for arg in args))  # type: ignore[operator]
    assert all(part in said for part in parts), said
    assert not (store.parent / "new").exists()
