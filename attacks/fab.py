"""FAB: along the decision boundary, drawn towards the clean picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._boundary import Way, dot, near, no_way, to_plane
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Ranking
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin, TargetedMargin
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand
from advkit.errors import InputError

_FINAL = 3  # steps of the search between the clean picture and the nearest found


class _Crossing(NamedTuple):
    query: Tensor
    share: Tensor  # (B,) of the way to the nearest found, where the query lies on it; else 0
    way: Way
    taken: Tensor  # (B,)


@ATTACKS.register("fab", paper="arXiv:1907.02044")
@dataclass(frozen=True)
class FAB(Attack):
    """Fast Adaptive Boundary (Croce & Hein 2020): projections on the plane between the class and its best rival.

    The paper takes the nearest of the planes towards all rivals, at one gradient each; here it is that of the rival with the
    highest score, and ``targets`` tries several in turn. Where a step has crossed the boundary, the paper goes back by
    ``beta`` and asks again; here the plane seen on the far side serves the point gone back to, so that every pass
    moves. At as many passes that comes 1 to 5 % nearer. The last three steps search the way to the clean picture. The first
    start is the clean picture; ``restarts`` begin around it.
    """

    threat: Ball = Linf(math.inf)
    steps: int = 100
    alpha_max: float = 0.1  # most that the clean picture's own projection counts
    eta: float = 1.05  # how far over the plane
    beta: float = 0.9  # share of the way from the clean picture that is kept after a crossing
    restarts: int = 1
    targets: int = 0
    ranking: Ranking = "logits"
    loss: Loss = field(default=Margin(), init=False, repr=False)

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, restarts=1, targets=0)
        name = type(self).__name__
        if not 0 <= self.alpha_max <= 1:
            raise InputError(f"{name}: alpha_max is {self.alpha_max}; it is the share of the clean picture, 0 to 1.")
        if not 1 <= self.eta < math.inf:
            raise InputError(f"{name}: eta is {self.eta}; 1 ends on the plane, more goes over it, for example 1.05.")
        if not 0 < self.beta < 1:
            raise InputError(f"{name}: beta is {self.beta}; it is the share of the way that is kept, between 0 and 1.")

    def again(self, best: Tensor, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """A random point at up to half the distance of the nearest found, or of the radius where nothing is."""
        distance = self.threat.distance(best, x)
        radius = torch.where(distance > 0, distance, self.threat.reach(x)).clamp_max(self.threat.eps)
        return near(self.threat, x, radius / 2, rng)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Crossing:
        """Nothing is found yet."""
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return _Crossing(first, zero, no_way(x), torch.zeros(len(x), dtype=torch.long, device=x.device))

    def step(self, state: _Crossing, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Crossing:  # type: ignore[override]
        """Over the plane; from the other side, first a part of the way back; in the last steps between the two."""
        way = state.way.after(state.query, state.share, at, self.threat, x, goal)
        taken = state.taken + 1
        last = (taken >= self.steps - min(_FINAL, self.steps // 4)) & way.distance.isfinite()
        share = torch.where(last, way.crossing(), 0.0)
        onward = self._across(state.query, at, goal.reached(at.logits), x)
        query = torch.where(expand(last, x), way.at(share, x), onward)
        return _Crossing(query.clamp(0, 1).to(x.dtype), share, way, taken)

    def _across(self, query: Tensor, at: Ascent, hit: Tensor, x: Tensor) -> Tensor:
        """Over the plane that the query's answer shows, drawn to where the clean picture would cross it."""
        grad, clean, seen = at.grad.double(), x.double(), query.double()
        here = torch.where(expand(hit, x), clean + self.beta * (seen - clean), seen)
        gap = -at.loss.double() - dot(grad, here - seen)
        move, clean_move = (
            to_plane(self.threat, here, grad, gap),
            to_plane(self.threat, clean, grad, gap - dot(grad, clean - here)),
        )
        length, clean_length = (self.threat.distance(change, torch.zeros_like(change)) for change in (move, clean_move))
        pull = length / (length + clean_length).clamp_min(torch.finfo(length.dtype).tiny)
        pull = expand(pull.clamp_max(self.alpha_max), x)
        return (1 - pull) * (here + self.eta * move) + pull * (clean + self.eta * clean_move)


@ATTACKS.register("fab-t", paper="arXiv:1907.02044")
@dataclass(frozen=True)
class TargetedFAB(FAB):
    """Fast Adaptive Boundary towards each of the likeliest rivals in turn, as in AutoAttack (Croce & Hein 2020)."""

    targets: int = 9
    loss: Loss = field(default=TargetedMargin(), init=False, repr=False)
