"""An example whose gradient is zero, NaN or infinite: no attack proposes a point that is none, and the others' results stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, pictures
from test_attacks import cases
from torch import Tensor, nn

from advkit.attacks import DDN, FMN, DeepFool
from advkit.core import L2
from advkit.core.fitted import Fitted
from advkit.engine.evaluate import evaluate

DEAD = {1: 0.0, 2: torch.nan, 3: torch.inf, 4: -torch.inf}
"""What the gradients of these of the six pictures are multiplied by."""
ALIVE = [0, 5]


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(factor)
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        (factor,) = ctx.saved_tensors
        return grad * factor, None


class Dead(nn.Module):
    """Answers as its inner model does; near some pictures the gradient is multiplied by a factor of theirs."""

    def __init__(self, inner: nn.Module, near: Tensor, factors: Tensor) -> None:
        super().__init__()
        self.inner, self.near, self.factors = inner, near, factors

    def forward(self, x: Tensor) -> Tensor:
        shown, near = ((part - part.mean(1, keepdim=True)) for part in (x.detach().flatten(1), self.near.flatten(1)))
        alike = (F.normalize(shown) @ F.normalize(near).T).argmax(
            1
        )  # whatever the contrast: some attacks scale pictures
        factor = self.factors[alike].to(x)
        return self.inner(_Scaled.apply(x, factor.reshape(-1, 1, 1, 1)))


def alive_and_dead() -> tuple[nn.Module, Dead, Tensor, Tensor]:
    """A network, the same with dead gradients, and six far-off pictures with their labels."""
    # Far apart, so that none of the queries of one is nearer to another.
    net, x = conv_net(5), 0.1 + 0.8 * pictures(6).round()
    factors = torch.tensor([DEAD.get(place, 1.0) for place in range(len(x))])
    return net, Dead(net, x, factors), x, net(x).argmax(1)


def by_gradient(case) -> bool:
    return case.values[0].tells == "gradient" and not isinstance(case.values[0], Fitted)


@pytest.mark.parametrize("attack", [case for case in cases() if by_gradient(case)])
def test_a_dead_gradient_costs_no_other_example_anything(attack):
    net, dead, x, y = alive_and_dead()
    expected, found = attack(net, x, y), attack(dead, x, y)
    torch.testing.assert_close(found[ALIVE], expected[ALIVE], rtol=0, atol=1e-12)
    assert bool(found.isfinite().all())
    assert bool(attack.threat.contains(found, x).all())


@pytest.mark.parametrize("attack", [DDN(), DDN(first_radius=1e30), FMN(), DeepFool()], ids=str)
def test_at_its_full_steps_a_nearest_search_leaves_a_dead_example_as_it_is(attack):
    _, dead, x, y = alive_and_dead()
    attack = replace(attack, threat=L2(4.0))
    result = evaluate(dead, (x, y), attack, doubts=False)
    assert not bool(result.outcomes[0].success[list(DEAD)].any())
    assert bool(result.outcomes[0].distance.isfinite().all())
    assert int(result.outcomes[0].success.sum()) == len(ALIVE)
