"""EAD: sparse changes by an objective with the L1 and the L2 distance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._constant import Constant, begins, span_of
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball
from advkit.core.types import expand
from advkit.errors import InputError


class _Shrinking(NamedTuple):
    query: Tensor  # the look-ahead of the momentum
    point: Tensor
    constant: Constant
    taken: Tensor  # (B,)


@ATTACKS.register("ead", paper="arXiv:1709.04114")
@dataclass(frozen=True)
class EAD(Attack):
    """Elastic-net attack (Chen et al. 2018): c max(confidence - margin, 0) + |change|^2 + beta |change|_1 by FISTA.

    ``steps`` are all steps, shared among the ``searches`` for the constant. The decision rule is the ball: in L1 the nearest in
    L1 comes back, in L2 the nearest in L2. The momentum's look-ahead is what is judged: it lies where changes are as sparse,
    and it is there that the model answers. The threshold falls with the step size, so that the objective stays the same; the
    paper's does not fall, and in the end undoes what was found.
    """

    threat: Ball = field(default=L1(math.inf))
    steps: int = 900
    searches: int = 9
    constant: float | None = None  # the first; None: with which the steepest value moves
    beta: float = 1e-2  # the first threshold below which a change is none
    confidence: float = 0.0  # how far the margin is to be overreached
    lr: float = 0.01  # the first step size; it falls with the root of the steps left in a search
    loss: Loss = field(default=Margin(), init=False, repr=False)

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L1, L2)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, searches=1)
        if self.constant is not None and not 0 < self.constant < math.inf:
            raise InputError(f"EAD: constant is {self.constant}; give a number above 0, or None to estimate it.")
        if not 0 < self.lr < math.inf:
            raise InputError(f"EAD: lr is {self.lr}; give a step size above 0, for example 0.01.")
        for name in ("beta", "confidence"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"EAD: {name} is {getattr(self, name)}; give a number of 0 or more.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Shrinking:
        """At the first point, before the first search."""
        taken = torch.zeros(len(x), dtype=torch.long, device=x.device)
        return _Shrinking(first, first, Constant.first(len(x), self.constant or 0.0, x.device), taken)

    def step(self, state: _Shrinking, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Shrinking:  # type: ignore[override]
        """Down the smooth part, the small changes to none, and ahead by the momentum."""
        taken, span = state.taken + 1, span_of(self.steps, self.searches)
        short = at.loss < self.confidence
        constant = state.constant
        if self.constant is None:
            constant = constant._replace(value=torch.where(state.taken == 0, self._moving(at), constant.value))
        constant = constant._replace(hit=constant.hit | (goal.reached(at.logits) & ~short))
        pull = expand((constant.value * short).to(x.dtype), x) * at.grad
        within = state.taken % span  # steps of this search
        left = expand((1 - within / span).sqrt().to(x.dtype), x)
        change = state.query - self.lr * left * (2 * (state.query - x) - pull) - x
        point = (x + change.sign() * (change.abs() - self.beta * left).clamp_min(0)).clamp(0, 1)
        ahead = (point + expand((within / (within + 3)).to(x.dtype), x) * (point - state.point)).clamp(0, 1)
        starts = begins(taken, self.steps, self.searches)
        point, ahead = (torch.where(expand(starts, x), x, place) for place in (point, ahead))
        return _Shrinking(ahead, point, constant.after(starts), taken)

    def _moving(self, at: Ascent) -> Tensor:
        """The constant (B,) with which the steepest value goes to the end of its range."""
        steepest = at.grad.double().flatten(1).abs().amax(1)
        return (2 + self.beta / self.lr) / steepest.clamp_min(1e-30)
