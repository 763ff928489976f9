"""What is one for many pictures: fitted on some, then shown on others.

A fitted attack has a thing (a patch, a perturbation) instead of a point for each picture. The engine's loop asks it to put
the thing on a batch of training pictures, asks the model, and hands it the mean gradient; at the end the thing becomes an
ordinary attack that asks the model nothing and is judged like any other.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Ascent, Attack, Point, State, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import Tree
from advkit.errors import InputError

__all__ = ["Applied", "Fit", "Fitted", "digest_of"]


class Fit(NamedTuple):
    """Where a fit stands: the thing, (C, h, w) or any shape, and what its optimiser remembers."""

    thing: Tensor
    memory: Tree


class Fitted(Attack):
    """An attack with one thing for all pictures. Frozen dataclasses, as all attacks; ``steps`` are those of the fit.

    ``advkit.engine.fitting.fit(attack, model, data)`` gives the attack to run; ``evaluate`` and sweeps do so themselves.
    """

    pictures: int = 512
    """Training pictures, of those that the model gets right."""
    batch: int = 32
    """Of them, how many are looked at in a step."""
    fitted_on: str = "auto"
    """A data set's name or path; auto: the training split of the data, else pictures of it that are not scored. A file of
    ``save_fitted`` (.safetensors) is shown as it is."""

    @abstractmethod
    def begin(self, x: Tensor, rng: Rng) -> Fit:
        """The thing before the first step, for pictures like x (1, C, H, W); ``rng`` has one stream."""

    @abstractmethod
    def worn(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """Pictures x (B, C, H, W) with the thing on them, as a fit draws it; differentiable in the thing."""

    def shown(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """The same as it is scored; here as a fit draws it."""
        return self.worn(thing, x, rng)

    @abstractmethod
    def improved(self, at: Fit, grad: Tensor) -> Fit:
        """The thing after a step; ``grad`` is the mean gradient of a batch, of this step alone."""

    def blanks(self, thing: Tensor) -> tuple[tuple[str, Tensor], ...]:
        """Things of the same form that were not fitted, by name: the controls."""
        return ()

    def applied(self, thing: Tensor) -> Applied:
        """The thing as an attack."""
        return Applied(self.threat, self, thing.detach().cpu().clone())

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> State:
        """Refused: a thing comes first."""
        name = type(self).__name__
        raise InputError(
            f"{name} is one for many pictures, and is fitted before it is shown: advkit.engine.fitting.fit({name}(...), "
            "model, data) gives the attack to call on other pictures."
        )

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """There is none without a thing."""
        return state


def digest_of(thing: Tensor) -> str:
    """Twelve letters that name a thing by its values."""
    found = hashlib.sha256(f"{tuple(thing.shape)}".encode())
    found.update(thing.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()[:12]


@dataclass(frozen=True)
class Applied(Attack):
    """A thing that was fitted, put on each picture where that picture's own draw says; asks the model nothing.

    ``by`` says with which settings it was fitted, ``digest`` names it by its values. In another ball it is shown as its
    fit would show it there. Each restart is another draw.
    """

    threat: Ball
    by: Fitted
    thing: Tensor = field(repr=False, compare=False)
    restarts: int = 1
    digest: str = field(init=False)
    steps: int = field(default=0, init=False, repr=False)
    loss: Loss = field(default=Margin(), init=False, repr=False)

    tells: ClassVar[Tells] = "scores"

    def __post_init__(self) -> None:
        if self.restarts < 1:
            raise InputError(f"{type(self.by).__name__}: restarts is {self.restarts}; give 1 or more.")
        moved: Fitted = replace(self.by, threat=self.threat)  # type: ignore[type-var]
        object.__setattr__(self, "by", moved)
        object.__setattr__(self, "digest", digest_of(self.thing))

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The pictures with the thing on them."""
        with torch.no_grad():
            return self.by.shown(self.thing.to(x), x, rng)

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        """There is none."""
        return Point(state.query)

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        """Things of the same form that were not fitted."""
        return tuple((name, replace(self, thing=blank)) for name, blank in self.by.blanks(self.thing))
