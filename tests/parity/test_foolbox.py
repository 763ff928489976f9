"""From the same start, the same tensors as foolbox returns: three networks, float64."""

from __future__ import annotations

from collections.abc import Callable

import eagerpy
import foolbox
import pytest
import torch
from foolbox.attacks import L2ProjectedGradientDescentAttack, LinfFastGradientAttack, LinfProjectedGradientDescentAttack
from foolbox.criteria import Misclassification, TargetedMisclassification
from helpers import conv_net, linear, pictures
from torch import Tensor, nn

from advkit.attacks import BIM, FGSM, PGD
from advkit.core import L2, Linf, Targeted, Untargeted

TIGHT = {"rtol": 0, "atol": 1e-6}
NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: linear(5),
    "conv": lambda: conv_net(5),
    "conv-norm": lambda: conv_net(5, norm=True),
}


@pytest.fixture(params=NETS, name="net")
def net_fixture(request) -> nn.Module:
    return NETS[request.param]()


def theirs(attack, net: nn.Module, x: Tensor, criterion, eps: float, start: Tensor | None = None) -> Tensor:
    """foolbox's answer; a start takes the place of its random one."""
    if start is not None:
        attack.random_start = True
        attack.get_random_start = lambda x0, epsilon: eagerpy.astensor(start)
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    return attack.run(model, x, criterion, epsilon=eps)


def label_and_target(net: nn.Module, x: Tensor):
    y = net(x).argmax(1)
    target = (y + 1) % 5
    return [(Untargeted(y), Misclassification(y)), (Targeted(target), TargetedMisclassification(target))]


def test_fgsm_in_linf(net):
    x = pictures(12)
    goal, criterion = label_and_target(net, x)[0]
    ours = FGSM(Linf(0.1))(net, x, goal, keep="last")
    torch.testing.assert_close(ours, theirs(LinfFastGradientAttack(), net, x, criterion, 0.1), **TIGHT)
    assert float((ours - x).abs().max()) > 0.09


def test_the_basic_iterative_method_in_linf(net):
    x = pictures(12)
    for goal, criterion in label_and_target(net, x):
        attack = LinfProjectedGradientDescentAttack(rel_stepsize=0.2, steps=10, random_start=False)
        ours = BIM(Linf(0.1))(net, x, goal, keep="last")
        torch.testing.assert_close(ours, theirs(attack, net, x, criterion, 0.1), **TIGHT)


def test_pgd_in_linf_from_the_same_start(net):
    x = pictures(12)
    start = (x + 0.1 * (2 * pictures(12, seed=1) - 1)).clamp(0, 1)
    for goal, criterion in label_and_target(net, x):
        attack = LinfProjectedGradientDescentAttack(rel_stepsize=0.1, steps=25, random_start=True)
        ours = PGD(Linf(0.1), steps=25, step_size=0.1)(net, x, goal, keep="last", start=start)
        torch.testing.assert_close(ours, theirs(attack, net, x, criterion, 0.1, start), **TIGHT)
        other = PGD(Linf(0.1), steps=25, step_size=0.1)(net, x, goal, keep="last", start=x)
        assert not torch.allclose(ours, other, **TIGHT) or isinstance(net[1], nn.Linear)


def test_pgd_in_l2_from_the_same_start_where_the_box_is_far(net):
    x = pictures(12, margin=0.4)
    offset = pictures(12, seed=1) - 0.5
    start = x + 0.2 * offset / offset.flatten(1).norm(dim=1)[:, None, None, None]
    for goal, criterion in label_and_target(net, x):
        attack = L2ProjectedGradientDescentAttack(rel_stepsize=0.1, steps=25, random_start=True)
        ours = PGD(L2(0.3), steps=25, step_size=0.1)(net, x, goal, keep="last", start=start)
        torch.testing.assert_close(ours, theirs(attack, net, x, criterion, 0.3, start), **TIGHT)
        assert float((ours - x).flatten(1).norm(dim=1).min()) > 0.29


def test_where_the_box_is_near_our_l2_attack_uses_the_budget_that_clipping_wastes():
    net, x = linear(5), pictures(12)
    y = net(x).argmax(1)
    attack = L2ProjectedGradientDescentAttack(rel_stepsize=0.1, steps=40, random_start=False)
    clipped = theirs(attack, net, x, Misclassification(y), 5.0)
    ours = PGD(L2(5.0), steps=40, step_size=0.1, random_start=False)(net, x, y, keep="last")
    with torch.no_grad():
        ours, clipped = (Untargeted(y).margin(net(points)).mean() for points in (ours, clipped))
    assert float(ours) > float(clipped)
