"""Auto-PGD: projected gradient ascent that chooses its own step size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.attacks._sparse_ascent import SparseAscent
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Ranking, State
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss, TargetedDLR
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand

# Of Croce & Hein 2020, section 3: shares of the steps, but for the first two.
_FIRST_STRIDE = 2.0  # of eps
_PULL = 0.75  # of the new direction; the rest is momentum
_FIRST_SPAN, _SHORTER, _LEAST_SPAN = 0.22, 0.03, 0.06
_ENOUGH = 0.75  # of the steps since the last checkpoint have to climb


class _Ascending(NamedTuple):
    query: Tensor
    former: Tensor  # the point before the query
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    last_loss: Tensor
    stride: Tensor  # (B,) in eps
    taken: Tensor  # (B,) steps
    since: Tensor  # since the last checkpoint
    climbed: Tensor  # of these, how many raised the loss
    span: Tensor  # steps between two checkpoints
    checked_loss: Tensor  # the best loss at the last checkpoint
    halved: Tensor  # bool: the stride was halved there


@ATTACKS.register("apgd", paper="arXiv:2003.01690")
@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD (Croce & Hein 2020): momentum, and a step size that is halved where the loss no longer climbs.

    In L1 few values move, as many as the best point has shown to be of use, and the climb begins in balls of three and two
    radii (Croce & Hein 2021).
    """

    threat: Ball = Linf(8 / 255)
    steps: int = 100
    loss: Loss = CrossEntropy()
    restarts: int = 1
    targets: int = 0
    ranking: Ranking = "logits"
    views: int = 1
    """Passes over which each gradient is the mean, for models that draw (EOT)."""

    nested: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, restarts=1, targets=0, views=1)

    @property
    def strays(self) -> bool:  # type: ignore[override]
        """In L1, whose climb begins in larger balls."""
        return self._sparse is not None

    @property
    def _sparse(self) -> SparseAscent | None:
        return SparseAscent(self.threat, self.steps) if isinstance(self.threat, L1) else None

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """A random point of the ball; in L1 of the largest one."""
        return self.threat.random_point(x, rng) if self._sparse is None else self._sparse.first(x, rng)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> State:
        """Nothing is known of the first point yet."""
        if self._sparse is not None:
            return self._sparse.start(first, x)
        zero = torch.zeros(len(x), dtype=torch.long, device=x.device)
        low = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        return _Ascending(
            query=first,
            former=first,
            best=first,
            best_grad=torch.zeros_like(first),
            best_loss=low,
            last_loss=low,
            stride=torch.full_like(low, _FIRST_STRIDE),
            taken=zero,
            since=zero,
            climbed=zero,
            span=torch.full_like(zero, max(1, int(_FIRST_SPAN * self.steps))),
            checked_loss=low,
            halved=torch.ones_like(zero, dtype=torch.bool),
        )

    def step(self, state: Any, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """Keep the best, look at a checkpoint whether the stride still serves, and move on."""
        return self._sparse.step(state, at, x) if self._sparse is not None else self._climbed(state, at, x)

    def _climbed(self, state: _Ascending, at: Ascent, x: Tensor) -> _Ascending:
        moved = state.taken > 0
        better = at.loss > state.best_loss
        best = torch.where(expand(better, x), state.query, state.best)
        best_grad = torch.where(expand(better, x), at.grad, state.best_grad)
        best_loss = torch.maximum(at.loss, state.best_loss)
        since = state.since + moved
        climbed = state.climbed + (moved & (at.loss > state.last_loss))

        due = since >= state.span
        stalls = climbed <= _ENOUGH * since
        stands = ~state.halved & (state.checked_loss >= best_loss)
        halve = due & (stalls | stands)
        stride = torch.where(halve, state.stride / 2, state.stride)
        # A shorter stride begins again at the best point that was found.
        here = torch.where(expand(halve, x), best, state.query)
        grad = torch.where(expand(halve, x), best_grad, at.grad)

        length = expand(stride * self.threat.reach(x), x)
        ahead = self.threat.project(here + length * self.threat.steepest(grad, here), x)
        pull = expand(torch.where(moved, _PULL, 1.0).to(x.dtype), x)
        query = self.threat.project(here + pull * (ahead - here) + (1 - pull) * (here - state.former), x)
        shorter, least = (max(1, int(share * self.steps)) for share in (_SHORTER, _LEAST_SPAN))
        return _Ascending(
            query=query,
            former=here,
            best=best,
            best_grad=best_grad,
            best_loss=best_loss,
            last_loss=at.loss,
            stride=stride,
            taken=state.taken + 1,
            since=torch.where(due, 0, since),
            climbed=torch.where(due, 0, climbed),
            span=torch.where(due, (state.span - shorter).clamp_min(least), state.span),
            checked_loss=torch.where(due, best_loss, state.checked_loss),
            halved=torch.where(due, halve, state.halved),
        )


@ATTACKS.register("apgd-t", paper="arXiv:2003.01690")
@dataclass(frozen=True)
class TargetedAPGD(APGD):
    """Auto-PGD towards each of the likeliest rivals, on the targeted ratio of logit differences (Croce & Hein 2020)."""

    loss: Loss = field(default=TargetedDLR())
    targets: int = 9
