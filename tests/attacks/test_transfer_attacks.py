"""What makes adversarial pictures carry over: gradients of copies and of neighbours; on other networks it must show."""

from __future__ import annotations

import pytest
import torch
from helpers import Spy, conv_net, pictures

from advkit.attacks import BIM, DIFGSM, MIFGSM, NIFGSM, SIFGSM, TIFGSM, VMIFGSM
from advkit.backbones import load_model
from advkit.core import L2, CrossEntropy, Linf, Rng, Untargeted
from advkit.core.rng import identify
from advkit.data import load_data
from advkit.errors import InputError


def gradient(net, x, y):
    points = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(CrossEntropy()(net(points), Untargeted(y)).sum(), points)
    return grad


def unit(grad):
    return grad / grad.abs().flatten(1).mean(1)[:, None, None, None]


@pytest.mark.parametrize(
    "attack", [VMIFGSM(Linf(0.1), steps=3, step_size=0.4), VMIFGSM(L2(0.6), neighbours=3, steps=4)]
)
def test_the_variance_of_one_step_tunes_the_gradient_of_the_next(attack):
    net, x = conv_net(5), pictures(6)
    y = net(x).argmax(1)
    near = type(attack.threat)(attack.beta * attack.threat.eps)
    keys = Rng.of(0, identify(x)).fold(0)  # the only branch
    x_adv, momentum, variance = x, torch.zeros_like(x), torch.zeros_like(x)
    for step in range(attack.steps):
        draws = keys.fold(step).fold("view")
        around = [near.random_point(x_adv, draws.fold(1 + n)) for n in range(attack.neighbours)]
        own = gradient(net, x_adv, y)
        momentum = momentum + unit(own + variance)
        variance = torch.stack([gradient(net, points, y) for points in around]).mean(0) - own
        ahead = x_adv + attack.stride * attack.threat.eps * attack.threat.steepest(momentum, x_adv)
        x_adv = attack.threat.project(ahead, x)
    torch.testing.assert_close(attack(net, x, y, keep="last"), x_adv, rtol=0, atol=1e-9)
    assert not torch.allclose(MIFGSM(attack.threat, steps=attack.steps)(net, x, y, keep="last"), x_adv)


def test_each_gradient_costs_one_pass_for_each_copy_or_neighbour():
    net, x = conv_net(5), pictures(4)
    y = net(x).argmax(1)
    for attack, each in ((SIFGSM(Linf(0.1), copies=3), 3), (VMIFGSM(Linf(0.1), neighbours=4), 5)):
        spy = Spy(net)
        attack(spy, x, y, keep="last")
        assert spy.backwards == 4 * attack.steps * each


def test_one_copy_is_the_picture_itself():
    net, x = conv_net(5), pictures(4)
    y = net(x).argmax(1)
    one, plain = (attack(net, x, y, keep="last") for attack in (SIFGSM(Linf(0.1), copies=1), NIFGSM(Linf(0.1))))
    assert torch.equal(one, plain)
    assert not torch.equal(SIFGSM(Linf(0.1), copies=2)(net, x, y, keep="last"), plain)


def test_refusals_say_what_is_allowed():
    with pytest.raises(InputError, match=r"^SIFGSM: copies is 0; give 1 or more\.$"):
        SIFGSM(copies=0)
    with pytest.raises(InputError, match=r"^VMIFGSM: neighbours is 0; give 1 or more\.$"):
        VMIFGSM(neighbours=0)
    with pytest.raises(InputError, match=r"^VMIFGSM: beta is 0; give the neighbourhood's radius in eps, above 0\.$"):
        VMIFGSM(beta=0)


@pytest.mark.slow
def test_on_networks_that_it_was_not_made_on_each_beats_the_basic_iterative_method():
    data = load_data("signs").head(40)
    x, y = data.pictures(range(len(data))), data.labels
    surrogate, others = load_model("resnet", data=data), [load_model(name, data=data) for name in ("lenet", "cnn")]

    def beaten(attack):
        x_adv = attack(surrogate, x, y)
        with torch.no_grad():
            return sum(int(((net(x).argmax(1) == y) & (net(x_adv).argmax(1) != y)).sum()) for net in others)

    ball = Linf(16 / 255)
    plain = beaten(BIM(ball, step_size=0.1))
    for attack in (MIFGSM, DIFGSM, TIFGSM, NIFGSM, SIFGSM, VMIFGSM):
        assert beaten(attack(ball)) > 1.2 * plain, attack
