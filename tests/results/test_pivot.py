"""A pivot sets every line in a place of its own, and marks the best of what can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import Made, cell_of, facts_of, moved, small, staged

from advkit.errors import InputError
from advkit.results.cell import Stage
from advkit.results.filters import filtered
from advkit.results.grid import load_grid
from advkit.results.pivot import Pivot, pivoted
from advkit.results.store import Record, Study


def _accuracy(pivot: Pivot) -> dict[tuple[str, ...], float]:
    return {(*row, *column): line.accuracy.value for (row, column), line in pivot.lines.items()}


def test_models_and_defenses_stand_against_attacks_and_radii(tmp_path: Path) -> None:
    pivot = pivoted(load_grid(small(tmp_path)))
    assert pivot.row_places == (("net", "none"), ("net", "jpeg"))
    assert [pivot.head(column) for column in pivot.column_places] == [
        ("", "clean"), ("fgsm", "8/255"), ("pgd", "8/255"), ("worst case", "8/255")
    ]  # fmt: skip
    found = _accuracy(pivot)
    assert found["net", "none", "none", ""] == 0.8
    assert found["net", "none", "pgd", "8/255"] == 0.1
    assert found["net", "none", "worst case", "8/255"] == 0.0  # nobody stands under both
    assert found["net", "jpeg", "worst case", "8/255"] == 0.3


def test_the_best_is_the_highest_of_its_column_and_no_tie_of_all(tmp_path: Path) -> None:
    pivot = pivoted(load_grid(small(tmp_path)))
    assert {(row[1], column[0]) for row, column in pivot.best} == {
        ("jpeg", "fgsm"),
        ("jpeg", "pgd"),
        ("jpeg", "worst case"),
    }


def test_the_best_is_sought_among_models_however_the_table_is_turned(tmp_path: Path) -> None:
    grid = load_grid(small(tmp_path))
    upright, turned = pivoted(grid), pivoted(grid, ("attack", "eps"), ("model", "defense"))
    assert {(column, row) for row, column in upright.best} == set(turned.best)
    assert not turned.best_of_columns


def test_what_differs_and_was_not_asked_for_is_added(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for weights in ("plain", "robust"):
        for seed in (0, 1):
            more = {"model_hash": weights, "seed": seed}
            made.put(cell_of("pgd", **more), [1, 0, seed], [1, 1, 1], weights=weights)
        made.put(cell_of(model_hash=weights), [1, 1, 1], weights=weights)
    pivot = pivoted(load_grid(tmp_path), ("model",), ("attack",))
    assert pivot.rows == ("model", "weights", "seed")
    assert pivot.columns == ("eps", "attack")
    assert _accuracy(pivot)["net", "robust", "1", "", "none"] == 1.0, (
        "without attack there is no seed: it stands in both rows"
    )


def test_attacks_of_one_name_and_several_settings_are_told_apart(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for steps, stands in ((10, [1, 1, 0]), (100, [1, 0, 0])):
        made.put(cell_of("pgd", settings=f", steps={steps}"), stands, [1, 1, 1])
    pivot = pivoted(load_grid(tmp_path))
    assert [pivot.head(column) for column in pivot.column_places][1:3] == [("pgd", "#1 8/255"), ("pgd", "#2 8/255")]
    assert set(pivot.settings) == {"pgd #1", "pgd #2"}
    assert sorted(_accuracy(pivot).values()) == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])


def test_no_line_is_lost_whatever_the_axes(tmp_path: Path) -> None:
    grid = load_grid(small(tmp_path))
    for rows, columns in ((("model",), ("attack",)), (("attack",), ("defense",)), (("eps", "norm"), ("seed",))):
        assert len(pivoted(grid, rows, columns).lines) == len(grid.lines) + len(grid.clean) + len(grid.worst)


def test_radii_ascend_by_size_and_not_by_letters(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for eps in ("16/255", "4/255", "0.5", "8/255"):
        made.put(cell_of("pgd", eps), [1, 0], [1, 1])
    pivot = pivoted(load_grid(tmp_path))
    heads = map(pivot.head, pivot.column_places)
    assert [eps for above, eps in heads if above == "pgd"] == ["4/255", "8/255", "16/255", "0.5"]


def test_an_unfinished_line_is_never_the_best(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), [1, 0, 0, 0], [1] * 4)
    made.put(cell_of("pgd", defense="jpeg"), [1, 1], [1, 1], wanted=4)
    made.put(cell_of("pgd", defense="bits"), [1, 1, 0, 0], [1] * 4)
    best = {row[1] for row, column in pivoted(load_grid(tmp_path)).best if column[0] == "pgd"}
    assert best == {"bits"}


def test_a_worst_case_over_fewer_attacks_is_never_the_best(tmp_path: Path) -> None:
    made = Made(small(tmp_path))
    made.put(cell_of("fgsm", defense="bits"), [1] * 10, [1] * 10)
    pivot = pivoted(load_grid(tmp_path))
    assert {row[1] for row, _ in pivot.narrow} == {"bits"}
    assert {row[1] for row, column in pivot.best if column[0] == "worst case"} == {"jpeg"}


def test_rows_are_sorted_by_a_column_with_the_highest_first(tmp_path: Path) -> None:
    pivot = pivoted(load_grid(small(tmp_path)))
    assert [row[1] for row in pivot.sorted("worst").row_places] == ["jpeg", "none"]
    assert [row[1] for row in pivot.sorted("pgd@8/255", reverse=True).row_places] == ["none", "jpeg"]
    assert [row[1] for row in pivot.sorted("name").row_places] == ["jpeg", "none"]
    with pytest.raises(InputError, match="Did you mean 'pgd'"):
        pivot.sorted("pdg")


def test_of_several_stages_the_last_is_shown_by_the_attacks_own_name(tmp_path: Path) -> None:
    made = Made(tmp_path)
    stages = (Stage("first", ("first()",)), Stage("second", ("second()",)))
    cell = cell_of("both", stages=stages)
    made.put(cell, [1, 0, 1], [1, 1, 1])
    pivot = pivoted(load_grid(tmp_path))
    assert [pivot.head(column) for column in pivot.column_places][1] == ("both", "8/255")
    assert [line.attack for (_, column), line in pivot.lines.items() if column[0] == "both"] == ["second"]


def test_a_stage_is_never_shown_by_the_name_of_the_whole(tmp_path: Path) -> None:
    grid = load_grid(staged(tmp_path))
    whole = {column[0]: line.accuracy.value for (_, column), line in pivoted(grid).lines.items()}
    assert whole == {"none": 1.0, "both": 0.5, "worst case": 0.5}
    part = {column[0]: line for (_, column), line in pivoted(filtered(grid, ["attack=first"])).lines.items()}
    assert {name: line.accuracy.value for name, line in part.items()} == {
        "none": 1.0, "both: first": 0.75, "worst case": 0.75
    }  # fmt: skip
    assert part["worst case"].over == ("both: first",)


def test_stages_stand_before_the_whole_in_their_order(tmp_path: Path) -> None:
    pivot = pivoted(load_grid(staged(tmp_path)), stages=True)
    assert [column[0] for column in pivot.column_places] == ["none", "both: first", "both", "worst case"]


def test_a_worst_case_without_a_models_own_transfer_is_not_over_fewer_attacks(tmp_path: Path) -> None:
    pivot = pivoted(filtered(load_grid(moved(tmp_path)), ["defense=none"]))
    worst = {row[0]: line for (row, column), line in pivot.lines.items() if column[0] == "worst case"}
    assert worst["ann"].over == ("pgd", "pgd via bob", "pgd via cid")
    assert not pivot.narrow
    assert {row[0] for row, column in pivot.best if column[0] == "worst case"} == {"cid"}
    narrow = pivoted(filtered(load_grid(tmp_path), ["defense=none", "attack!=pgd via bob"])).narrow
    assert not narrow, "ann and cid have one less, and bob's own attack counts for it"
    made = Made(tmp_path)
    made.put(cell_of("pgd", model="dan"), [1] * 4, [1] * 4)
    assert {row[0] for row, _ in pivoted(filtered(load_grid(tmp_path), ["defense=none"])).narrow} == {"dan"}


def test_surrogates_are_a_key_of_their_own(tmp_path: Path) -> None:
    pivot = pivoted(load_grid(moved(tmp_path)), ("model", "defense"), ("surrogate", "eps"))
    attacked = {
        (row, dict(zip(pivot.columns, column, strict=True))["surrogate"]): line.accuracy.value
        for (row, column), line in pivot.lines.items()
        if "pgd" in column
    }
    assert attacked[("ann", "none"), "itself"] == 0.25
    assert attacked[("ann", "none"), "bob"] == 0.75
    assert attacked[("cid", "jpeg"), "undefended"] == 0.75
    assert len(attacked) == 3 * 3 + 2


def test_without_attack_a_line_stands_at_every_radius_of_its_row(tmp_path: Path) -> None:
    made = Made(small(tmp_path))
    made.put(cell_of("pgd", "4/255"), [1] * 5 + [0] * 5, [1] * 8 + [0] * 2)
    pivot = pivoted(load_grid(tmp_path), ("attack",), ("eps", "defense"))
    assert set(pivot.column_places) == {("4/255", "none"), ("8/255", "none"), ("8/255", "jpeg")}
    bare = {column: line.accuracy.value for (row, column), line in pivot.lines.items() if row == ("none",)}
    assert bare == dict.fromkeys(pivot.column_places, 0.8)


def test_a_way_to_train_tells_its_weights_apart_by_itself(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for defense, weights in (("none", "standard"), ("jpeg", "standard"), ("pgd-at", "robust")):
        made.put(cell_of("pgd", defense=defense, model_hash=weights), [1, 0], [1, 1], weights=weights)
    assert pivoted(load_grid(tmp_path)).rows == ("model", "defense")
    assert pivoted(load_grid(tmp_path), ("attack",), ("defense",)).rows == ("attack",)
    made.put(cell_of("pgd", model_hash="other"), [1, 0], [1, 1], weights="other")
    assert "weights" in pivoted(load_grid(tmp_path)).rows


def test_a_column_is_called_by_any_of_its_names(tmp_path: Path) -> None:
    made = Made(small(tmp_path))
    made.put(cell_of("pgd", "4/255"), [1] * 5 + [0] * 5, [1] * 8 + [0] * 2)
    pivot = pivoted(load_grid(tmp_path), ("model", "defense"), ("eps", "attack"))
    for name in ("pgd", "pgd@8/255", "8/255@pgd"):
        assert pivot.column(name) == ("8/255", "pgd")
    assert pivot.column("pgd@4/255") == ("4/255", "pgd")
    assert pivot.column("worst") == ("8/255", "worst case")
    turned = pivoted(load_grid(tmp_path), ("attack",), ("defense",))
    assert turned.column("jpeg") == ("8/255", "jpeg")


def test_a_worst_case_is_not_complete_before_every_attack_has_begun(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd", defense="jpeg"), [1, 1, 0], [1] * 3)
    made.put(cell_of("pgd"), [1, 0, 0], [1] * 3)
    waiting = cell_of("fgsm", defense="jpeg")
    made.store.add(Record(waiting, {"weights": "here", "data": "signs"}))
    made.store.write_study(Study("", {**made.samples, waiting.key: 3}))
    grid = load_grid(tmp_path)
    worst = {line.defense: line for line in grid.worst}
    assert (worst["jpeg"].lacking, worst["jpeg"].complete) == (("fgsm",), False)
    assert (worst["none"].lacking, worst["none"].complete) == ((), True)
    assert "worst case" not in {column[0] for _, column in pivoted(grid).best}
    assert all(line.complete for line in filtered(grid, ["attack!=fgsm"]).worst), "it was not asked for"
    made.store.write(waiting, (0, 3), facts_of(waiting, [1, 1, 1]))
    assert all(line.complete for line in load_grid(tmp_path).worst)


def test_no_two_lines_share_a_place_whatever_tells_them_apart(tmp_path: Path) -> None:
    made = Made(tmp_path)
    apart = [{}, {"defense_hash": "other"}, {"surrogate_hash": "one"}, {"precision": "mixed"}, {"data_hash": "e" * 8}]
    for more in apart:
        made.put(cell_of("pgd", defense="jpeg", **more), [1, 0], [1, 1])
    pivot = pivoted(load_grid(tmp_path))
    assert all(len(lines) == 1 for lines in pivot.cells.values())
    assert sum(column[0] == "pgd" for _, column in pivot.lines) == len(apart)


def test_what_cannot_be_told_from_the_best_is_a_tie(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for defense, stands in (("none", 60), ("jpeg", 58), ("bits", 30)):
        made.put(cell_of("pgd", defense=defense), [1] * stands + [0] * (100 - stands), [1] * 100)
    pivot = pivoted(load_grid(tmp_path))
    told = {(row[1], column[0]) for row, column in pivot.ties}
    assert told == {("jpeg", "pgd"), ("jpeg", "worst case")}, "2 of 2 pairs may be chance, 30 of 30 are not"
    assert {row[1] for row, _ in pivot.best} == {"none"}


def test_of_two_sweeps_over_other_radii_each_question_is_answered_once(tmp_path: Path) -> None:
    made = Made(tmp_path)
    wide = cell_of("pgd", radii=("4/255", "8/255"), stages=(Stage("pgd", ("pgd(Linf(4/255))", "pgd(Linf(8/255))")),))
    made.put(wide, [1, 1, 1, 0], [1] * 4, made="2026-01-01T00:00:00Z")
    alone = made.put(cell_of("pgd"), [1, 0], [1] * 2, made="2026-02-02T00:00:00Z")
    made.store.write_study(Study("", {alone.key: 2}))
    grid = load_grid(tmp_path)
    assert [(line.eps, line.n) for line in grid.lines] == [("8/255", 2), ("4/255", 4)]
    assert {line.eps: line.n for line in grid.worst} == {"4/255": 4, "8/255": 2}
    assert grid.hidden == 0, "the first sweep's cell is still there at another radius"
    assert len(load_grid(tmp_path, outdated=True).lines) == 3
    made.store.write_study(Study("", {wide.key: 4}))
    again = load_grid(tmp_path)
    assert ([(line.eps, line.n) for line in again.lines], again.hidden) == ([("4/255", 4), ("8/255", 4)], 1)
    made.store.write_study(Study("", {alone.key: 2, wide.key: 4}))  # as a merge does
    assert [line.n for line in load_grid(tmp_path).lines] == [4, 4], "the one of more examples"


def test_one_search_for_all_radii_and_one_at_each_stand_beside_each_other(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for nested, stands in ((True, [1, 0]), (False, [1, 1])):
        made.put(cell_of("pgd", stages=(Stage("pgd", ("pgd(Linf(8/255))",), nested),)), stands, [1, 1])
    pivot = pivoted(load_grid(tmp_path))
    found = {pivot.head(column): line.accuracy.value for (_, column), line in pivot.lines.items()}
    assert (found["pgd", "independent 8/255"], found["pgd", "nested 8/255"]) == (1.0, 0.5)
