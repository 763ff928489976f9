"""Numbers derived from made-up facts, and the interval by hand."""

from __future__ import annotations

import math

import pytest
import torch

from advkit.core import L2, Linf
from advkit.errors import InputError
from advkit.results.outcome import Evaluation, Outcome
from advkit.results.statistics import share

LABELS = torch.tensor([0, 0, 0, 1, 1])
CLEAN = torch.tensor([0, 0, 0, 1, 0])  # the last is wrong without attack


def outcome(
    name: str, predictions: list[int], eps: str = "8/255", *, follows: str = "", attacked: object = None
) -> Outcome:
    prediction = torch.tensor(predictions)
    chosen = CLEAN == LABELS if attacked is None else torch.tensor(attacked)
    return Outcome(
        name=name,
        attack=name,
        threat=Linf(eps),
        attacked=chosen,
        success=chosen & (prediction != LABELS),
        prediction=prediction,
        distance=torch.tensor([0.01, 0.02, 0.03, 0.04, 0.05], dtype=torch.float64),
        steps=torch.ones(5, dtype=torch.long),
        forwards=torch.tensor([1, 2, 3, 4, 0]),
        backwards=torch.tensor([1, 1, 1, 1, 0]),
        seconds=1.23456,
        follows=follows,
    )


def evaluation(*outcomes: Outcome, classes: tuple[str, ...] = ("stop", "yield")) -> Evaluation:
    return Evaluation(
        "net", "here", "signs", "linf", 0, "cpu", "float32", classes, LABELS, CLEAN, outcomes
    )  # fmt: skip


def test_the_worst_case_is_taken_example_by_example() -> None:
    # Each attack leaves two of four standing; together they leave one.
    result = evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("b", [0, 1, 1, 1, 0]))
    assert [row.accuracy.value for row in result.rows()] == [2 / 5, 2 / 5]
    assert [accuracy.value for _, accuracy in result.worst()] == [1 / 5]


def test_each_radius_has_its_own_worst_case() -> None:
    result = evaluation(outcome("a", [0, 0, 0, 1, 0], "1/255"), outcome("a", [1, 1, 1, 0, 0], "2/255"))
    assert result.radii == ("1/255", "2/255")
    assert [accuracy.value for _, accuracy in result.worst()] == [4 / 5, 0]


def test_success_counts_what_was_right_and_the_median_only_successes() -> None:
    (row,) = evaluation(outcome("a", [1, 0, 1, 0, 0])).rows()
    assert row.success == 3 / 4
    assert row.median_distance == 0.03
    assert (row.forwards, row.backwards) == (10, 4)
    assert row.to_json()["seconds"] == 1.235


def test_an_attack_without_success_has_no_distance() -> None:
    (row,) = evaluation(outcome("a", [0, 0, 0, 1, 0])).rows()
    assert (row.success, row.median_distance) == (0, None)


def test_a_stage_counts_what_the_stages_before_beat() -> None:
    first = outcome("a", [1, 0, 0, 1, 0])
    second = outcome("b", [0, 1, 0, 1, 0], follows="a", attacked=[False, True, True, True, False])
    rows = evaluation(first, second).rows()
    assert [row.success for row in rows] == [1 / 4, 2 / 4]
    assert [row.accuracy.value for row in rows] == [3 / 5, 2 / 5]


def test_a_model_that_is_always_wrong_leaves_nothing_to_divide_by() -> None:
    nobody = torch.zeros(5, dtype=torch.bool).tolist()
    result = Evaluation(
        "net", "", "d", "linf", 0, "cpu", "float32", (), LABELS, 1 - LABELS, (outcome("a", [0] * 5, attacked=nobody),)
    )  # fmt: skip
    assert result.clean_accuracy.value == 0
    assert result.rows()[0].success == 0
    assert result.worst()[0][1].value == 0


def test_classes_are_counted_apart() -> None:
    result = evaluation(outcome("a", [1, 0, 0, 1, 0]))
    assert result.per_class() == [("stop", 3, 3, [2]), ("yield", 2, 1, [1])]
    assert result.per_class_json()[1] == {
        "class": "yield", "n": 2, "clean": 0.5, "worst": [{"eps": "8/255", "accuracy": 0.5}],
    }  # fmt: skip


def test_a_class_without_a_name_goes_by_its_number() -> None:
    assert evaluation(classes=("stop",)).name_of(1) == "1"


def test_stories_tell_what_became_of_each_attacked_example() -> None:
    told = evaluation(outcome("a", [1, 0, 0, 1, 0])).stories()
    assert told[0] == "stop -> yield under a at Linf 8/255 (0.0314)"
    assert len(told) == 4


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 50), (17, 50), (50, 50), (534, 1000)])
def test_the_interval_is_wilsons(count: int, total: int) -> None:
    z, p = 1.959963984540054, count / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    value, low, high = share(count, total)
    assert value == p
    assert low == pytest.approx(middle - half, abs=1e-9)
    assert high == pytest.approx(middle + half, abs=1e-9)
    assert 0 <= low <= value <= high <= 1


def test_a_share_is_written_in_percent() -> None:
    assert share(17, 50).percent == "34.0 [22.4, 47.8]"


def test_a_result_prints_as_a_reader_wants_it() -> None:
    result = evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("b", [1, 1, 1, 1, 0], follows="a"))
    lines = str(result).splitlines()
    assert lines[0] == "net (weights here) on signs, n = 5, linf, seed 0"
    assert lines[1].startswith("none (clean): 80.0 [")
    assert lines[2].startswith("a at 8/255: 40.0 [")
    assert lines[3].startswith("+ b at 8/255: 20.0 [")
    assert lines[4].startswith("worst case at 8/255: 20.0 [")


def test_a_radius_is_known_by_its_text_and_by_its_value() -> None:
    result = evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("a", [1, 0, 0, 1, 0], "4/255"))
    assert result.stands("8/255").tolist() == [False, False, True, True, False]
    for radius in (4 / 255, "4/255", "4px"):
        assert result.stands(radius).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize("radius", ["0.5", 0.5, "nonsense", None, float("nan"), True, (4, 255)])
def test_a_radius_that_was_not_asked_is_refused_with_those_that_were(radius: object) -> None:
    result = evaluation(outcome("a", [1, 1, 0, 1, 0]), outcome("a", [1, 0, 0, 1, 0], "4/255"))
    with pytest.raises(InputError, match=r"^nothing is known of the radius .*; there are 8/255, 4/255\.$"):
        result.stands(radius)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"; no attack was run\.$"):
        evaluation().stands(radius)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "threat"), [("b", Linf("8/255")), ("a", None), ("a", L2(0.5)), (None, "8/255")])
def test_an_outcome_that_there_is_not_is_refused_with_those_that_there_are(name: object, threat: object) -> None:
    result = evaluation(outcome("a", [1, 1, 0, 1, 0]))
    assert result.outcome("a", Linf("8/255")) is result.outcomes[0]
    with pytest.raises(InputError, match=r"there is no outcome of .*; there are: a in Linf\(eps=8/255\)\.$"):
        result.outcome(name, threat)  # type: ignore[arg-type]
