"""What goes into a run of an attack and what comes out of it: examples, and how far each has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor

from advkit.core.goal import Goal

__all__ = ["Finished", "Keep", "Progress", "Sink", "Source"]

Keep = Literal["first", "best", "last"]
Progress = Callable[[int, int], None]
"""Told (work done, work there is) in steps of examples."""


@dataclass(frozen=True)
class Source:
    """The examples of a run: ``fetch(indices)`` gives pictures (B, ...); ``goal`` has one row for each of them."""

    fetch: Callable[[Sequence[int]], Tensor]
    goal: Goal
    first: Callable[[Sequence[int]], Tensor] | None = None  # replaces the attack's own first points
    place: Tensor | None = None  # (N,) of the examples in their data, ascending; None: they are all there is

    def __len__(self) -> int:
        return len(self.goal.classes)


class Finished(NamedTuple):
    """Examples whose run is over, (B,) each; ``x_adv`` is inside the ball, its prediction the caller's own model's."""

    example: Tensor
    x_adv: Tensor
    success: Tensor
    prediction: Tensor
    distance: Tensor
    steps: Tensor
    rung: Tensor  # of a nested search: at which radius; else 0
    margin: Tensor  # of the goal at x_adv, by the caller's own model


class Sink(Protocol):
    """Takes what is finished, in the order in which it is."""

    def __call__(self, finished: Finished) -> None:
        """Keep or write it."""
