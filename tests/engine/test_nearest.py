"""Bisection over the radius finds the closed-form distance of linear models, alone as in any batch."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import Spy, linear, pictures, trained

from advkit.attacks import DDN, FGSM, PGD, GreedySalt, Noise
from advkit.core import L0, L1, L2, Linf, Margin, Targeted, Untargeted
from advkit.engine.nearest import nearest
from advkit.errors import DataError, InputError

DUAL = {"linf": 1, "l2": 2, "l1": math.inf}


def problem():
    model, x = linear(2, seed=3), pictures(8, margin=0.45)
    with torch.no_grad():
        model[1].weight.mul_(10)
    y = model(x).argmax(1)
    slope = (model[1].weight[1 - y] - model[1].weight[y]).detach()
    logits = model(x).detach()
    gap = logits.gather(1, y[:, None]).squeeze(1) - logits.gather(1, 1 - y[:, None]).squeeze(1)
    return model, x, y, slope, gap


@pytest.mark.parametrize("ball", [Linf(0.5), L2(4), L1(40)], ids=lambda ball: ball.norm)
def test_the_distance_is_the_closed_form_to_the_tolerance(ball):
    model, x, y, slope, gap = problem()
    # Where the box is out of reach of the boundary.
    found = nearest(PGD(ball, steps=20, loss=Margin()), model, x, y, tolerance=0.02)
    best = gap / torch.linalg.vector_norm(slope, DUAL[ball.norm], dim=1)
    assert bool((found.distance >= best * (1 - 1e-6)).all())
    if ball.norm != "l1":  # one value alone meets the box
        assert bool((found.distance <= 1.03 * best).all()), (found.distance / best).tolist()
    assert bool((model(found.x_adv).argmax(1) != y).all())
    torch.testing.assert_close(found.distance, ball.distance(found.x_adv, x))
    assert torch.equal(found.prediction, 1 - y)
    assert bool((found.stood < found.distance).all())
    assert bool((found.distance <= found.stood * 1.02 * (1 + 1e-9)).all())


def test_in_l0_the_fewest_pixels_that_the_attack_needs():
    model, x, y = trained()
    x, y = x[:6], y[:6]
    found = nearest(GreedySalt(L0(30), probes=64), model, x, y)
    for i in range(len(x)):
        for count in (1, 2, 3):
            beaten = bool(model(GreedySalt(L0(count), probes=64)(model, x[i : i + 1], y[i : i + 1])).argmax(1) != y[i])
            assert beaten == (float(found.distance[i]) <= count)


def test_an_example_gets_the_same_alone_and_in_any_batch():
    model, x, y = trained()
    x, y = x[:7], y[:7]
    attack = PGD(L2(3), steps=6)
    whole = nearest(attack, model, x, y, tolerance=0.1)
    for lanes in (1, 3):
        other = nearest(attack, model, x, y, tolerance=0.1, batch_size=lanes)
        torch.testing.assert_close(other.x_adv, whole.x_adv, rtol=0, atol=1e-12)
        torch.testing.assert_close(other.distance, whole.distance, rtol=0, atol=1e-12)
        assert torch.equal(other.forwards, whole.forwards)
    alone = nearest(attack, model, x[4:5], y[4:5], tolerance=0.1)
    torch.testing.assert_close(alone.x_adv, whole.x_adv[4:5], rtol=0, atol=1e-12)
    assert len({round(float(d), 6) for d in whole.distance}) > 3


def test_what_is_wrong_already_needs_no_change_and_what_stands_has_no_distance():
    model, x, y = trained()
    wrong = y[:3].clone()
    wrong[1] = (wrong[1] + 1) % 4
    found = nearest(PGD(Linf(1e-4), steps=3), model, x[:3], wrong)
    assert found.distance.tolist() == [math.inf, 0.0, math.inf]
    assert found.stood.tolist() == [1e-4, 0.0, 1e-4]
    assert torch.equal(found.x_adv, x[:3])
    assert found.backwards.tolist()[1] == 0
    nothing = nearest(PGD(Linf(0.1)), model, x[:1], (y[:1] + 1) % 4)
    assert nothing.distance.tolist() == [0.0]


def test_it_comes_nearer_than_the_attack_at_its_own_radius_and_counts_its_passes():
    model, x, y = trained()
    attack, spy = PGD(L2(3), steps=10), Spy(model)
    found = nearest(attack, spy, x[:8], y[:8], tolerance=0.05)
    plain = L2(1).distance(attack(model, x[:8], y[:8], keep="first"), x[:8])
    assert bool((found.distance < plain).all())
    assert spy.forwards == int(found.forwards.sum())
    assert spy.backwards == int(found.backwards.sum())
    # Of 8 halvings some succeed by the picture that was pulled back, and none takes more than its steps.
    assert int(found.backwards.max()) < 8 * 10


def test_a_goal_with_a_target():
    model, x, y = trained()
    target = (y[:4] + 1) % 4
    found = nearest(PGD(Linf(0.5), steps=10), model, x[:4], Targeted(target))
    assert torch.equal(found.prediction, target)
    near = nearest(PGD(Linf(0.5), steps=10), model, x[:4], Untargeted(y[:4]))
    assert bool((near.distance <= found.distance * 1.05).all())


def test_the_model_and_the_pictures_stay_as_they_were():
    model, x, y = trained()
    kept = x[:3].clone()
    model.train()
    try:
        nearest(FGSM(Linf(0.2)), model, x[:3], y[:3], tolerance=0.5)
        assert all(module.training for module in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
    finally:
        model.eval()
    assert torch.equal(x[:3], kept)


def test_noise_comes_less_near_than_an_attack():
    model, x, y = trained()
    ball = Linf(1.0)
    blind, sighted = (nearest(a, model, x[:8], y[:8], tolerance=0.1) for a in (Noise(ball), PGD(ball, steps=10)))
    assert float(sighted.distance.median()) < 0.5 * float(blind.distance.median())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: nearest(DDN(), m, x, y), "DDN looks for the nearest picture itself; bisect an attack"),
        (lambda m, x, y: nearest(PGD(L2(math.inf)), m, x, y), "the largest radius for PGD is infinite; give high"),
        (lambda m, x, y: nearest(PGD(), m, x, y, tolerance=0), "tolerance is 0; give the step from one radius"),
        (lambda m, x, y: nearest(PGD(), m, x, y, high=0), "the largest radius is 0; give a high above 0"),
    ],
)
def test_what_cannot_be_bisected_is_refused_by_a_sentence(call, message):
    model, x, y = trained()
    with pytest.raises(InputError) as refused:
        call(model, x[:1], y[:1])
    assert str(refused.value).startswith(message)


def test_pictures_out_of_the_box_are_refused():
    model, x, y = trained()
    with pytest.raises(DataError):
        nearest(PGD(), model, x[:1] + 5, y[:1])
