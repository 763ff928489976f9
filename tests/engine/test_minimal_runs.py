"""Minimal-norm attacks in the loop: the nearest picture counts, one run serves all radii."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import pytest
import torch
from helpers import linear, trained
from torch import Tensor

from advkit.core import L2, Ascent, Attack, Ball, Ensemble, Goal, Loss, Margin, Rng, Untargeted
from advkit.core.losses import TargetedMargin
from advkit.core.types import expand
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.examples import Finished, Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.run import Run


class _Walk(NamedTuple):
    query: Tensor
    length: Tensor


@dataclass(frozen=True)
class Walk(Attack):
    """Decoupled direction and length: longer where it is not adversarial yet, shorter where it is."""

    threat: Ball = field(default=L2(math.inf))
    steps: int = 60
    loss: Loss = field(default=Margin())
    targets: int = 0

    minimal: ClassVar[bool] = True

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        return _Walk(first, torch.full((len(x),), 0.5, dtype=x.dtype))

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        length = state.length * torch.where(goal.reached(at.logits), 0.95, 1.05).to(x.dtype)
        moved = state.query - x + 0.3 * expand(length, x) * L2(1).steepest(at.grad, x)
        moved = moved / expand(moved.flatten(1).norm(dim=1).clamp_min(1e-12), x)
        return _Walk((x + expand(length, x) * moved).clamp(0, 1), length)


def nearest(model, x: Tensor, y: Tensor) -> Tensor:
    """Distances to the nearest plane of a linear model whose box is far."""
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ weight.T + bias
    gap = logits.gather(1, y[:, None]) - logits
    slope = (weight[y][:, None] - weight[None]).norm(dim=2)
    return torch.where(gap > 0, gap / slope, math.inf).amin(1)


def near_case() -> tuple:
    model, x = linear(4), 0.45 + 0.1 * torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    return model, x, model(x).argmax(1).detach()


def test_the_nearest_of_all_hits_comes_back_and_none_is_nearer_than_the_plane():
    model, x, y = near_case()
    x_adv = Walk()(model, x, y)
    assert bool((model(x_adv).argmax(1) != y).all())
    distance = (x_adv - x).flatten(1).norm(dim=1)
    exact = nearest(model, x, y)
    assert bool((distance >= exact * (1 - 1e-9)).all())
    assert bool((distance <= 1.2 * exact).all())


def test_all_rivals_are_tried_for_the_nearest_where_distances_count():
    model, x, y = near_case()
    one, all_of_them = (Walk(loss=TargetedMargin(), targets=k)(model, x, y) for k in (1, 3))
    first, best = ((found - x).flatten(1).norm(dim=1) for found in (one, all_of_them))
    assert bool((best <= first).all())
    assert bool((best <= 1.2 * nearest(model, x, y)).all())


def test_what_lies_outside_the_ball_is_no_success_and_comes_back_inside():
    model, x, y = near_case()
    exact = nearest(model, x, y)
    ball = L2(float(exact.median()) * 1.1)
    for keep in ("first", "best", "last"):
        x_adv = Walk(ball)(model, x, y, keep=keep)
        assert bool(ball.contains(x_adv, x).all())
        if keep != "last":
            assert torch.equal(model(x_adv).argmax(1) != y, exact < ball.eps)


def test_one_run_gives_every_radius_and_the_same_as_runs_of_their_own():
    model, x, y = trained()
    data, attack = TensorData(x.float(), y), Walk()
    radii = ["0.1", "0.3", "1", "inf"]
    model = copy.deepcopy(model).float()
    calls = _Counting(model)
    together = evaluate(calls, data, [replace(attack, threat=L2(eps)) for eps in radii])
    asked = calls.rows
    rows = together.rows()
    assert [row.eps for row in rows] == radii
    kept = [row.accuracy.value for row in rows]
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0]
    alone = [evaluate(model, data, [replace(attack, threat=L2(eps))]).rows()[0] for eps in radii]
    assert [row.accuracy.value for row in alone] == kept
    assert asked < 1.5 * len(x) * (attack.steps + len(radii))
    assert sum(row.forwards for row in rows) <= asked + len(x)
    assert sum(row.backwards for row in rows[:-1]) == 0
    distances = [o.distance[o.attacked & o.success] for o in together.outcomes]
    assert all(bool((d <= o.threat.eps).all()) for d, o in zip(distances, together.outcomes, strict=True))


class _Counting(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.inner(x)


def test_as_a_stage_it_ends_at_the_first_success_in_the_ball():
    model, x, y = trained()
    data = TensorData(x.float(), y)
    stage = Walk(L2(1))
    model = copy.deepcopy(model).float()
    last = evaluate(model, data, Ensemble((("walk", stage), ("again", stage)))).outcomes[0]
    whole = evaluate(model, data, stage).outcomes[0]
    assert torch.equal(last.success, whole.success)
    assert int(last.forwards.sum()) < int(whole.forwards.sum())


def test_a_model_that_rounds_otherwise_is_shown_a_picture_a_little_farther():
    model, x, y = near_case()

    def rounded(points: Tensor) -> Tensor:
        # The search's form says yes a hair before the model does.
        logits = model(points)
        return logits.scatter_add(1, y_of(points)[:, None], torch.full((len(points), 1), -1e-4).double())

    def y_of(points: Tensor) -> Tensor:
        return y[torch.cdist(points.flatten(1), x.flatten(1)).argmin(1)]

    passes = Passes(model, Precision("rounded", rounded), 64, labels=y)
    got: list[Finished] = []
    Run(Walk(), passes, Source(lambda i: x[list(i)], Untargeted(y)), keep="best").go(got.append)
    finished = got[0]
    assert bool(finished.success.all())
    assert bool((model(finished.x_adv).argmax(1) != y[finished.example]).all())


def test_malt_orders_rivals_by_the_distance_of_their_planes():
    model, x, y = near_case()
    weight = model[1].weight

    @dataclass(frozen=True)
    class First(Walk):
        steps: int = 1
        loss: Loss = field(default=TargetedMargin())
        targets: int = 1
        ranking: str = "malt"

    run = Run(First(), Passes(model, Precision.own(model), 64), Source(lambda i: x[list(i)], Untargeted(y)))
    run.go(lambda finished: None)
    logits = model(x).detach()
    gap = logits.gather(1, y[:, None]) - logits
    near = (gap / (weight[y][:, None] - weight[None]).norm(dim=2).clamp_min(1e-12)).scatter(1, y[:, None], math.inf)
    assert run._rivals is not None
    assert torch.equal(run._rivals[:, 0], near.argmin(1))
    assert bool((run.backwards >= 3).all())


@pytest.mark.parametrize("keep", ["best", "first"])
def test_an_example_is_the_same_alone_and_in_company(keep):
    model, x, y = near_case()
    whole = Walk(L2(2.0))(model, x, y, keep=keep)
    alone = torch.cat([Walk(L2(2.0))(model, x[i : i + 1], y[i : i + 1], keep=keep) for i in range(len(x))])
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-12)
