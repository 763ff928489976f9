"""Auto-PGD reaches the optimum of a linear model, halves its stride where it must, and beats a fixed stride."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures, trained

from advkit.attacks import APGD, PGD, TargetedAPGD
from advkit.core import L0, L2, Ascent, Linf, Margin, Rng, Untargeted
from advkit.errors import InputError


@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5)])
def test_on_a_linear_model_the_optimum_is_reached(ball):
    model, x = linear(2), pictures(6, margin=0.45)
    y = model(x).argmax(1)
    x_adv = APGD(ball, steps=60, loss=Margin())(model, x, y)
    weights = next(p for p in model.parameters() if p.ndim == 2).detach()
    slope = (weights[1 - y] - weights[y]).flatten(1)
    gain = slope.abs().sum(1) if isinstance(ball, Linf) else slope.norm(dim=1)
    before, after = (Margin()(model(p), Untargeted(y)).detach() for p in (x, x_adv))
    torch.testing.assert_close(after - before, float(ball.eps) * gain, rtol=1e-3, atol=1e-6)


def test_the_stride_is_halved_at_a_checkpoint_where_the_loss_stands_still():
    attack, x = APGD(Linf(0.1), steps=50), pictures(2)
    goal, rng = Untargeted(torch.zeros(2, dtype=torch.long)), Rng.of(0, torch.arange(2))
    state = attack.start(x, x, goal, rng)
    rising = torch.tensor([0.0, 1.0], dtype=x.dtype)
    for step in range(12):  # the first checkpoint comes 11 steps (22 %) after the first point
        at = Ascent(step * rising, torch.zeros(2, 2, dtype=x.dtype), torch.ones_like(x))
        assert state.stride.tolist() == [2.0, 2.0]
        state = attack.step(state, at, x, goal, rng)
    assert state.stride.tolist() == [1.0, 2.0]
    assert state.span.tolist() == [10, 10]
    # It goes on from the best point, which was the first.
    assert torch.equal(state.former[0], x[0])


def test_it_needs_no_step_size_to_be_as_strong_as_pgd():
    model, x, y = trained()
    heights = [
        Margin()(model(attack(model, x, y)), Untargeted(y)).mean()
        for attack in (APGD(L2(0.3), steps=40, loss=Margin()), PGD(L2(0.3), steps=40, loss=Margin(), step_size=0.02))
    ]
    assert heights[0] > heights[1]


def test_towards_rivals_it_needs_a_few():
    model, x = conv_net(5), pictures(6)
    y = model(x).argmax(1)
    assert TargetedAPGD().targets == 9
    # Nine rivals of five classes are four.
    assert TargetedAPGD(Linf(0.1), steps=5)(model, x, y).shape == x.shape


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="APGD works in Linf, L2, L1, not in L0"):
        APGD(L0(3))
    with pytest.raises(InputError, match="APGD: steps is 0; give 1 or more"):
        APGD(steps=0)
