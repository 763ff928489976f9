"""Attacks that bring their own loop: another library's, handed a model and pictures, and judged like any other."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from advkit.core.attack import Ascent, Attack, Point, State, Tells
from advkit.core.goal import Goal
from advkit.core.rng import Rng
from advkit.core.threat import Ball

__all__ = ["External"]


@dataclass(frozen=True)
class External(Attack):
    """An attack of another library under the name of its bridge, with every setting that it runs with.

    The engine hands it whole batches, counts what it asks of the model, measures and judges what it gives back. It draws
    from the global generators, which are seeded for each batch and put back; so other than in attacks of advkit's own, what
    an example becomes may depend on who shares its batch.
    """

    threat: Ball
    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    version: str = ""
    minimal: bool = field(default=False, repr=False)
    tells: Tells = field(default="gradient", repr=False)  # type: ignore[misc]
    steps: int = field(default=0, init=False, repr=False)

    @abstractmethod
    def perturb(self, model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
        """What the other library makes of pictures x (B, ...); ``model`` gives logits. Raises InputError for goals it lacks."""

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        """There is none: ``perturb`` does all of it."""
        return Point(state.query)
