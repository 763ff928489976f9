"""What an attack may be set to, and what it says where it may not."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures

from advkit.attacks import BIM, FGSM, PGD, GreedySalt, Noise, RandomStartFGSM, Salt, worst_case
from advkit.catalog import ATTACKS
from advkit.core import L0, L1, L2, Linf, Margin, Momentum, TargetedMargin
from advkit.errors import InputError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PGD(L0(3)), "PGD works in Linf, L2, L1, not in L0."),
        (lambda: FGSM(L0(3)), "FGSM works in Linf, L2, L1, not in L0."),
        (lambda: PGD(steps=0), "PGD: steps is 0; give 1 or more."),
        (lambda: PGD(restarts=0), "PGD: restarts is 0; give 1 or more."),
        (lambda: PGD(targets=-1), "PGD: targets is -1; give 0 or more."),
        (lambda: BIM(step_size=0), "BIM: step_size is 0; give a fraction of eps above 0, for example 0.1."),
        (
            lambda: PGD(step_size=float("nan")),
            "PGD: step_size is nan; give a finite number.",
        ),
        (lambda: Noise(steps=0), "Noise: steps is 0; give the number of draws, 1 or more."),
        (lambda: Salt(Linf(0.1)), "Salt works in L0, where eps counts pixels, not in Linf 0.1."),
        (lambda: Salt(steps=0), "Salt: steps and probes must be 1 or more."),
        (lambda: GreedySalt(probes=0), "GreedySalt: steps and probes must be 1 or more."),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_a_sentence(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message


@pytest.mark.parametrize("attack", [Salt(L0(3)), GreedySalt(L0(3))], ids=["salt", "salt-greedy"])
def test_dots_need_a_picture_to_stand_on(attack):
    x = pictures(2, (7,))
    with pytest.raises(InputError, match=r"sets pixels of pictures \(N, C, H, W\) to white; these are \(2, 7\)"):
        attack(linear(3, (7,)), x, torch.zeros(2, dtype=torch.long))


def test_more_dots_than_pixels_are_no_error():
    x, y = pictures(2), torch.zeros(2, dtype=torch.long)
    assert torch.equal(Salt(L0(1000), steps=2)(linear(3), x, y, keep="last"), torch.ones_like(x))
    greedy = GreedySalt(L0(70), probes=999)(linear(3), x, y, keep="last")
    assert bool(((greedy == x) | (greedy == 1)).all())


def test_a_walk_is_four_radii_long_whatever_its_steps():
    assert PGD(steps=40).stride == pytest.approx(0.1)
    assert PGD(steps=10).stride == pytest.approx(0.4)
    assert PGD(steps=40, step_size=0.1).stride == 0.1
    assert (FGSM().stride, RandomStartFGSM().stride) == (1.0, 1.25)


def test_a_random_start_costs_pgd_less_than_a_hundredth_of_a_linear_optimum_in_l2():
    model, x = linear(2, (3, 16, 16)), 0.4 + 0.2 * pictures(4, (3, 16, 16))
    labels = model(x).argmax(1)

    def margin(points):
        logits = model(points)
        return (logits.gather(1, 1 - labels[:, None]) - logits.gather(1, labels[:, None])).squeeze(1).detach()

    gains = {attack: margin(attack(model, x, labels)) - margin(x) for attack in (PGD(L2(0.2)), FGSM(L2(0.2)))}
    pgd, optimum = gains.values()  # on a linear model one whole step is the optimum
    assert bool((pgd > 0.99 * optimum).all())
    assert bool((pgd <= optimum * (1 + 1e-6)).all())


def test_gaussian_noise_is_a_control_too():
    x = pictures(4)
    for ball in (Linf(0.05), L2(0.5), L1(3), L0(4)):
        uniform, gaussian = (Noise(ball, steps=2, shape=shape) for shape in ("uniform", "gaussian"))
        found = [attack(linear(3), x, torch.zeros(4, dtype=torch.long), keep="last") for attack in (uniform, gaussian)]
        assert all(bool(ball.contains(points, x).all()) for points in found)
        assert not torch.equal(*found)


def test_the_default_attack_is_three_stages_in_one_ball():
    ensemble = worst_case(L2(0.5), steps=7, restarts=2, targets=3)
    assert ensemble.threat == L2(0.5)
    assert [name for name, _ in ensemble.stages] == ["pgd-ce", "pgd-margin", "pgd-targeted"]
    assert {stage.threat for _, stage in ensemble.stages} == {L2(0.5)}
    assert [stage.steps for _, stage in ensemble.stages] == [7, 7, 7]
    assert [stage.targets for _, stage in ensemble.stages] == [0, 0, 3]
    assert (ensemble.stages[1][1].loss, ensemble.stages[2][1].loss) == (Margin(), TargetedMargin())


def test_the_transfer_attacks_are_pgd_with_a_direction():
    assert ATTACKS.create("mi-fgsm").direction == Momentum()
    assert isinstance(ATTACKS.create("di-fgsm"), PGD)
    x, model = pictures(4), linear(3)
    y = model(x).argmax(1)
    same = PGD(Linf(0.05), steps=5, step_size=0.1, direction=Momentum(), random_start=False)
    assert torch.equal(ATTACKS.create("mi-fgsm", threat=Linf(0.05), steps=5)(model, x, y), same(model, x, y))


def test_nesterov_looks_ahead_and_steps_from_where_it_stands():
    model, x = conv_net(5), pictures(4)
    y = model(x).argmax(1)
    x_adv, momentum, length = x, torch.zeros_like(x), 0.1 * 0.05
    for _ in range(5):
        ahead = (x_adv + length * momentum).detach().requires_grad_()
        (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(ahead), y, reduction="sum"), ahead)
        momentum = momentum + grad / grad.abs().mean((1, 2, 3), keepdim=True)
        x_adv = Linf(0.05).project(x_adv + length * momentum.sign(), x)
    found = ATTACKS.create("ni-fgsm", threat=Linf(0.05), steps=5)(model, x, y, keep="last")
    torch.testing.assert_close(found, x_adv, rtol=0, atol=1e-12)
