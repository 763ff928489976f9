"""On a linear model the optimum has a closed form: nothing may beat it, and what claims to be strong must reach it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import linear, pictures
from scipy import optimize
from test_attacks import cases
from torch import Tensor, nn

from advkit.attacks import BIM, FGSM, PGD, GreedySalt, Noise, RandomStartFGSM, Salt
from advkit.core import L0, L1, L2, Ball, Linf, Margin, Shade, TargetedMargin, Veil
from advkit.core.threat import Sparse

DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
SIZE = 192


def two_classes(count: int, *, margin: float) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model of two classes, pictures, their predicted labels and the gradient (B, D) of their margin."""
    model, x = linear(2, seed=3), pictures(count, margin=margin)
    y = model(x).argmax(1)
    slope = (model[1].weight[1] - model[1].weight[0]).detach()
    return model, x, y, torch.where(y == 0, 1.0, -1.0)[:, None] * slope


def gain(x_adv: Tensor, x: Tensor, slope: Tensor) -> Tensor:
    """How far the margin towards the other class has grown."""
    return ((x_adv - x).flatten(1) * slope).sum(1)


def bound(ball: Ball, x: Tensor, slope: Tensor) -> Tensor:
    """The largest gain in the ball (Hoelder); where pixels count that of the best ones, each at the better end of its range."""
    if isinstance(ball, Sparse):
        ends = torch.maximum(slope * (1 - x.flatten(1)), -slope * x.flatten(1)).reshape(len(x), 3, -1).sum(1)
        return ends.topk(ball.room(x), dim=1).values.sum(1)
    if isinstance(ball, Veil):
        return float(ball.eps) * torch.maximum(slope * (1 - x.flatten(1)), -slope * x.flatten(1)).sum(1)
    if isinstance(ball, Shade):  # the bound of every ball in which no value rises
        return (-slope * x.flatten(1)).clamp_min(0).sum(1)
    return float(ball.eps) * torch.linalg.vector_norm(slope, DUAL[ball.norm], dim=1)


@pytest.mark.parametrize("attack", cases())
def test_no_attack_beats_the_dual_norm_on_a_linear_model(attack):
    model, x, y, slope = two_classes(8, margin=0.0)
    for keep in ("first", "last"):
        assert bool((gain(attack(model, x, y, keep=keep), x, slope) <= bound(attack.threat, x, slope) + 1e-9).all())


@pytest.mark.parametrize("ball", [Linf(0.01), L2(0.05), L1(0.1, share=1 / SIZE), L1(0.1)], ids=repr)
@pytest.mark.parametrize("make", [PGD, BIM], ids=["pgd", "bim"])
def test_pgd_reaches_the_dual_norm_where_the_box_is_far(make, ball):
    model, x, y, slope = two_classes(8, margin=0.3)
    x_adv = make(ball, steps=100, step_size=0.05)(model, x, y, keep="last")
    reached, best = gain(x_adv, x, slope), bound(ball, x, slope)
    assert bool((reached >= 0.99 * best).all()), (reached / best).min()
    assert bool((reached <= best * (1 + 1e-12)).all())


def test_the_control_stays_far_from_what_an_attack_reaches():
    model, x, y, slope = two_classes(8, margin=0.3)
    for ball in (Linf(0.01), L2(0.05), L1(0.1)):
        reached = gain(Noise(ball)(model, x, y, keep="best"), x, slope)
        assert bool((reached < 0.5 * bound(ball, x, slope)).all())
        assert bool((reached > 0).all())


def test_fgsm_is_exact_on_a_linear_model():
    model, x, y, slope = two_classes(8, margin=0.0)
    x_adv = FGSM(Linf(0.3))(model, x, y, keep="last")
    expected = (x + 0.3 * slope.sign().reshape(x.shape)).clamp(0, 1)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=1e-12)
    x_adv = FGSM(L2(0.05))(model, x, y, keep="last")
    unit = slope / slope.norm(dim=1, keepdim=True)
    inner = x.clamp(0.1, 0.9)
    x_adv = FGSM(L2(0.05))(model, inner, y, keep="last")
    torch.testing.assert_close(x_adv, inner + 0.05 * unit.reshape(x.shape), rtol=0, atol=1e-9)


def test_random_start_fgsm_overshoots_by_a_quarter_and_lands_in_the_cube():
    model, x, y, slope = two_classes(8, margin=0.3)
    moved = ((RandomStartFGSM(Linf(0.04))(model, x, y, keep="last") - x) / 0.04).flatten(1) * slope.sign()
    assert float(moved.max()) <= 1 + 1e-9
    assert float(moved.min()) >= 0.25 - 1e-9  # from -1 at the least, by 1.25
    assert float((moved > 1 - 1e-9).double().mean()) == pytest.approx(0.625, abs=0.05)


