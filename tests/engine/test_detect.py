"""``detect``: thresholds on one half, attacks that do not know the detector and one that does on the other."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import trained
from torch import Tensor, nn

from advkit import load_data, load_model
from advkit.attacks import FGSM, PGD
from advkit.core import Linf, Margin
from advkit.core.detector import Detector
from advkit.data import TensorData
from advkit.defenses.feature_squeezing import FeatureSqueezing
from advkit.engine.detect import Detection, area, detect, usual_attack
from advkit.errors import InputError
from advkit.results.roc import Curve, draw_roc
from advkit.results.statistics import share

BALL = Linf(0.06)


@cache
def net() -> tuple[nn.Module, TensorData]:
    model, x, y = trained()
    generator = torch.Generator().manual_seed(3)
    more = [x, *((x + 0.02 * torch.randn(x.shape, generator=generator, dtype=x.dtype)).clamp(0, 1) for _ in range(2))]
    return copy.deepcopy(model).float(), TensorData(torch.cat(more).float(), y.repeat(3), name="patterns")


@cache
def detected(detector: Detector, weight: float = 5.0) -> Detection:
    model, data = net()
    return detect(model, data, detector, PGD(BALL, steps=8, loss=Margin()), weight=weight)


@dataclass(frozen=True)
class Nothing(Detector):
    """Scores that hang on one corner pixel, of which the attacks of a model know nothing."""

    def score(self, model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return x[:, 0, 0, 0]


@dataclass(frozen=True)
class Sure(Detector):
    """Scores of how sure the model is: clean pictures at the top."""

    def score(self, model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return model(x).softmax(1).amax(1)


def test_an_attack_that_knows_the_detector_passes_unseen_where_others_are_caught() -> None:
    first, steps, adaptive = detected(FeatureSqueezing("bits:3")).attacks
    assert first.detected is not None
    assert adaptive.detected is not None
    assert first.detected.value > 0.5
    assert adaptive.unseen.value > first.unseen.value + 0.2
    assert adaptive.unseen.value >= steps.unseen.value
    assert adaptive.detected.value < first.detected.value - 0.2


def test_the_threshold_flags_a_share_of_the_first_half_and_no_more() -> None:
    model, data = net()
    detector = FeatureSqueezing("bits:3")
    x, _ = data.tensors()
    scores = detector.score(model, x).detach().double().numpy()
    half = len(x) // 2
    result = detected(detector)
    assert int((scores[:half] > result.threshold).sum()) == int(0.05 * half)
    np.testing.assert_allclose(result.clean, scores[half:], atol=1e-6)
    flagged = int((scores[half:] > result.threshold).sum())
    assert result.false_positives == share(flagged, len(x) - half)


def test_the_numbers_are_those_of_the_pictures_that_the_attack_makes() -> None:
    model, data = net()
    detector = FeatureSqueezing("bits:3")
    result = detected(detector)
    x, y = (part[len(data) // 2 :] for part in data.tensors())
    right = model(x).argmax(1) == y
    x, y = x[right], y[right]
    for found, keep in zip(result.attacks, ("first", "best"), strict=False):
        x_adv = PGD(BALL, steps=8, loss=Margin())(model, x, y, keep=keep)
        wrong = model(x_adv).argmax(1) != y
        scores = detector.score(model, x_adv)[wrong].detach().double().numpy()
        np.testing.assert_allclose(found.scores, scores, atol=1e-4)
        assert found.attacked == len(x)
        assert found.fooled == share(int(wrong.sum()), len(x))
        assert found.unseen == share(int((scores <= result.threshold).sum()), len(x))
        assert found.detected == share(int((scores > result.threshold).sum()), int(wrong.sum()))


def test_a_score_that_the_attack_does_not_touch_is_worth_a_coin() -> None:
    _, steps, _ = detected(Nothing()).attacks
    assert steps.area is not None
    assert steps.area.low < 0.75
    assert steps.area.high > 0.25


def test_a_detector_that_flags_the_sure_is_blind_to_first_successes() -> None:
    first, _, adaptive = detected(Sure()).attacks
    assert first.area is not None
    assert first.area.value < 0.2
    assert adaptive.unseen.value > 0.5


def test_a_greater_weight_makes_pictures_of_lower_score() -> None:
    light, heavy = (detected(FeatureSqueezing("bits:3"), weight).attacks[2].scores for weight in (0.1, 4.0))
    assert heavy.mean() < light.mean()


def test_the_model_comes_back_as_it_was() -> None:
    model, data = net()
    model = copy.deepcopy(model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    detect(model, data, FeatureSqueezing("bits:3"), FGSM(BALL))
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# ---------------------------------------------------------------------- the area under the curve


def test_the_area_is_the_chance_that_an_attacked_picture_scores_higher() -> None:
    generator = np.random.default_rng(0)
    attacked, clean = generator.integers(0, 9, 30) / 8 + 0.2, generator.integers(0, 9, 40) / 8
    attacked = np.round(attacked, 1)
    clean = np.round(clean, 1)
    pairs = [(a > c) + 0.5 * (a == c) for a, c in itertools.product(attacked, clean)]
    found = area(attacked, clean)
    assert abs(found.value - np.mean(pairs)) < 1e-12
    curve = Curve.of("made up", attacked, clean)
    assert abs(np.trapezoid(curve.true, curve.false) - found.value) < 1e-12
    assert (curve.false[0], curve.true[0], curve.false[-1], curve.true[-1]) == (0, 0, 1, 1)


def test_the_interval_of_the_area_holds_the_truth_as_often_as_it_says() -> None:
    """Two normal distributions one apart: the area is the chance that their difference, N(1, 2), is above 0: 0.7602."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        found = area(generator.normal(1, 1, 40), generator.normal(0, 1, 60))
        held += found.low <= 0.76025 <= found.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize(("attacked", "value"), [(2.0, 1.0), (-2.0, 0.0)])
