"""Models that draw, and steps without a gradient: means over draws, verdicts that are no luck, generators left alone."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from helpers import Quantiser, trained
from torch import Tensor, nn

import advkit
from advkit.attacks import PGD
from advkit.core import Linf, Margin, Untargeted
from advkit.core.defense import RandomWrapper
from advkit.core.modes import reseeded
from advkit.core.rng import Rng
from advkit.engine.defend import defend
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.repeats import Repeats
from advkit.errors import InputError

BALL = Linf(0.06)


def net() -> nn.Module:
    return copy.deepcopy(trained()[0]).float()


def held() -> tuple[Tensor, Tensor]:
    _, x, y = trained()
    return x.float(), y


class Noisy(nn.Module):
    """Adds noise of which nobody is told, from torch's generator: the same for all pictures of a call."""

    def __init__(self, inner: nn.Module, size: float = 0.2) -> None:
        super().__init__()
        self.inner, self.size, self.calls = inner, size, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        answer: Tensor = self.inner(x + self.size * torch.randn(x.shape[1:], dtype=x.dtype))
        return answer


class Shaken(RandomWrapper):
    """Noise that is declared."""

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        return x + 0.3 * rng.normal(*x.shape[1:], dtype=x.dtype)


class Round(nn.Module):
    """Sixteen levels, without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (15 * x).round() / 15


def plain(points: Tensor, index: Tensor) -> Tensor:
    return points


# ---------------------------------------------------------------------- generators


def test_global_generators_start_from_the_seed_and_go_on_as_if_nothing_had_been_drawn() -> None:
    def draw() -> tuple[float, ...]:
        return (float(torch.rand(1)), random.random(), float(np.random.random()))

    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    seen = []
    for seed in (3, 3, 4, 2**63 - 1):
        with reseeded(seed, torch.device("cpu")):
            seen.append(draw())
    with pytest.raises(TypeError), reseeded(3, torch.device("cpu")):
        torch.rand("none")  # type: ignore[call-overload]
    assert seen[0] == seen[1]
    assert all(one != other for one, other in zip(seen[0], seen[2], strict=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()  # type: ignore[index]


# ---------------------------------------------------------------------- means over draws


def test_the_gradient_loss_and_scores_told_are_means_over_calls() -> None:
    x, y = held()
    goal, model = Untargeted(y), Noisy(net())

    def asked(eot: int, kind: str) -> tuple[Tensor, ...]:
        passes = Passes(model, Precision.own(model), 64, eot=eot)
        at = passes.gradient(x, goal, Margin(), plain) if kind == "gradient" else passes.scores(x, goal, Margin())
        return at.loss, at.logits, at.grad

    for kind in ("gradient", "scores"):
        with reseeded(0, torch.device("cpu")):
            each = [asked(1, kind) for _ in range(5)]
        with reseeded(0, torch.device("cpu")):
            model.calls = 0
            mean = asked(5, kind)
        assert model.calls == 5
        for told, single in zip(mean, zip(*each, strict=True), strict=True):
            torch.testing.assert_close(told, torch.stack(single).mean(0))
        assert not torch.equal(each[0][0], each[1][0]), "it must draw"


def test_a_verdict_is_the_mean_of_the_probabilities_of_many_calls() -> None:
    x, _ = held()
    model = Noisy(net())
    with reseeded(0, torch.device("cpu")):
        each = torch.stack([model(x).softmax(1) for _ in range(4)])
    with reseeded(0, torch.device("cpu")):
        verdict = Passes(model, Precision.own(model), 64, verdicts=4).judge(x)
    torch.testing.assert_close(verdict.softmax(1), each.mean(0))
    torch.testing.assert_close(verdict.exp(), each.mean(0))


def test_repeats_of_a_declared_defense_have_draws_of_their_own_and_are_the_same_again() -> None:
    x, y = held()
    model = defend(net(), [Shaken(draws=1)])
    once, again = (Repeats(model, 6, 8, y).clean(advkit.TensorData(x, y)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.shape == (6, len(y))
    assert len({tuple(row) for row in once.tolist()}) > 1, "each repeat draws anew"


# ---------------------------------------------------------------------- steps without a gradient


def test_a_step_without_a_gradient_keeps_its_value_and_gets_another_gradient() -> None:
    x, _ = held()
    rounding, smooth = advkit.StraightThrough(Round()), advkit.StraightThrough(Round(), surrogate=torch.sin)
    points = x.clone().requires_grad_()
    for step, slope in ((rounding, torch.ones_like(x)), (smooth, x.cos())):
        assert torch.equal(step(points), Round()(x))
        (grad,) = torch.autograd.grad(step(points).sum(), points)
        torch.testing.assert_close(grad, slope)
    with torch.no_grad():
        assert torch.equal(rounding(x), Round()(x))


def test_modules_inside_it_move_and_learn_modes_with_it() -> None:
    dropout = nn.Dropout(0.5)
    step = advkit.StraightThrough(dropout).eval()
    assert not dropout.training
    assert dropout in list(step.modules())


def test_a_gradient_that_cannot_fit_is_refused() -> None:
    x, _ = held()
    with pytest.raises(InputError, match="give a surrogate whose answers have the step's shape"):
        advkit.StraightThrough(lambda pictures: pictures[..., ::2, ::2])(x.requires_grad_())


def test_a_network_that_rounds_falls_once_its_rounding_is_passed_straight_through() -> None:
    x, y = held()
    attack = PGD(BALL, steps=10, loss=Margin())
    masked, open_ = Quantiser(net(), 15), nn.Sequential(advkit.StraightThrough(Round()), net())

    def standing(model: nn.Module, x_adv: Tensor) -> int:
        return int((masked(x_adv).argmax(1) == y).sum())

    assert torch.equal(masked(x), open_(x))
    assert standing(masked, attack(open_, x, y)) < standing(masked, attack(masked, x, y)) - 5
