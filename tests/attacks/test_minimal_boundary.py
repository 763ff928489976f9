"""Projections on planes inside the box are exact; FAB and DeepFool reach the nearest boundary of a linear model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from helpers import linear, pictures, trained
from scipy import optimize
from torch import Tensor

from advkit.attacks._boundary import near, to_plane
from advkit.attacks.deepfool import DeepFool
from advkit.attacks.fab import FAB, TargetedFAB
from advkit.core import L0, L1, L2, Attack, Ball, Linf, Rng, Targeted, Untargeted
from advkit.errors import InputError

INF = math.inf
BALLS = [Linf(INF), L2(INF), L1(INF)]


def planes(count: int = 30, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Points of the box, some of them in corners, with normals, some of them with zeros, and gaps of both signs."""
    generator = torch.Generator().manual_seed(0)
    point = torch.rand(count, size, generator=generator, dtype=torch.float64)
    normal = torch.randn(count, size, generator=generator, dtype=torch.float64)
    point[:6] = point[:6].round()
    normal[3:9, 2:] = 0
    normal[9:12] *= 1e-40
    gap = torch.randn(count, generator=generator, dtype=torch.float64)
    gap[9:12] *= 1e-40
    return point, normal, gap


def reach(point: Tensor, normal: Tensor, gap: Tensor) -> Tensor:
    """How far the box lets a point go along a normal, in the direction of the gap."""
    return (torch.where(gap[:, None] * normal > 0, 1 - point, point) * normal.abs()).sum(1)


