"""Checks of results that a defense which hides its gradients, or a careless comparison, does not pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stores import Made, cell_of, facts_of

from advkit.results.asked import Asked
from advkit.results.cell import Cell, Stage, oblivious, via
from advkit.results.grid import load_grid
from advkit.results.store import Record
from advkit.results.verdicts import FAIL, PASS, WARN, Verdict, verdicts

KNOWING = "Attacks that know a model beat those that do not"
STEPS = "Attacks of many steps beat what one step beats"
SCORES = "Attacks by gradient beat what attacks by scores beat"
THEMSELVES = "Every setting meets attacks that know it"
TWENTY = [1] * 20


def judged(made: Made) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in verdicts(load_grid(made.store.folder))}


def left(standing: int, of: int = 20) -> list[int]:
    """Who stands: the first so many."""
    return [1] * standing + [0] * (of - standing)


def take(made: Made, cell: Cell, stands: Sequence[int], backwards: int, **changes: object) -> Cell:
    """Put a cell whose attack went backwards so often for each example that it met."""
    made.put(cell, stands, [1] * len(stands))
    facts = facts_of(cell, stands, [1] * len(stands))
    changed = replace(facts, backwards=facts.attacked * backwards, steps=facts.attacked * max(1, backwards), **changes)  # type: ignore[arg-type]
    made.store.write(cell, (0, len(stands)), changed)
    return cell


@pytest.mark.parametrize(
    ("knowing", "not_knowing", "level"),
    [(left(8), left(2), FAIL), (left(0), left(20), PASS), (left(3), left(1), WARN), (left(3), left(2), PASS)],
)
def test_a_replayed_attack_must_not_beat_the_one_that_knows(
    tmp_path: Path, knowing: list[int], not_knowing: list[int], level: str
) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd", defense="jpeg:75"), knowing, TWENTY)
    made.put(cell_of(oblivious("pgd"), defense="jpeg:75", surrogate="net"), not_knowing, TWENTY)
    found = judged(made)[KNOWING]
    assert found.level == level, found
    assert ("6 examples" in found.sentence) == (level == FAIL)
    assert found.code == "P14"


def test_what_knows_is_all_of_it_together(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("fgsm", defense="jpeg:75"), left(12), TWENTY)
    made.put(cell_of("pgd", defense="jpeg:75"), left(0), TWENTY)
    made.put(cell_of(oblivious("fgsm"), defense="jpeg:75", surrogate="net"), left(6), TWENTY)
    assert judged(made)[KNOWING].level == PASS, "one step is weaker, but who knows has pgd too"


def test_pictures_of_another_model_count_as_not_knowing(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), left(10), TWENTY)
    made.put(cell_of(via("pgd", "other"), surrogate="other"), left(1), TWENTY)
    found = judged(made)[KNOWING]
    assert found.level == FAIL
    assert "9 examples of 20 fall only to what was made without knowing it (pgd via other)" in found.sentence


def test_without_a_defense_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), [1, 0])
    assert KNOWING not in judged(made)


def test_how_many_steps_an_attack_takes_is_read_from_what_it_took_and_not_from_its_name(tmp_path: Path) -> None:
    made = Made(tmp_path)
    take(made, cell_of("somebodys-step"), left(5), 1)
    take(made, cell_of("somebodys-search"), left(12), 30)
    found = judged(made)[STEPS]
    assert (found.level, found.code) == (FAIL, "P4")
    assert (
        "somebodys-step at 8/255 on net beats 7 examples of 20 that somebodys-search leaves standing" in found.sentence
    )


@pytest.mark.parametrize(("one", "many"), [(left(12), left(5)), (left(12), left(13))])
def test_many_steps_that_find_as_much_pass(tmp_path: Path, one: list[int], many: list[int]) -> None:
    made = Made(tmp_path)
    take(made, cell_of("fgsm"), one, 1)
    take(made, cell_of("pgd"), many, 30)
    assert judged(made)[STEPS].level == PASS


def test_two_attacks_of_one_step_are_not_compared(tmp_path: Path) -> None:
    made = Made(tmp_path)
    take(made, cell_of("fgsm"), left(12), 1)
    take(made, cell_of("rs-fgsm"), left(2), 1)
    assert STEPS not in judged(made)


def test_scores_that_find_what_gradients_do_not_are_seen(tmp_path: Path) -> None:
    made = Made(tmp_path)
    take(made, cell_of("pgd"), left(15), 40)
    take(made, cell_of("square"), left(4), 0)
    found = judged(made)[SCORES]
    assert (found.level, found.code) == (FAIL, "P9")
    assert "square at 8/255 on net beats 11 examples of 20" in found.sentence


def test_of_a_chain_each_stage_answers_for_what_it_met(tmp_path: Path) -> None:
    """Square after APGD: what APGD has beaten is not Square's, what only Square beats is."""
    stages = (Stage("apgd", ("APGD(Linf(8/255))",)), Stage("square", ("Square(Linf(8/255))",)))
    cell = replace(cell_of("pgd"), attack="chain", stages=stages)
    made = Made(tmp_path)
    made.put(cell, left(2), TWENTY)
    both = facts_of(cell, left(2), TWENTY)
    fell = np.arange(20) >= 9
    later = np.arange(20) >= 2
    success = np.stack([fell, later & ~fell])[:, None]
    attacked = np.stack([np.ones(20, bool), ~fell])[:, None]
    made.store.write(
        cell,
        (0, 20),
        replace(
            both,
            attacked=attacked,
            success=success,
            prediction=np.where(np.stack([fell, later])[:, None], (both.labels + 1) % 3, both.labels),
            backwards=attacked * np.array([40, 0])[:, None, None],
        ),
    )
    found = judged(made)
    assert found[SCORES].level == FAIL
    assert "square at 8/255 on net beats 7 examples of 20 that apgd leaves standing" in found[SCORES].sentence
    assert STEPS not in found


