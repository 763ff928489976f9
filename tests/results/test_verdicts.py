"""Checks of results that a defense which hides its gradients does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest
from stores import Made, cell_of

from advkit.results.cell import oblivious
from advkit.results.grid import load_grid
from advkit.results.verdicts import FAIL, PASS, verdicts

NAME = "Attacks that know a defense beat those that do not"


@pytest.mark.parametrize(
    ("knowing", "not_knowing", "level"), [([1] * 8 + [0] * 12, [1] * 2 + [0] * 18, FAIL), ([0] * 20, [1] * 20, PASS)]
)
def test_a_replayed_attack_must_not_beat_the_one_that_knows(
    tmp_path: Path, knowing: list[int], not_knowing: list[int], level: str
) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd", defense="jpeg:75"), knowing, [1] * 20)
    made.put(cell_of(oblivious("pgd"), defense="jpeg:75", surrogate="net"), not_knowing, [1] * 20)
    found = {verdict.name: verdict for verdict in verdicts(load_grid(tmp_path))}
    assert found[NAME].level == level
    assert ("6 examples" in found[NAME].sentence) == (level == FAIL)


def test_without_a_defense_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made = Made(tmp_path)
    made.put(cell_of("pgd"), [1, 0])
    assert NAME not in {verdict.name for verdict in verdicts(load_grid(tmp_path))}