def shortest(ball: Ball, point: np.ndarray, normal: np.ndarray, gap: float) -> float:
    """The least length of a change onto the plane in the box, by a solver."""
    size, normal, gap = len(point), normal / np.abs(normal).max(), gap / np.abs(normal).max()
    if ball.norm == "linf":
        eye, column = np.eye(size), -np.ones((2 * size, 1))
        found = optimize.linprog(
            [*np.zeros(size), 1],
            A_eq=[[*normal, 0]],
            b_eq=[gap],
            A_ub=np.hstack([np.vstack([eye, -eye]), column]),
            b_ub=np.zeros(2 * size),
            bounds=[*zip(-point, 1 - point, strict=True), (0, None)],
        )
        return float(found.fun)
    if ball.norm == "l1":
        bounds = [(0, 1 - value) for value in point] + [(0, value) for value in point]
        found = optimize.linprog(np.ones(2 * size), A_eq=[[*normal, *-normal]], b_eq=[gap], bounds=bounds)
        return float(found.fun)
    found = optimize.minimize(
        lambda change: (change**2).sum(),
        np.zeros(size),
        jac=lambda change: 2 * change,
        constraints={"type": "eq", "fun": lambda change: normal @ change - gap, "jac": lambda change: normal},
        bounds=[*zip(-point, 1 - point, strict=True)],
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return float(found.fun) ** 0.5


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_a_projection_lies_on_the_plane_in_the_box_and_no_point_is_nearer(ball):
    point, normal, gap = planes()
    change = to_plane(ball, point, normal, gap)
    moved = point + change
    assert bool(((moved >= -1e-15) & (moved <= 1 + 1e-15)).all())
    feasible = reach(point, normal, gap) > gap.abs() * (1 + 1e-9)
    assert 10 < int(feasible.sum()) < len(point)
    gained = (normal * change).sum(1)
    torch.testing.assert_close(gained[feasible], gap[feasible], rtol=1e-12, atol=0)
    length = ball.distance(moved, point)
    for i in feasible.nonzero().squeeze(1).tolist():
        best = shortest(ball, point[i].numpy(), normal[i].numpy(), float(gap[i]))
        assert float(length[i]) == pytest.approx(best, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_where_the_box_ends_before_the_plane_it_goes_to_the_corner(ball):
    point, normal, gap = planes()
    far = gap.sign() * 100 * normal.abs().sum(1)
    gained = (normal * to_plane(ball, point, normal, far)).sum(1)
    torch.testing.assert_close(gained.abs(), reach(point, normal, gap), rtol=1e-12, atol=0)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_a_plane_without_a_normal_moves_nothing(ball):
    point, normal, gap = planes()
    assert not bool(to_plane(ball, point, torch.zeros_like(normal), gap).any())


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_a_random_start_lies_within_its_own_radius(ball):
    x, radius = pictures(6, margin=0.3), torch.tensor([0.0, 0.01, 0.05, 0.1, 0.15, 0.2], dtype=torch.float64)
    distance = ball.distance(near(ball, x, radius, Rng.of(0, torch.arange(6))), x)
    assert bool((distance <= radius * (1 + 1e-9)).all())
    assert bool((distance[1:] > 0.5 * radius[1:]).all())  # nearly all of a ball of 192 dimensions is near its surface


def nearest(ball: Ball, model, x: Tensor, y: Tensor) -> Tensor:
    """The distance (B,) of the nearest plane of a linear model in the box: the least over all rivals."""
    weight, bias = model[1].weight.detach(), model[1].bias.detach()
    logits = x.flatten(1) @ weight.T + bias
    distances = []
    for rival in range(len(weight)):
        normal = weight[rival] - weight[y]
        gap = logits.gather(1, y[:, None]).squeeze(1) - logits[:, rival]
        change = to_plane(ball, x.flatten(1), normal, gap)
        there = ((normal * change).sum(1) - gap).abs() < 1e-9
        distances.append(torch.where(there & (y != rival), ball.distance(x.flatten(1) + change, x.flatten(1)), INF))
    return torch.stack(distances).amin(0)


def check_nearest(attack: Attack, classes: int, *, margin: float, factor: float = 1.25) -> None:
    """On a linear model the attack's points are adversarial, no nearer than possible and not much farther."""
    model, x = linear(classes), pictures(8, margin=margin)
    y = model(x).argmax(1).detach()
    x_adv = attack(model, x, y)
    assert bool((model(x_adv).argmax(1) != y).all())
    ratio = attack.threat.distance(x_adv, x) / nearest(attack.threat, model, x, y)
    assert bool((ratio >= 1 - 1e-9).all()), ratio
    assert bool((ratio <= factor).all()), ratio


@pytest.mark.parametrize("margin", [0.0, 0.4], ids=["box-near", "box-far"])
@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_fab_finds_the_nearest_boundary_of_a_linear_model(ball, margin):
    check_nearest(FAB(ball, steps=20), 2, margin=margin, factor=1.005)
    check_nearest(TargetedFAB(ball, steps=20), 5, margin=margin, factor=1.005)


@pytest.mark.parametrize("margin", [0.0, 0.4], ids=["box-near", "box-far"])
@pytest.mark.parametrize("ball", [L2(INF), Linf(INF)], ids=lambda ball: ball.norm)
def test_deepfool_finds_the_nearest_boundary_of_a_linear_model(ball, margin):
    check_nearest(DeepFool(ball, steps=6, targets=1), 2, margin=margin, factor=1.005)
    check_nearest(DeepFool(ball, steps=6, targets=1), 5, margin=margin, factor=1.05)  # the likeliest is the nearest
    check_nearest(DeepFool(ball, steps=6, targets=4), 5, margin=margin, factor=1.005)


def test_deepfool_needs_few_steps_and_its_overshoot_is_taken_back():
    model, x, y = trained()
    x, y, ball = x[:12], y[:12], L2(INF)
    near = [ball.distance(DeepFool(ball, steps=8, overshoot=over)(model, x, y), x) for over in (0.02, 0.1)]
    many = ball.distance(DeepFool(ball, steps=30)(model, x, y), x)
    torch.testing.assert_close(near[0], many, rtol=0.01, atol=0)
    torch.testing.assert_close(near[0], near[1], rtol=0.02, atol=0)
    with torch.no_grad():
        fab = ball.distance(TargetedFAB(ball, steps=30, targets=3)(model, x, y), x)
    assert bool((many >= fab * (1 - 1e-3)).all())
    assert bool((many <= 1.1 * fab).all())


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.norm)
def test_an_attack_that_does_nothing_or_jumps_to_a_corner_does_not_pass(ball):
    class Still(FAB):
        def step(self, state, at, x, goal, rng):
            return state

    class Corner(FAB):
        def step(self, state, at, x, goal, rng):
            return state._replace(query=(at.grad > 0).to(x.dtype))

    for mutant in (Still, Corner):
        with pytest.raises(AssertionError):
            check_nearest(mutant(ball, steps=20), 2, margin=0.0)


def test_fab_comes_nearer_by_its_last_steps_and_its_walk_on_a_network():
    model, x, y = trained()
    x, y = x[:12], y[:12]
    for ball in (Linf(INF), L2(INF)):
        short, long = (ball.distance(TargetedFAB(ball, steps=k, targets=3)(model, x, y), x) for k in (4, 40))
        assert bool((long <= short).all())
        assert float((long / short).median()) < 0.995


def test_restarts_begin_around_the_clean_picture_and_lose_nothing():
    model, x, y = trained()
    x, y, ball = x[:8], y[:8], L2(INF)
    once, thrice = (FAB(ball, steps=4, restarts=k)(model, x, y) for k in (1, 3))
    assert bool((ball.distance(thrice, x) <= ball.distance(once, x)).all())
    drawn = FAB(ball).again(once, x, Untargeted(y), Rng.of(0, torch.arange(8)))
    ratio = ball.distance(drawn, x) / ball.distance(once, x)
    assert bool(((ratio > 0.4) & (ratio <= 0.5 + 1e-9)).all())


def test_fab_towards_a_target_reaches_it():
    model, x, y = trained()
    target = (y + 1) % 4
    x_adv = FAB(L2(INF), steps=30)(model, x, Targeted(target))
    assert bool((model(x_adv).argmax(1) == target).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FAB(L0(3)), "FAB works in Linf, L2, L1, not in L0."),
        (lambda: FAB(steps=0), "FAB: steps is 0; give 1 or more."),
        (lambda: FAB(alpha_max=2), "FAB: alpha_max is 2; it is the share of the clean picture, 0 to 1."),
        (lambda: DeepFool(L1(3)), "DeepFool works in L2, Linf, not in L1."),
        (lambda: DeepFool(targets=0), "DeepFool: targets is 0; give 1 or more."),
        (lambda: DeepFool(overshoot=-1), "DeepFool: overshoot is -1; give a share of the way, 0 or more."),
        (lambda: FAB(eta=0.9), "FAB: eta is 0.9; 1 ends on the plane, more goes over it, for example 1.05."),
        (
            lambda: TargetedFAB(beta=1),
            "TargetedFAB: beta is 1; it is the share of the way that is kept, between 0 and 1.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message
