"""Decoupled direction and norm: the length of the change follows what the last point did, its direction the gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._radii import annealed, box_reach
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import L2, Ball
from advkit.core.types import expand
from advkit.errors import InputError

_LAST_STRIDE = 0.01  # of the first
_TINY = 1e-30  # a change shorter than this has no direction


class _Walk(NamedTuple):
    query: Tensor
    radius: Tensor  # (B,)
    taken: Tensor  # (B,) steps


@ATTACKS.register("ddn", paper="arXiv:1811.09600")
@dataclass(frozen=True)
class DDN(Attack):
    """Decoupled direction and norm (Rony et al. 2019): the nearest picture in L2, the norm 5 % up or down at each step.

    While the gradient is zero there is no direction, and an example stays where it is. The norm never grows past the box.
    """

    threat: Ball = field(default=L2(math.inf))
    steps: int = 100
    first_radius: float = 1.0
    gamma: float = 0.05  # the share by which the norm changes at a step
    step_size: float = 1.0  # of the first step; it falls to a hundredth
    loss: Loss = CrossEntropy()
    targets: int = 0

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L2,)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, targets=0)
        if not 0 < self.gamma < 1:
            raise InputError(f"DDN: gamma is {self.gamma}; give a share of the norm between 0 and 1, for example 0.05.")
        for name in ("first_radius", "step_size"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"DDN: {name} is {getattr(self, name)}; give an L2 length above 0, for example 1.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        """At the first point, with the first norm."""
        zero = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Walk(first, torch.full(zero.shape, self.first_radius, dtype=x.dtype, device=x.device), zero)

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:  # type: ignore[override]
        """Turn the change by the gradient, and give it a shorter norm after a success, else a longer one."""
        stride = annealed(self.step_size, _LAST_STRIDE * self.step_size, state.taken, self.steps).to(x.dtype)
        delta = state.query - x + expand(stride, x) * self.threat.steepest(at.grad, state.query)
        reached = goal.reached(at.logits)
        radius = state.radius * torch.where(reached, 1 - self.gamma, 1 + self.gamma)
        radius = radius.clamp_max(box_reach(self.threat, x))
        length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
        query = (x + expand(radius / length.clamp_min(_TINY), x) * delta).clamp(0, 1)
        return _Walk(query, radius, state.taken + 1)
