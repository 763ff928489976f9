"""SPSA and NES: the slope that scores tell is the gradient, also at the ball's edge, and it leads where the gradient leads."""

from __future__ import annotations

import pytest
import torch
from helpers import Recorder, linear, pictures, trained
from torch import Tensor

from advkit.attacks import NES, PGD, SPSA, Noise
from advkit.attacks._probing import around, slope
from advkit.core import L1, L2, Attack, Linf, Margin, Rng, Targeted, Untargeted
from advkit.errors import InputError

KINDS = [SPSA, NES]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["middle", "corner", "box"])
def test_the_slope_is_the_gradient_wherever_the_point_stands(kind, place):
    ball, rng = Linf(0.05), Rng.of(0, torch.arange(3))
    x = pictures(3, (1, 3, 3), margin=0.0 if place == "box" else 0.3)
    x = x.round() if place == "box" else x
    signs = (pictures(3, (1, 3, 3), seed=5) - 0.5).sign()
    point = ball.project(x + 0.05 * signs, x) if place == "corner" else x
    grad = pictures(3, (1, 3, 3), seed=6) - 0.5
    moves = kind(ball, queries=10**6, samples=20_000).moves(x, rng)
    query = around(point, x, moves, ball)
    assert bool(ball.contains(query.flatten(0, 1), x[:, None].expand_as(query).flatten(0, 1)).all())
    found = slope(query, (query * grad[:, None]).flatten(2).sum(2))
    torch.testing.assert_close(found, grad, rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5)], ids=repr)
def test_on_a_linear_model_it_nears_the_optimum_and_never_passes_it(kind, ball):
    model, x = linear(2, seed=3), pictures(4, margin=0.3)
    y = model(x).argmax(1)
    direction = torch.where(y == 0, 1.0, -1.0)[:, None] * (model[1].weight[1] - model[1].weight[0]).detach()
    optimum = float(ball.eps) * torch.linalg.vector_norm(direction, {"linf": 1, "l2": 2}[ball.norm], dim=1)

    def gain(points: Tensor) -> Tensor:
        return ((points - x).flatten(1) * direction).sum(1)

    found = gain(kind(ball, queries=3000)(model, x, y, keep="best"))
    assert bool((found >= 0.85 * optimum).all()), found / optimum
    assert bool((found <= optimum * (1 + 1e-9)).all())
    assert bool((found > 2 * gain(Noise(ball, steps=50)(model, x, y, keep="best"))).all())


@pytest.mark.parametrize(("kind", "share"), [(SPSA, 0.85), (NES, 0.7)])
@pytest.mark.parametrize("ball", [Linf(0.06), L2(0.6)], ids=repr)
def test_given_the_queries_it_finds_about_what_the_gradient_finds(kind, share, ball):
    model, x, y = trained()
    x, y = x[:12], y[:12]
    goal = Untargeted(y)

    def height(attack: Attack) -> Tensor:
        with torch.no_grad():
            return (Margin()(model(attack(model, x, y, keep="best")), goal) - Margin()(model(x), goal)).mean()

    by_scores, by_gradient = height(kind(ball, queries=2500)), height(PGD(ball, loss=Margin()))
    assert share * by_gradient < by_scores < 1.02 * by_gradient


@pytest.mark.parametrize("kind", KINDS)
def test_it_reaches_a_target(kind):
    model, x, y = trained()
    x, target = x[:6], (y[:6] + 1) % 4
    reached = model(kind(Linf(0.15), queries=1500)(model, x, Targeted(target))).argmax(1) == target
    assert float(reached.double().mean()) > 0.8


def test_nes_halves_its_stride_where_the_loss_stands_still():
    attack, x = NES(Linf(0.1)), pictures(2)
    memory = attack.memory(x)
    for step in range(5):
        assert memory.stride.tolist() == [1.0, 1.0]
        move, memory = attack.ascent(torch.ones_like(x), torch.tensor([0.0, step], dtype=x.dtype), memory, x)
    assert memory.stride.tolist() == [0.5, 1.0]
    assert [float(each.abs().max()) for each in move] == [0.5, 1.0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.3)], ids=repr)
def test_it_asks_so_often_and_only_in_ball_and_box(kind, ball):
    x = pictures(1, (3, 6, 6), dtype=torch.float32).round(decimals=1)
    model = Recorder(linear(3, (3, 6, 6), dtype=torch.float32))
    y = model(x).argmax(1)
    model.asked.clear()
    attack = kind(ball, queries=100, samples=7)
    assert (attack.probes, attack.steps) == (15, 6)
    attack(model, x, y, keep="last")
    asked = torch.cat(model.asked)
    assert len(asked) == 6 * 15 + 1  # and the verdict
    assert bool(ball.contains(asked, x.expand_as(asked)).all())
    # Where it stands is asked too, and it begins at the clean picture.
    assert torch.equal(asked[0], x[0])


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match=r"^SPSA works in Linf, L2, not in L1\.$"):
        SPSA(L1(3))
    with pytest.raises(InputError, match=r"^NES: samples is 0; give 1 or more\.$"):
        NES(samples=0)
    with pytest.raises(
        InputError, match=r"^SPSA: queries is 10, and one step of 25 samples takes 51; give more queries or"
    ):
        SPSA(queries=10)
    with pytest.raises(InputError, match=r"^SPSA: delta is 0; it is in values of x, in \(0, 1\]\.$"):
        SPSA(delta=0)
    with pytest.raises(InputError, match=r"^NES: sigma is 2; it is in values of x"):
        NES(sigma=2)
    with pytest.raises(InputError, match=r"^NES: step_size is -1; give a fraction of eps above 0, for example 0\.1\.$"):
        NES(step_size=-1)
