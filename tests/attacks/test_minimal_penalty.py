"""Carlini & Wagner and EAD reach the nearest boundary of a linear model, and search the constant of each example."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import linear, pictures, trained
from test_minimal_boundary import check_nearest

from advkit.attacks._constant import Constant, begins, span_of
from advkit.attacks.carlini_wagner import CarliniWagner
from advkit.attacks.ead import EAD
from advkit.attacks.fab import TargetedFAB
from advkit.core import L0, L1, L2, Linf, Targeted
from advkit.errors import InputError

INF = math.inf


@pytest.mark.parametrize(("classes", "margin"), [(2, 0.4), (5, 0.0)], ids=["box-far", "box-near"])
@pytest.mark.parametrize(
    "attack",
    [
        CarliniWagner(L2(INF), steps=150, searches=3),
        CarliniWagner(Linf(INF), steps=150, searches=3),
        EAD(L1(INF), steps=240, searches=4),
        EAD(L2(INF), steps=150, searches=3, beta=1e-4),
    ],
    ids=["cw-l2", "cw-linf", "ead-l1", "ead-l2"],
)
def test_the_nearest_boundary_of_a_linear_model_is_found(attack, classes, margin):
    check_nearest(attack, classes, margin=margin)


def test_the_fewest_pixels_of_a_linear_model_are_found():
    model, x = linear(2), pictures(8)
    y = model(x).argmax(1).detach()
    slope = (model[1].weight[1 - y] - model[1].weight[y]).detach()
    logits = model(x).detach()
    gap = logits.gather(1, y[:, None]) - logits.gather(1, 1 - y[:, None])
    # A pixel gains most where every channel goes to the better end of its range.
    gains = torch.where(slope > 0, slope * (1 - x.flatten(1)), -slope * x.flatten(1)).reshape(8, 3, -1).sum(1)
    fewest = (gains.sort(1, descending=True).values.cumsum(1) < gap).sum(1) + 1
    ball = L0(INF)
    x_adv = CarliniWagner(ball, steps=300, searches=10)(model, x, y)
    assert bool((model(x_adv).argmax(1) != y).all())
    found = ball.distance(x_adv, x)
    assert bool((found >= fewest).all())
    assert bool((found <= 1.5 * fewest + 1).all())


def test_on_a_network_carlini_and_wagner_come_as_near_as_fab():
    model, x, y = trained()
    attack = CarliniWagner(L2(INF), steps=150, searches=3)
    x, y, ball = x[:8], y[:8], attack.threat
    ours, fab = (ball.distance(each(model, x, y), x) for each in (attack, TargetedFAB(ball, steps=20, targets=3)))
    assert float((ours / fab).median()) < 1.02


def test_ead_changes_fewer_values_than_carlini_and_wagner():
    model, x, y = trained()
    x, y = x[:8], y[:8]
    sparse, dense = (
        attack(model, x, y) for attack in (EAD(steps=200, searches=4), CarliniWagner(steps=100, searches=2))
    )
    assert bool((L1(INF).distance(sparse, x) < L1(INF).distance(dense, x)).all())
    changed = [((found - x).abs() > 1e-9).flatten(1).sum(1) for found in (sparse, dense)]
    assert bool((changed[0] < changed[1] / 4).all())


@pytest.mark.parametrize("attack", [CarliniWagner(steps=60, searches=2), EAD(steps=120, searches=4)], ids=repr)
def test_a_confidence_is_overreached_and_a_target_reached(attack):
    model, x, y = trained()
    x, target = x[:6], (y[:6] + 1) % 4
    x_adv = attack(model, x, Targeted(target))
    assert bool((model(x_adv).argmax(1) == target).all())


def test_the_constant_is_searched_for_each_example():
    constant = Constant.first(3, 1.0, torch.device("cpu"))
    for hits in ([True, False, False], [True, False, True], [False, False, True]):
        constant = constant._replace(hit=torch.tensor(hits)).after(torch.tensor([True, True, True]))
    assert constant.value.tolist() == [0.375, 1000.0, 3.25]
    assert not bool(constant.hit.any())
    kept = constant._replace(hit=torch.tensor([True, False, False]))
    still = kept.after(torch.tensor([False, False, False]))
    assert all(torch.equal(a, b) for a, b in zip(kept, still, strict=True))


def test_steps_are_shared_among_the_searches():
    taken = torch.arange(1, 61)
    assert span_of(60, 3) == 20
    assert taken[begins(taken, 60, 3)].tolist() == [20, 40]
    assert span_of(30, 9) == 10
    assert taken[begins(taken, 30, 9)].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CarliniWagner(L1(3)), "CarliniWagner works in L2, Linf, L0, not in L1."),
        (lambda: CarliniWagner(searches=0), "CarliniWagner: searches is 0; give 1 or more."),
        (
            lambda: CarliniWagner(constant=0),
            "CarliniWagner: constant is 0; give a number above 0, or None to estimate it.",
        ),
        (lambda: CarliniWagner(confidence=-1), "CarliniWagner: confidence is -1; give a margin of 0 or more."),
        (lambda: CarliniWagner(lr=0), "CarliniWagner: lr is 0; give a step size above 0, for example 0.01."),
        (lambda: EAD(Linf(0.1)), "EAD works in L1, L2, not in Linf."),
        (lambda: EAD(steps=0), "EAD: steps is 0; give 1 or more."),
        (lambda: EAD(constant=INF), "EAD: constant is inf; give a finite number."),
        (lambda: EAD(lr=-1), "EAD: lr is -1; give a step size above 0, for example 0.01."),
        (lambda: EAD(beta=-1), "EAD: beta is -1; give a number of 0 or more."),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message
