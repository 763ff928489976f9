"""Fast minimum-norm attack: gradient steps inside a ball whose radius closes in on the decision boundary."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._radii import annealed, box_reach, clip_within, estimate, free, width
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import DLR, Loss, Margin, ProbabilityMargin, TargetedDLR, TargetedMargin
from advkit.core.rng import Rng
from advkit.core.threat import L0, L1, L2, Ball, Linf
from advkit.core.types import expand
from advkit.errors import InputError

# Of Pintor et al. 2021, section 3 and appendix.
_LAST_GAMMA, _LAST_STRIDE = 1e-4, 0.01  # the latter as a share of the first
_BEYOND = 1.02  # of the estimated way to the boundary: exactly on it, rounding decides
_STEEPEST = L2(1.0)
_ZERO_ON_THE_BOUNDARY = (Margin, ProbabilityMargin, DLR, TargetedMargin, TargetedDLR)


class _Walk(NamedTuple):
    query: Tensor
    radius: Tensor  # (B,)
    nearest: Tensor  # (B,) distance of the nearest success so far; inf where there was none
    taken: Tensor  # (B,) steps


@ATTACKS.register("fmn", paper="arXiv:2102.12827")
@dataclass(frozen=True)
class FMN(Attack):
    """Fast minimum-norm (Pintor et al. 2021): steps in a ball that shrinks after a success and grows after a failure.

    Where it departs from the paper: a step is as long as the ball is wide, where the paper's L2 length of 1 is ten radii of
    an undefended network; until something is found the radius grows; what points out of the box is left out of the
    gradient; and in L0 the way to the boundary is estimated too, by the pixels that a linear loss would need, and pixels
    are kept for what they gain too.
    """

    threat: Ball = field(default=L2(math.inf))
    steps: int = 100
    gamma: float = 0.05  # the share by which the radius changes at first
    step_size: float = 1.0  # of the first step, in radii; it falls to a hundredth
    loss: Loss = Margin()
    targets: int = 0

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1, L0)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, targets=0)
        if not 0 < self.gamma < 1:
            raise InputError(
                f"FMN: gamma is {self.gamma}; give a share of the radius between 0 and 1, for example 0.05."
            )
        if not 0 < self.step_size < math.inf:
            raise InputError(f"FMN: step_size is {self.step_size}; give a number of radii above 0, for example 1.")
        if not isinstance(self.loss, _ZERO_ON_THE_BOUNDARY):
            raise InputError(
                f"FMN: loss is {self.loss}; give one that is 0 on the decision boundary: margin, prob-margin, dlr, "
                "targeted-margin or targeted-dlr."
            )

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        """At the first point; nothing is known of the boundary."""
        far = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
        return _Walk(first, torch.zeros_like(far), far, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:  # type: ignore[override]
        """Choose the radius by what the point did, go up the gradient, and back into the ball."""
        size = self.threat.distance(state.query, x)
        reached = goal.reached(at.logits)
        nearest = torch.where(reached, torch.minimum(state.nearest, size), state.nearest)
        radius = self._radius(state, at, size, reached, nearest).clamp_max(box_reach(self.threat, x))
        stride = annealed(self.step_size, _LAST_STRIDE * self.step_size, state.taken, self.steps)
        length = (stride * width(self.threat, radius, x)).to(x.dtype)
        ahead = state.query + expand(length, x) * _STEEPEST.steepest(free(at.grad, state.query), state.query)
        return _Walk(clip_within(self.threat, ahead, x, radius, at.grad), radius, nearest, state.taken + 1)

    def _radius(self, state: _Walk, at: Ascent, size: Tensor, reached: Tensor, nearest: Tensor) -> Tensor:
        """Shrink after a success; else grow, or go where a linear loss would cross the boundary, if nothing was found yet."""
        gamma = annealed(self.gamma, _LAST_GAMMA, state.taken, self.steps)
        shorter, longer = state.radius * (1 - gamma), state.radius * (1 + gamma)
        gap = (-at.loss).clamp_min(0).double()
        guess = size + _BEYOND * estimate(self.threat, gap, free(at.grad, state.query).double(), state.query.double())
        if isinstance(self.threat, L0):
            shorter = torch.minimum(shorter.floor(), state.radius - 1).clamp_min(1)
            longer = torch.maximum(longer.floor(), state.radius + 1)
            guess = guess.floor()
        return torch.where(
            reached,
            torch.minimum(shorter, nearest),
            torch.where(nearest.isfinite(), longer, torch.maximum(guess, longer)),
        )
