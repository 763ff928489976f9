"""DeepFool: from plane to plane until one is crossed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._boundary import Way, no_way, to_plane
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Ranking
from advkit.core.goal import Goal
from advkit.core.losses import Loss, TargetedMargin
from advkit.core.rng import Rng
from advkit.core.threat import L2, Ball, Linf
from advkit.core.types import expand
from advkit.errors import InputError


class _Approach(NamedTuple):
    query: Tensor
    share: Tensor  # (B,) of the way to the crossing, where the query lies on it; else 0
    way: Way


@ATTACKS.register("deepfool", paper="arXiv:1511.04599")
@dataclass(frozen=True)
class DeepFool(Attack):
    """DeepFool (Moosavi-Dezfooli et al. 2016): a linear model's nearest boundary, again and again until it is crossed.

    The paper takes, at every iterate, the nearest of the planes towards all rivals; a pass here shows one. So each of the
    ``targets`` rivals is gone for in turn, those first that a linear model puts nearest (``ranking``), and the nearest
    crossing counts. The planes are those in the box, which the paper leaves out. Steps that are left after the crossing
    search the way back, so that the result does not hang on the overshoot.
    """

    threat: Ball = field(default=L2(math.inf))
    steps: int = 20
    overshoot: float = 0.02
    targets: int = 3
    ranking: Ranking = "malt"
    loss: Loss = field(default=TargetedMargin(), init=False, repr=False)

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L2, Linf)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, targets=1)
        if not 0 <= self.overshoot < math.inf:
            raise InputError(f"DeepFool: overshoot is {self.overshoot}; give a share of the way, 0 or more.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Approach:
        """At the first point, nothing crossed."""
        return _Approach(first, torch.zeros(len(x), dtype=torch.float64, device=x.device), no_way(x))

    def step(self, state: _Approach, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Approach:  # type: ignore[override]
        """Onto the plane seen from here, and a little over it; after a crossing, back on the way to the clean picture."""
        way = state.way.after(state.query, state.share, at, self.threat, x, goal)
        share = torch.where(way.distance.isfinite(), way.crossing(), 0.0)
        clean, seen = x.double(), state.query.double()
        change = seen + to_plane(self.threat, seen, at.grad, -at.loss) - clean
        onward = clean + (1 + self.overshoot) * change
        query = torch.where(expand(share > 0, x), way.at(share, x), onward)
        return _Approach(query.clamp(0, 1).to(x.dtype), share, way)
