"""A target is never the label, whatever the rule."""

from __future__ import annotations

import pytest
import torch

from advkit.core.rng import Rng
from advkit.engine.targets import RULES, choose_targets, class_number
from advkit.errors import InputError

LABELS = torch.arange(500) % 5
LOGITS = torch.randn(500, 5, generator=torch.Generator().manual_seed(0))
CLASSES = ("stop", "yield", "no entry", "2", "Left")


def choose(rule: str, seed: int = 0) -> torch.Tensor:
    return choose_targets(rule, LABELS, LOGITS, Rng.of(seed, torch.arange(500)), CLASSES)


@pytest.mark.parametrize("rule", RULES)
def test_no_rule_chooses_the_label(rule: str) -> None:
    targets = choose(rule)
    assert (targets != LABELS).all()
    assert ((targets >= 0) & (targets < 5)).all()


def test_next_is_the_class_behind_and_the_first_behind_the_last() -> None:
    assert torch.equal(choose("next"), (LABELS + 1) % 5)


def test_random_takes_each_other_class_about_equally_often() -> None:
    counts = torch.bincount((choose("random") - LABELS) % 5, minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() > 90
    assert torch.equal(choose("random"), choose("random"))
    assert not torch.equal(choose("random"), choose("random", seed=1))


def test_least_likely_is_the_lowest_score_of_another_class() -> None:
    targets = choose("least-likely")
    for i in range(20):
        others = [k for k in range(5) if k != LABELS[i]]
        assert targets[i] == min(others, key=lambda k: float(LOGITS[i, k]))


@pytest.mark.parametrize(
    ("text", "number"), [("stop", 0), ("no entry", 2), ("4", 4), ("2", 3), ("left", 4), ("YIELD", 1)]
)
def test_a_class_goes_by_name_or_number(text: str, number: int) -> None:
    assert class_number(text, CLASSES, 5) == number
    assert (choose(text) == number).all()


@pytest.mark.parametrize("text", ["5", "-1", "stpo", "", "²"])
def test_a_class_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is no class here\..*least-likely.*0 to 4"):
        class_number(text, CLASSES, 5)


def test_rules_are_named_only_where_they_would_do() -> None:
    with pytest.raises(InputError, match=r"^'nxt' is no class here\. Give a class number"):
        class_number("nxt", CLASSES, 5, rules=False)
