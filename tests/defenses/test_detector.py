"""The contract of detectors, and feature squeezing by its formula."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, pictures
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.detector import Detector
from advkit.defenses.bits import Bits
from advkit.defenses.feature_squeezing import FeatureSqueezing
from advkit.defenses.median import Median
from advkit.defenses.nlm import NonLocalMeans
from advkit.engine.defend import build_defense
from advkit.engine.detect import build_detector
from advkit.errors import InputError

DETECTORS = [e.create() for e in DEFENSES.entries() if isinstance(e.factory, type) and issubclass(e.factory, Detector)]
EVERY = pytest.mark.parametrize("detector", [*DETECTORS, FeatureSqueezing("bits:3;median:2")], ids=repr)
SIDE = (3, 16, 16)


def test_the_registry_has_detectors() -> None:
    assert {type(detector) for detector in DETECTORS} >= {FeatureSqueezing}


@EVERY
def test_each_picture_has_a_score_of_its_own(detector: Detector) -> None:
    model, x = Wide(), pictures(5, SIDE)
    kept = x.clone()
    scores = detector.score(model, x)
    assert scores.shape == (5,)
    assert bool(scores.isfinite().all())
    assert len(scores.unique()) == 5
    torch.testing.assert_close(torch.cat([detector.score(model, x[i : i + 1]) for i in range(5)]), scores)
    assert torch.equal(x, kept), "the caller's pictures are written to"


@EVERY
def test_a_score_has_a_gradient_that_an_attack_can_follow(detector: Detector) -> None:
    model, x = Wide(), pictures(5, SIDE)
    points = x.clone().requires_grad_()
    scores = detector.score(model, points)
    torch.testing.assert_close(scores.detach(), detector.score(model, x))
    (grad,) = torch.autograd.grad(scores.sum(), points)
    ahead = detector.score(model, (x - 0.002 * grad.sign()).clamp(0, 1))
    assert bool(ahead.mean() < scores.mean())


class Wide(torch.nn.Module):
    """A network of 8 x 8 pictures, on larger ones."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv_net()

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.inner(torch.nn.functional.avg_pool2d(x, x.shape[-1] // 8))
        return answer


def test_feature_squeezing_is_the_largest_l1_distance_of_the_softmax() -> None:
    model, x = conv_net(), pictures(6)
    one, other = (
        (model(x).softmax(1) - model(squeezer(x)).softmax(1)).abs().sum(1) for squeezer in (Bits(2), Median(2))
    )
    torch.testing.assert_close(FeatureSqueezing("bits:2;median:2").score(model, x), torch.maximum(one, other))
    torch.testing.assert_close(FeatureSqueezing("bits:2").score(model, x), one)
    assert bool((one > other).any())
    assert bool((one < other).any())


def test_what_a_squeezer_leaves_alone_scores_nothing_and_another_certain_class_scores_two() -> None:
    flat = torch.ones(3, *SIDE, dtype=torch.float64)
    assert bool((FeatureSqueezing("bits:4;median:2").score(Wide(), flat) == 0).all())
    turned = FeatureSqueezing("bits:1").score(
        lambda x: 1e4 * (x.mean((1, 2, 3)) - 0.2)[:, None] * torch.tensor([1.0, -1.0]), torch.full((1, *SIDE), 0.4)
    )
    assert float(turned) == 2


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        ((1, 28, 28), (Bits(1), Median(2))),
        ((3, 32, 32), (Bits(5), Median(2), NonLocalMeans(2 / 255, 3, 13))),
        ((3, 224, 224), (Bits(5), Median(2), NonLocalMeans(4 / 255, 3, 11))),
    ],
    ids=str,
)
def test_the_squeezers_are_those_published_for_such_pictures(
    shape: tuple[int, ...], published: tuple[object, ...]
) -> None:
    assert FeatureSqueezing().wrappers(torch.zeros(1, *shape)) == published


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("feature-squeezing:bits:9", "depth is 9"),
        ("feature-squeezing:cifr", "'cifr'"),
        ("feature-squeezing:pgd-at", "pgd-at does not stand in front of a model"),
        ("jpeg:75", "jpeg detects nothing"),
    ],
)
def test_what_is_no_detector_is_refused_by_a_sentence(text: str, part: str) -> None:
    with pytest.raises(InputError) as caught:
        build_detector(text)
    assert part in str(caught.value)
    assert str(caught.value).endswith(".")


def test_a_detector_stands_in_front_of_no_model() -> None:
    with pytest.raises(InputError, match="advkit detect"):
        build_defense("feature-squeezing")