def programme(ball: Ball, clean: np.ndarray, slope: np.ndarray) -> float:
    """The largest gain in ball and box, by a linear programme on the positive and negative part of the change."""
    bounds = [(0, 1 - value) for value in clean] + [(0, value) for value in clean]
    if isinstance(ball, Linf):
        bounds = [(0, min(high, float(ball.eps))) for _, high in bounds]
        rows, limits = None, None
    else:
        rows, limits = np.ones((1, 2 * len(clean))), [float(ball.eps)]
    solved = optimize.linprog(np.concatenate([-slope, slope]), A_ub=rows, b_ub=limits, bounds=bounds)
    assert solved.status == 0
    return -solved.fun


@pytest.mark.parametrize("ball", [Linf(0.3), Linf(1.0), L1(1.5), L1(6.0), L1(20.0), L1(60.0)], ids=repr)
def test_pgd_reaches_the_optimum_where_the_box_is_near(ball):
    model, x, y, slope = two_classes(4, margin=0.0)
    x_adv = PGD(ball, steps=100, step_size=0.1, loss=Margin())(model, x, y, keep="last")
    best = [programme(ball, c.numpy(), s.numpy()) for c, s in zip(x.flatten(1), slope, strict=True)]
    torch.testing.assert_close(
        gain(x_adv, x, slope), torch.tensor(best, dtype=torch.float64), rtol=0.03 if ball.norm == "l1" else 1e-9, atol=0
    )


def test_pgd_in_l2_reaches_the_optimum_where_the_box_is_near():
    model, x, y, slope = two_classes(4, margin=0.0)
    eps = 4.0
    reached = gain(PGD(L2(eps), steps=100, step_size=0.1, loss=Margin())(model, x, y, keep="last"), x, slope)
    for clean, direction, ours in zip(x.flatten(1).numpy(), slope.numpy(), reached.tolist(), strict=True):
        # The optimum is clip(t * slope) at the largest t that fits.
        best = _walk_until(eps, clean, direction)
        assert ours == pytest.approx(best, rel=0.01)
        assert ours <= best * (1 + 1e-9)


def _walk_until(eps: float, clean: np.ndarray, slope: np.ndarray) -> float:
    def change(t: float) -> np.ndarray:
        return np.clip(t * slope, -clean, 1 - clean)

    return float(change(optimize.brentq(lambda t: np.linalg.norm(change(t)) - eps, 0, 1e6)) @ slope)


def white_dots(x: Tensor, slope: Tensor, count: int) -> Tensor:
    """The largest gain of so many white dots: the pixels whose whitening gains most."""
    each = (slope * (1 - x.flatten(1))).reshape(len(x), 3, -1).sum(1)
    return each.topk(count, dim=1).values.clamp_min(0).sum(1)


def test_greedy_salt_finds_the_best_white_dots_on_a_linear_model():
    model, x, y, slope = two_classes(8, margin=0.0)
    x_adv = GreedySalt(L0(5), probes=64)(model, x, y, keep="best")
    torch.testing.assert_close(gain(x_adv, x, slope), white_dots(x, slope, 5), rtol=1e-9, atol=0)
    changed = (x_adv != x).any(1)
    assert bool((changed.flatten(1).sum(1) <= 5).all())
    assert bool((x_adv.permute(0, 2, 3, 1)[changed] == 1).all())


def test_greedy_salt_beats_random_salt_and_neither_beats_the_best_dots():
    model, x, y, slope = two_classes(8, margin=0.0)
    greedy = gain(GreedySalt(L0(5), probes=16)(model, x, y, keep="best"), x, slope)
    blind = gain(Salt(L0(5), steps=30)(model, x, y, keep="best"), x, slope)
    best = white_dots(x, slope, 5)
    assert bool((greedy <= best + 1e-9).all())
    assert bool((blind <= best + 1e-9).all())
    assert float(greedy.mean()) > float(blind.mean())
    assert float(blind.mean()) > 0


def test_every_rival_is_tried_and_the_nearest_boundary_found():
    # Five classes: eps is just enough for the nearest boundary, which cross-entropy's compromise does not meet.
    model, x = linear(5, seed=2), pictures(12, margin=0.3)
    logits = model(x).detach()
    y = logits.argmax(1)
    weight = model[1].weight.detach()
    gap = logits.gather(1, y[:, None]) - logits
    cost = gap / (weight[None] - weight[y][:, None]).abs().sum(2)
    cost = cost.scatter(1, y[:, None], torch.inf).amin(1)
    for factor, beaten in ((1.02, True), (0.98, False)):
        for i in range(len(x)):
            ball = Linf(float(cost[i] * factor))
            attack = PGD(ball, steps=30, step_size=0.2, loss=TargetedMargin(), targets=4)
            found = attack(model, x[i : i + 1], y[i : i + 1])
            assert bool(model(found).argmax(1) != y[i]) == beaten