def test_where_all_scores_are_apart_the_interval_still_has_a_width(attacked: float, value: float) -> None:
    found = area(np.full(20, attacked), np.linspace(-1, 1, 50))
    assert found.value == value
    assert 0.1 < found.high - found.low < 0.2


# ---------------------------------------------------------------------- what is said


def test_a_figure_has_a_line_for_each_attack(tmp_path: Path) -> None:
    result = detected(FeatureSqueezing("bits:3"))
    curves = [found.curve for found in result.attacks if found.curve is not None]
    draw_roc(curves, tmp_path / "roc.svg", result.table().caption)
    text = (tmp_path / "roc.svg").read_text()
    assert all(found.name in text for found in result.attacks)
    draw_roc(curves, tmp_path / "again.svg", result.table().caption)
    assert (tmp_path / "again.svg").read_text() == text


def test_too_little_to_go_by_is_refused_by_a_sentence() -> None:
    model, data = net()
    with pytest.raises(InputError, match="39 pictures of patterns are too few"):
        detect(model, data, FeatureSqueezing("bits:3"), samples=39)
    with pytest.raises(InputError, match="weight of the detector's score is 0"):
        detect(model, data, FeatureSqueezing("bits:3"), weight=0)
    with pytest.raises(InputError, match="leave out targets"):
        detect(model, data, FeatureSqueezing("bits:3"), replace(usual_attack(), targets=2))


@pytest.mark.real
@pytest.mark.slow
def test_on_cifar_what_feature_squeezing_finds_of_careless_attacks_it_misses_of_adaptive_ones(real_data: Path) -> None:
    data = load_data(real_data / "cifar10_test_1000.npz", samples=120)
    weights = real_data / "weights" / "cifar10_resnet20.safetensors"
    model = load_model("resnet20", weights=weights, normalize="imagenet", data=data)
    first, _, adaptive = detect(
        model, data, FeatureSqueezing("bits:5;median:2"), usual_attack(Linf("4/255"), steps=15)
    ).attacks
    assert first.area is not None
    assert first.area.value > 0.6
    assert adaptive.unseen.value > first.unseen.value + 0.1
    assert adaptive.unseen.value > 0.75
