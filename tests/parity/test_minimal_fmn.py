"""At the same number of steps DDN and FMN come as near as foolbox's, on a small trained network."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from foolbox import PyTorchModel
from foolbox.attacks import DDNAttack, L0FMNAttack, L1FMNAttack, L2FMNAttack, LInfFMNAttack
from foolbox.criteria import Misclassification
from helpers import seeded, taught, trained
from torch import Tensor, nn

from advkit.attacks import DDN, FMN
from advkit.core import L0, L1, L2, Ball, Linf

STEPS = 60
INF = math.inf


@functools.lru_cache(maxsize=1)
def grey() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that tells grey patterns apart, in which a pixel is a value, as foolbox counts."""
    layers = [nn.Conv2d(1, 6, 3, padding=1), nn.Softplus(), nn.Conv2d(6, 6, 3, stride=2), nn.Softplus()]
    model = seeded(nn.Sequential(*layers, nn.Flatten(), nn.Linear(54, 4)))
    model, x, y = taught(model, (1, 8, 8), seed=2, batches=100, count=24)
    right = model(x).argmax(1) == y
    return model, x[right], y[right]


def distances(ball: Ball, model: nn.Module, x_adv: Tensor, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.where(model(x_adv).argmax(1) != y, ball.distance(x_adv, x), INF)


PAIRS = {
    "ddn": (DDN(steps=STEPS), DDNAttack, trained),
    "linf": (FMN(Linf(INF), steps=STEPS), LInfFMNAttack, trained),
    "l2": (FMN(L2(INF), steps=STEPS), L2FMNAttack, trained),
    "l1": (FMN(L1(INF), steps=STEPS), L1FMNAttack, trained),
    "l0": (FMN(L0(INF), steps=STEPS), L0FMNAttack, grey),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_median_distance_is_at_most_a_twentieth_above_theirs(name):
    attack, peer, sample = PAIRS[name]
    model, x, y = sample()
    ours = distances(attack.threat, model, attack(model, x, y), x, y)
    found = peer(steps=STEPS).run(PyTorchModel(model, bounds=(0, 1), device="cpu"), x, Misclassification(y))
    theirs = distances(attack.threat, model, found, x, y)
    assert bool(theirs.median().isfinite())
    assert float(ours.median()) <= 1.05 * float(theirs.median())
    assert int(ours.isfinite().sum()) >= int(theirs.isfinite().sum())


def test_ddn_and_fmn_agree_in_l2():
    model, x, y = trained()
    one, other = (distances(L2(1), model, attack(model, x, y), x, y) for attack in (DDN(), FMN()))
    assert float(one.median()) == pytest.approx(float(other.median()), rel=0.03)