def test_a_control_that_beats_more_than_the_search_is_seen(tmp_path: Path) -> None:
    made = Made(tmp_path)
    cell = cell_of("tape", norm="area", eps="0.05")
    take(made, cell, left(16), 0, controls={"random": np.array([left(20)], bool)})
    found = judged(made)["Searches beat their controls"]
    assert found.level == FAIL
    assert "The control of tape at 0.05 on net (random) beats 16 examples of 20 more than the search" in found.sentence
    take(made, cell, left(2), 0, controls={"random": np.array([left(5)], bool)})
    assert judged(made)["Searches beat their controls"].level == PASS


def test_what_was_only_shown_pictures_of_others_is_said(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), left(1), TWENTY)
    assert judged(made)[THEMSELVES].level == PASS
    made.put(cell_of(via("pgd", "net"), model="lone", surrogate="net"), left(18), TWENTY)
    found = judged(made)
    assert found[THEMSELVES].level == WARN
    assert found[THEMSELVES].sentence.startswith("lone met only what was made on another model")
    assert found["The largest radius brings accuracy down to chance"].level == PASS, "of those that were attacked"


def test_one_step_that_overshoots_is_no_failed_search(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for eps, standing in (("4/255", 2), ("8/255", 14)):
        take(made, cell_of("fgsm", eps), left(standing), 1)
    found = judged(made)["Accuracy never rises with the radius"]
    assert found.level == WARN
    assert "overshoots" in found.sentence


@pytest.mark.parametrize(("rise", "level"), [(1, PASS), (3, WARN), (9, FAIL)])
def test_a_rise_that_luck_explains_is_none(tmp_path: Path, rise: int, level: str) -> None:
    made = Made(tmp_path)
    take(made, cell_of("pgd", "4/255"), left(4), 40)
    take(made, cell_of("pgd", "8/255"), left(4 + rise), 40)
    assert judged(made)["Accuracy never rises with the radius"].level == level


def test_a_later_stage_may_have_less_left_to_do_at_a_larger_radius(tmp_path: Path) -> None:
    """What counts is what it and the stages before it leave standing, not what it beats itself."""
    stages = tuple(Stage(name, (f"{name}(4/255)", f"{name}(8/255)"), nested=True) for name in ("first", "second"))
    cell = replace(cell_of("pgd"), attack="chain", stages=stages, radii=("4/255", "8/255"))
    made = Made(tmp_path)
    made.put(cell, left(0), TWENTY)
    place = np.arange(20)
    fell = np.array([place < 8, place < 20])  # to the first stage, at both radii
    later = np.array([(place >= 8) & (place < 16), place < 0])
    attacked = np.stack([np.ones((2, 20), bool), ~fell])
    facts = facts_of(cell, left(0), TWENTY)
    gone = np.stack([fell, fell | later])
    predicted = np.where(gone, (facts.labels + 1) % 3, facts.labels)
    made.store.write(
        cell, (0, 20), replace(facts, attacked=attacked, success=np.stack([fell, later]), prediction=predicted)
    )
    assert judged(made)["Accuracy never rises with the radius"].level == PASS


def test_a_worst_case_over_fewer_attacks_is_said(tmp_path: Path) -> None:
    made = Made(tmp_path)
    for attack in ("fgsm", "pgd"):
        made.put(cell_of(attack), left(5), TWENTY)
    made.put(cell_of("fgsm", model="young"), left(9), TWENTY)
    name = "Models are compared under the same attacks"
    assert judged(made)[name].level == WARN
    assert "young has not met pgd" in judged(made)[name].sentence
    made.put(cell_of("pgd", model="young"), left(9), TWENTY)
    assert judged(made)[name].level == PASS


def test_two_sets_of_pictures_of_one_name_are_seen(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), left(5), TWENTY)
    made.put(cell_of("pgd", model="other", data_hash="e" * 8), left(5), TWENTY)
    found = judged(made)["Models are compared on the same examples"]
    assert found.level == WARN
    assert "2 sets of pictures" in found.sentence


