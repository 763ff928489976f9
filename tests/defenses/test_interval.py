"""Radii certified by interval bounds: exact where the network is linear, never above what an attack finds."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures, seeded, trained
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.core import Linf
from advkit.core.defense import Certificate
from advkit.core.rng import Rng, identify
from advkit.defenses.interval import Interval
from advkit.engine.defend import build_certifier
from advkit.errors import InputError, ModelError


def certify(certifier: Interval, model: nn.Module, x: Tensor, batch_size: int = 64) -> Certificate:
    return certifier.certify(model, x, Rng.of(0, identify(x)), batch_size)


def closed_form(model: nn.Module, x: Tensor) -> Tensor:
    """The distance in Linf to the nearest class boundary of a linear model, the box left aside."""
    weight = model[1].weight.detach()  # type: ignore[index]
    logits = model(x).detach()
    y = logits.argmax(1)
    reach = (weight[y][:, None] - weight).abs().sum(2)
    return ((logits.gather(1, y[:, None]) - logits) / reach).scatter(1, y[:, None], torch.inf).amin(1)


def test_on_a_linear_model_the_radius_is_the_closed_form() -> None:
    model, x = linear(), pictures(16, margin=0.2)
    expected = closed_form(model, x)
    assert float(expected.max()) < 0.2, "the box must not cut the ball"
    found = certify(Interval(halvings=40), model, x)
    torch.testing.assert_close(found.radius, expected, rtol=0, atol=1e-9)
    assert torch.equal(found.prediction, model(x).argmax(1))
    assert bool((found.radius <= expected).all())


def test_the_box_cuts_the_ball_and_the_radius_grows() -> None:
    model, x = linear(), pictures(16).round()  # black and white pixels: half of the ball lies outside
    weight = model[1].weight.detach()
    logits = model(x).detach()
    y = logits.argmax(1)
    towards = weight - weight[y][:, None]  # (B, K, D): the worst change raises class k against y
    flat = x.flatten(1)[:, None]
    open_way = torch.where(towards > 0, 1 - flat, flat) * towards.abs()
    gap = logits.gather(1, y[:, None]) - logits
    expected = (gap / open_way.sum(2)).scatter(1, y[:, None], torch.inf).amin(1).clamp(max=1)
    found = certify(Interval(halvings=40), model, x)
    torch.testing.assert_close(found.radius, expected, rtol=0, atol=1e-9)
    assert bool((found.radius > closed_form(model, x)).all())


def test_no_attack_succeeds_inside_a_certified_radius() -> None:
    for model, x in ((trained()[0], trained()[1][:8]), (conv_net(norm=True), pictures(8))):
        found = certify(Interval(), model, x)
        assert bool((found.radius > 0).all())
        for share in (0.5, 1.0):
            for i in range(len(x)):
                one, y = x[i : i + 1], found.prediction[i : i + 1]
                x_adv = PGD(Linf(share * float(found.radius[i])), steps=10)(model, one, y, seed=i, keep="last")
                assert torch.equal(model(x_adv).argmax(1), y)


def test_a_given_radius_is_certified_where_the_largest_is_not_smaller() -> None:
    model, x = conv_net(), pictures(32)
    largest = certify(Interval(), model, x).radius
    eps = float(largest.median())
    found = certify(Interval(eps=eps), model, x)
    assert torch.equal(found.radius, torch.where(largest >= eps, eps, 0.0))
    assert 0 < int((found.radius > 0).sum()) < 32
    assert found.radius.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_certificate_alone_and_in_any_batch(dtype: torch.dtype) -> None:
    model, x = conv_net(norm=True, dtype=dtype), pictures(6, dtype=dtype)
    together = certify(Interval(halvings=20), model, x)
    for batch_size in (1, 4):
        again = certify(Interval(halvings=20), model, x, batch_size)
        assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))
    assert all(
        torch.equal(a, b[2:3]) for a, b in zip(certify(Interval(halvings=20), model, x[2:3]), together, strict=True)
    )


def test_the_answers_are_those_of_the_network() -> None:
    model, x = conv_net(), pictures(7)
    found = Interval().predict(model, x, Rng.of(0, identify(x)), 3)
    assert torch.equal(found, model(x).argmax(1))
    assert torch.equal(found, certify(Interval(), model, x).prediction)


def test_a_constant_answer_holds_everywhere_and_a_tie_nowhere() -> None:
    model, x = linear(), pictures(3)
    with torch.no_grad():
        model[1].weight.zero_()  # type: ignore[operator, union-attr]
        assert certify(Interval(), model, x).radius.tolist() == [1.0, 1.0, 1.0]
        model[1].bias.zero_()  # type: ignore[operator, union-attr]
    assert certify(Interval(), model, x).radius.tolist() == [0.0, 0.0, 0.0]


class Mood(nn.Module):
    """Answers otherwise while torch.fx looks."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = seeded(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if isinstance(x, Tensor) else self.inner(x * 0.5)


def test_a_forward_pass_that_was_misread_is_noticed() -> None:
    with pytest.raises(ModelError, match="Mood answer otherwise"):
        certify(Interval(), Mood(), pictures(2))


def test_the_certifier_is_found_by_name_and_reads_fractions() -> None:
    assert build_certifier("interval:eps=8/255") == Interval(eps=8 / 255)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("interval:eps=2", "interval: eps is 2.0; give a number from 0 (the largest that can be certified) to 1."),
        ("interval:halvings=0", "interval: halvings is 0; give a whole number from 1 to 52."),
    ],
)
def test_settings_out_of_range_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_certifier(text)
    assert str(caught.value) == sentence


class Rounded(nn.Module):
    """Rounds its logits, as coarse arithmetic does; torch.fx does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.inner(x)
        return (logits * 200).round() / 200 if isinstance(x, Tensor) else logits


def test_rounding_of_the_network_is_allowed_for() -> None:
    x = pictures(16, margin=0.2)
    exact, rounded = (certify(Interval(), model, x) for model in (linear(), Rounded()))
    assert torch.equal(exact.prediction, rounded.prediction)
    assert bool((rounded.radius < exact.radius).all())
    assert bool((rounded.radius > 0.5 * exact.radius).any())
