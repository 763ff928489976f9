"""Controls: what stands beside an attack of the physical world, so that it is not praised for what any blot does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._renderer import COLOURS, Squares
from advkit.core.attack import Ascent, Attack, Point, State, Tells
from advkit.core.goal import Goal
from advkit.core.regions import Area, Shade, Veil
from advkit.core.rng import Rng
from advkit.core.threat import Ball, Sparse

__all__ = ["Background", "background"]


@dataclass(frozen=True)
class Background(Attack):
    """What the threat model allows without any search, drawn once.

    A grey square of the same area at a random place; where light is limited, the whole picture darkened or under a grey
    veil.
    """

    threat: Ball = Area(0.05)
    steps: int = field(default=0, init=False, repr=False)

    tells: ClassVar[Tells] = "scores"
    balls: ClassVar[tuple[type[Ball], ...]] = (Sparse, Shade, Veil)

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The draw."""
        if isinstance(self.threat, Shade):
            return self.threat.project(torch.zeros_like(x), x)
        if not isinstance(self.threat, Sparse):
            return self.threat.project(torch.lerp(x, torch.full_like(x, COLOURS["grey"][0]), self.threat.reach(x)), x)
        theta = rng.fold("background").uniform(1, 3, dtype=x.dtype)
        return Squares(1, (COLOURS["grey"],)).render(theta, x, (), self.threat)[:, 0]

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """There is no second draw."""
        return Point(state.query)


def background(threat: Ball) -> tuple[str, Attack]:
    """The control of a threat model without a search, with its name: ``grey``, or ``dark`` where light only falls."""
    return "dark" if isinstance(threat, Shade) else "grey", Background(threat)
