"""One list of smallest distances holds the accuracy at every radius and the median distance."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

from advkit.errors import DataError, InputError
from advkit.results.minimal import minimal_curve

INF = math.inf


def test_the_accuracy_at_a_radius_counts_who_lies_farther_away():
    curve = minimal_curve([0.1, 0.3, 0.2, INF, 0.05], [True, True, True, True, False])
    assert curve.clean.value == 0.8
    assert [curve.accuracy(r).value for r in (0, 0.099, 0.1, 0.15, 0.2, 0.3, 1, INF)] == [
        0.8, 0.8, 0.6, 0.6, 0.4, 0.2, 0.2, 0.2,
    ]  # fmt: skip
    assert curve.found == 3
    assert (curve.accuracy(0.15).low, curve.accuracy(0.15).high) == pytest.approx((0.2307, 0.8824), abs=1e-4)


def test_the_curve_is_a_falling_staircase_that_agrees_with_every_radius():
    distances = np.random.default_rng(0).gamma(2, 0.1, 200).round(2)
    distances[::7] = INF
    curve = minimal_curve(distances, np.arange(200) % 5 > 0)
    steps = curve.steps()
    assert steps[0][0] == 0.0
    assert [s[0] for s in steps] == sorted({s[0] for s in steps})
    assert all(a[1] > b[1] for a, b in itertools.pairwise(steps))
    for (radius, accuracy), after in zip(steps, [*steps[1:], (9.0, 0)], strict=True):
        assert curve.accuracy(radius).value == pytest.approx(accuracy)
        assert curve.accuracy((radius + after[0]) / 2).value == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("distances", "median"),
    [
        ([3.0, 1.0, 2.0], 2.0),
        ([4.0, 1.0, 2.0, 3.0], 2.0),
        ([1.0, INF, INF], INF),
        ([1.0, 2.0, INF, INF], 2.0),
        ([1.0, INF, INF, INF], INF),
        ([0.0], 0.0),
    ],
)
def test_the_median_is_the_radius_at_which_half_have_fallen(distances, median):
    curve = minimal_curve(distances, [True] * len(distances))
    assert curve.median == median
    if median < INF:
        assert curve.accuracy(median).value <= 0.5
    if 0 < median < INF:
        assert curve.accuracy(median * (1 - 1e-9)).value >= 0.5


@pytest.mark.parametrize("radius", [None, "abc", -1, math.nan, [], True])
def test_what_is_no_radius_is_refused(radius):
    with pytest.raises(InputError, match="eps is"):
        minimal_curve([0.1], [True]).accuracy(radius)


def test_a_radius_may_be_a_text():
    curve = minimal_curve([3 / 255, 9 / 255], [True, True])
    assert curve.accuracy("8/255") == curve.accuracy(8 / 255)
    assert curve.accuracy("8/255").value == 0.5


def test_who_is_wrong_without_attack_has_no_say_in_the_median():
    assert minimal_curve([0.0, 0.0, 5.0, math.nan], [False, False, True, False]).median == 5.0
    assert minimal_curve([1.0, 2.0], [False, False]).median is None
    assert minimal_curve([1.0, 2.0], [False, False]).clean.value == 0.0


def test_an_example_at_distance_0_stands_nowhere():
    curve = minimal_curve([0.0, 1.0], [True, True])
    assert curve.accuracy(0).value == 0.5
    assert curve.steps() == [(0.0, 0.5), (1.0, 0.0)]


def test_the_stable_form_is_plain_json_and_the_table_is_read_by_people():
    curve = minimal_curve(torch.tensor([0.1, INF, INF]).numpy(), torch.tensor([True, True, True]).numpy())
    found = json.loads(json.dumps(curve.to_json([0.05, 0.2]), allow_nan=False))
    assert found["median_distance"] is None
    assert [(row["eps"], round(row["accuracy"], 4)) for row in found["rows"]] == [(0.05, 1.0), (0.2, 0.6667)]
    assert [step["eps"] for step in found["curve"]] == [0.0, pytest.approx(0.1)]
    text = curve.table([0.05, 0.2]).splitlines()
    assert text[1].split()[:2] == ["0", "100.0"]
    assert text[3].split()[:2] == ["0.2", "66.7"]
    assert text[4] == "median distance: inf"


@pytest.mark.parametrize(
    ("distances", "correct", "error"),
    [
        ([1.0], [True, False], InputError),
        ([], [], InputError),
        ([-1.0], [True], DataError),
        ([math.nan], [True], DataError),
    ],
)
def test_what_is_no_list_of_distances_is_refused(distances, correct, error):
    with pytest.raises(error):
        minimal_curve(distances, correct)
