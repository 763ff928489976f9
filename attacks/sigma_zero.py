"""sigma-zero: gradient descent on a smooth count of changed pixels, small changes undone at every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._radii import annealed
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L0, Ball
from advkit.core.types import expand
from advkit.errors import InputError

# Of Cina et al. 2024, algorithm 1 and section 4.
_LAST_STRIDE = 0.1  # of the first


class _Walk(NamedTuple):
    query: Tensor
    threshold: Tensor  # (B,) a pixel that changes by less is undone
    taken: Tensor  # (B,) steps


@ATTACKS.register("sigma-zero", paper="arXiv:2402.01879")
@dataclass(frozen=True)
class SigmaZero(Attack):
    """sigma-zero (Cina et al. 2024): the fewest pixels, by the gradient of margin and smooth count, thresholded.

    A pixel is a place, whatever its channels: its size in the smooth count is the Euclidean length of its change, and in
    the threshold the largest change of a channel. In grey pictures both are the paper's.
    """

    threat: Ball = field(default=L0(math.inf))
    steps: int = 1000
    step_size: float = 1.0  # of the first step: how far the value with the largest gradient moves
    sigma: float = 1e-3  # smoothness of the count
    threshold: float = 0.3  # at first
    adjust: float = 0.01  # how fast the threshold follows successes and failures, in step sizes
    loss: Loss = Margin()
    targets: int = 0

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L0,)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, targets=0)
        for name in ("step_size", "sigma", "adjust"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"SigmaZero: {name} is {getattr(self, name)}; give a number above 0.")
        if not 0 <= self.threshold <= 1:
            raise InputError(f"SigmaZero: threshold is {self.threshold}; give a change of a value, from 0 to 1.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        """At the first point."""
        zero = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Walk(first, torch.full(zero.shape, self.threshold, dtype=x.dtype, device=x.device), zero)

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:  # type: ignore[override]
        """Towards the goal while it is not reached, always towards fewer pixels; then undo the small changes."""
        reached, delta = goal.reached(at.logits), state.query - x
        stride = annealed(self.step_size, _LAST_STRIDE * self.step_size, state.taken, self.steps).to(x.dtype)
        adjust = torch.where(reached, self.adjust, -self.adjust) * stride
        threshold = (state.threshold + adjust).clamp(0, 1)

        size = _summed(delta.square())
        fewer = -2 * self.sigma * delta / (size + self.sigma).square() / size[0].numel()
        ascent = torch.where(expand(reached, x), 0, at.grad) + fewer
        largest = ascent.abs().flatten(1).amax(1).clamp_min(torch.finfo(x.dtype).tiny)
        query = (state.query + expand(stride / largest, x) * ascent).clamp(0, 1)
        changed = _largest((query - x).abs()) >= expand(threshold, x)
        return _Walk(torch.where(changed, query, x), threshold, state.taken + 1)


def _summed(values: Tensor) -> Tensor:
    """Pictures (B, C, H, W) as (B, 1, H, W), summed over their channels; other inputs as they are."""
    return values.sum(1, keepdim=True) if values.ndim == 4 else values


def _largest(values: Tensor) -> Tensor:
    """The same, by the largest of the channels."""
    return values.amax(1, keepdim=True) if values.ndim == 4 else values
