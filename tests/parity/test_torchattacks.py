"""From the same start, the same tensors as torchattacks returns: three networks, float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, linear, pictures
from torch import Tensor, nn

from advkit.attacks import APGD, BIM, FGSM, MIFGSM, NIFGSM, PGD, SIFGSM, TIFGSM, VMIFGSM
from advkit.core import DLR, L2, CrossEntropy, Linf, Smooth, Targeted, Untargeted

pytestmark = pytest.mark.parity
torchattacks = pytest.importorskip("torchattacks")

TIGHT = {"rtol": 0, "atol": 1e-6}
EPS = 0.1
NETS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: linear(5),
    "conv": lambda: conv_net(5),
    "conv-norm": lambda: conv_net(5, norm=True),
}


@pytest.fixture(params=NETS, name="net")
def net_fixture(request) -> nn.Module:
    return NETS[request.param]()


def theirs(name: str, net: nn.Module, x: Tensor, y: Tensor, *, target: bool = False, **settings) -> Tensor:
    attack = getattr(torchattacks, name)(net, **settings)
    if target:
        attack.set_mode_targeted_by_label(quiet=True)
    return attack(x, y)


PAIRS = {
    "FGSM": (FGSM(Linf(EPS)), {"eps": EPS}),
    "BIM": (BIM(Linf(EPS), steps=10, step_size=0.2), {"eps": EPS, "alpha": 0.2 * EPS, "steps": 10}),
    "PGD": (
        PGD(Linf(EPS), steps=20, step_size=0.1, random_start=False),
        {"eps": EPS, "alpha": 0.1 * EPS, "steps": 20, "random_start": False},
    ),
    "MIFGSM": (MIFGSM(Linf(EPS), steps=10, step_size=0.1), {"eps": EPS, "alpha": 0.1 * EPS, "steps": 10}),
    "NIFGSM": (NIFGSM(Linf(EPS), steps=10, step_size=0.1), {"eps": EPS, "alpha": 0.1 * EPS, "steps": 10}),
    "SINIFGSM": (SIFGSM(Linf(EPS), copies=3), {"eps": EPS, "alpha": 0.1 * EPS, "steps": 10, "m": 3}),
    # Neighbours at no distance: what is drawn cancels out, and the rest must be theirs.
    "VMIFGSM": (VMIFGSM(Linf(EPS), beta=1e-12), {"eps": EPS, "alpha": 0.1 * EPS, "steps": 10, "beta": 1e-12}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_same_pictures_in_linf(name, net):
    x, (attack, settings) = pictures(12), PAIRS[name]
    y = net(x).argmax(1)
    ours = attack(net, x, y, keep="last")
    torch.testing.assert_close(ours, theirs(name, net, x, y, **settings), **TIGHT)
    assert float((ours - x).abs().flatten(1).amax(1).min()) > 0.09
    target = (y + 1) % 5
    ours = attack(net, x, Targeted(target), keep="last")
    torch.testing.assert_close(ours, theirs(name, net, x, target, target=True, **settings), **TIGHT)


def test_the_same_pictures_in_l2_where_the_box_is_far(net):
    x = pictures(12, margin=0.4)
    y = net(x).argmax(1)
    ours = PGD(L2(0.3), steps=20, step_size=0.1, random_start=False)(net, x, y, keep="last")
    expected = theirs("PGDL2", net, x, y, eps=0.3, alpha=0.03, steps=20, random_start=False)
    torch.testing.assert_close(ours, expected, **TIGHT)
    assert float((ours - x).flatten(1).norm(dim=1).min()) > 0.29


def test_the_window_of_ti_fgsm_blurs_as_theirs():
    net = conv_net(5)
    attack = torchattacks.TIFGSM(net, kernel_name="gaussian", len_kernel=15, nsig=3)
    grad = pictures(4, (3, 20, 20)) - 0.5
    kernel = attack.stacked_kernel.double()
    expected = F.conv2d(grad, kernel, padding="same", groups=3)
    torch.testing.assert_close(Smooth(15, 3.0).ascent(grad, None)[0], expected, rtol=0, atol=1e-6)


def test_the_same_pictures_by_ti_fgsm_without_their_resizing(net):
    x = pictures(12)
    y = net(x).argmax(1)
    attack = torchattacks.TIFGSM(net, eps=EPS, alpha=0.1 * EPS, steps=10, decay=1.0, diversity_prob=0.0)
    attack.stacked_kernel = attack.stacked_kernel.double()
    ours = TIFGSM(Linf(EPS), steps=10, step_size=0.1)(net, x, y, keep="last")
    agree = (ours - attack(x, y)).abs() < 1e-6
    assert float(agree.double().mean()) > 0.999  # their window is rounded to float32: a gradient near 0 may turn over


@pytest.mark.parametrize(("loss", "named"), [(CrossEntropy(), "ce"), (DLR(), "dlr")])
@pytest.mark.parametrize(("ball", "norm"), [(Linf(EPS), "Linf"), (L2(0.3), "L2")])
def test_apgd_climbs_as_high_from_the_same_start(net, ball, norm, loss, named):
    x = pictures(12, margin=0.4)
    y = net(x).argmax(1)
    peer = torchattacks.APGD(net, norm=norm, eps=float(ball.eps), steps=40, loss=named)
    peer.device = "cpu"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        _, _, height, _ = peer.attack_single_run(x, y)
        torch.manual_seed(3)
        drawn = 2 * torch.rand(x.shape) - 1 if norm == "Linf" else torch.randn(x.shape)
    length = drawn.abs().flatten(1).amax(1) if norm == "Linf" else drawn.flatten(1).norm(dim=1)
    start = (x + float(ball.eps) * drawn / length[:, None, None, None]).clamp(0, 1)
    ours = APGD(ball, steps=40, loss=loss)(net, x, y, start=start)
    with torch.no_grad():
        reached, before = loss(net(ours), Untargeted(y)), loss(net(x), Untargeted(y))
    # The peer keeps the highest loss of all, we of those that are beaten, if there are any.
    torch.testing.assert_close(reached, height.to(reached), rtol=1e-3, atol=1e-4)
    assert bool((reached > before + 0.01).all())
