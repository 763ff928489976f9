"""Gradient ascent where only scores are known: pairs of probes on opposite sides of a point tell the slope there."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.core.attack import Ascent, Attack, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L2, Ball, Linf
from advkit.core.types import Tree, expand
from advkit.errors import InputError

__all__ = ["Probing", "around", "slope"]


class _Climb(NamedTuple):
    query: Tensor  # (B, 1 + 2 S, ...): where it stands, and the probes around
    memory: Tree


@dataclass(frozen=True)
class Probing(Attack):
    """Climbs from the clean picture by the slope that ``samples`` pairs of probes tell at each step.

    A step costs 1 + 2 ``samples`` queries: where it stands is asked too. There are as many steps as ``queries`` allow.
    """

    threat: Ball = Linf(8 / 255)
    queries: int = 10_000
    samples: int = 25
    step_size: float = 0.1  # fraction of eps
    loss: Loss = Margin()
    restarts: int = 1
    probes: int = field(default=1, init=False, repr=False)
    steps: int = field(default=1, init=False, repr=False)

    tells: ClassVar[Tells] = "scores"
    nested: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2)
    width: ClassVar[str]
    """The setting that says how far apart the probes are."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_ball(self)
        check_least(self, queries=1, samples=1, restarts=1)
        if not self.step_size > 0:
            raise InputError(f"{name}: step_size is {self.step_size}; give a fraction of eps above 0, for example 0.1.")
        if not 0 < getattr(self, self.width) <= 1:
            raise InputError(f"{name}: {self.width} is {getattr(self, self.width)}; it is in values of x, in (0, 1].")
        object.__setattr__(self, "probes", 1 + 2 * self.samples)
        if self.probes > self.queries:
            raise InputError(
                f"{name}: queries is {self.queries}, and one step of {self.samples} samples takes {self.probes}; "
                "give more queries or fewer samples."
            )
        object.__setattr__(self, "steps", self.queries // self.probes)

    @abstractmethod
    def moves(self, x: Tensor, rng: Rng) -> Tensor:
        """From the point to one probe of each pair, (B, S, ...)."""

    @abstractmethod
    def memory(self, x: Tensor) -> Tree:
        """What is remembered before the first slope."""

    @abstractmethod
    def ascent(self, grad: Tensor, loss: Tensor, memory: Tree, x: Tensor) -> tuple[Tensor, Tree]:
        """The step, in strides, and the memory after it; ``loss`` (B,) is that of the point."""

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Climb:
        """Probes around the first point."""
        return _Climb(around(first, x, self.moves(x, rng), self.threat), self.memory(x))

    def step(self, state: _Climb, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Climb:  # type: ignore[override]
        """Up the slope, and probes around where that leads."""
        move, memory = self.ascent(slope(state.query, at.loss), at.loss[:, 0], state.memory, x)
        point = self.threat.project(state.query[:, 0] + self.step_size * self.threat.reach(x) * move, x)
        return _Climb(around(point, x, self.moves(x, rng), self.threat), memory)


def around(point: Tensor, x: Tensor, moves: Tensor, threat: Ball) -> Tensor:
    """The point (B, ...) itself, then S probes at ``moves`` (B, S, ...) from it and S opposite ones: (B, 1 + 2 S, ...).

    All are pulled back into ball and box: what is asked may be a success, and none lies outside.
    """
    shown = point[:, None] + torch.cat([moves, -moves], 1)
    base = x[:, None].expand_as(shown)
    return torch.cat([point[:, None], threat.project(shown.flatten(0, 1), base.flatten(0, 1)).reshape(shown.shape)], 1)


def slope(query: Tensor, loss: Tensor) -> Tensor:
    """The gradient (B, ...) by the losses (B, 1 + 2 S) at ``around``: for each value the regression on it alone.

    The regressor is how far two opposite probes really lie apart, which is less where ball or box are near.
    """
    ahead, behind = query[:, 1:].chunk(2, 1)
    higher, lower = loss[:, 1:].chunk(2, 1)
    apart = ahead - behind
    rise = expand(higher - lower, apart)
    return (rise * apart).sum(1) / apart.square().sum(1).clamp_min(torch.finfo(apart.dtype).tiny)
