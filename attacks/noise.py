"""Random noise in the ball: the control that every attack must beat by far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Point, Tells
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import Ball, Linf
from advkit.errors import InputError


@ATTACKS.register("noise", paper="arXiv:1902.06705")
@dataclass(frozen=True)
class Noise(Attack):
    """Noise drawn ``steps`` times, the worst draw kept: a control, not an attack (Carlini et al. 2019)."""

    threat: Ball = Linf(8 / 255)
    steps: int = 10
    shape: Literal["uniform", "gaussian"] = "uniform"
    loss: Loss = CrossEntropy()

    tells: ClassVar[Tells] = "scores"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"Noise: steps is {self.steps}; give the number of draws, 1 or more.")

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The first draw."""
        return self._draw(x, rng)

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:  # type: ignore[override]
        """Another draw, whatever the model said."""
        return Point(self._draw(x, rng))

    def _draw(self, x: Tensor, rng: Rng) -> Tensor:
        if self.shape == "uniform":
            return self.threat.random_point(x, rng)
        # As wide as the ball: the projection then puts most of the noise on its surface, where it is strongest.
        return self.threat.project(x + self.threat.reach(x) * rng.normal(*x.shape[1:], dtype=x.dtype), x)