def test_code_that_no_commit_holds_is_seen(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), left(5), TWENTY, git="abc123")
    assert judged(made)["The code can be had again"].level == PASS
    made.put(cell_of("fgsm"), left(5), TWENTY, git="abc123, changed")
    assert judged(made)["The code can be had again"].level == WARN


def test_each_network_has_code_of_its_own_and_they_are_one_version(tmp_path: Path) -> None:
    """A cell's code is the hash of advkit's and of its network's: between networks it tells nothing."""
    name = "One version of the code made all numbers"
    made = Made(tmp_path)
    made.put(cell_of("pgd", code="a"), left(5), TWENTY, git="abc123")
    made.put(cell_of("pgd", model="other", code="b"), left(5), TWENTY, git="abc123")
    assert judged(made)[name].level == PASS
    made.put(cell_of("pgd", model="third", code="c"), left(5), TWENTY, git="def456")
    assert judged(made)[name].level == WARN
    assert "abc123 and def456" in judged(made)[name].sentence
    made.put(cell_of("fgsm", code="b"), left(5), TWENTY, git="abc123")
    assert "2 versions did" in judged(made)[name].sentence


def test_what_models_were_asked_is_told_apart_from_the_results(tmp_path: Path) -> None:
    made = Made(tmp_path)
    cells = [made.put(cell_of(model=model), TWENTY) for model in ("one", "two")]
    for cell, level in zip(cells, (PASS, FAIL), strict=True):
        made.store.add_asked(cell, [Asked("P3", "Answers are logits", level, "They sum to one.", "Take the logits.")])
    asked = [verdict for verdict in verdicts(load_grid(tmp_path)) if verdict.asked]
    assert [(v.name, v.code, v.level) for v in asked] == [("Answers are logits", "P3", FAIL)]
    assert asked[0].sentence == "two: They sum to one. Take the logits."


def test_a_record_that_names_no_attack_is_still_judged(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.store.add(Record(cell_of(), {}))
    assert judged(made) == {}
