"""The universal perturbation: one change of the values that is added to every picture."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.fitted import Fit, Fitted
from advkit.core.losses import ClippedCrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import L2, Ball, Linf
from advkit.errors import InputError

_PATH = 15.0  # of all steps together, in radii: a twentieth of the radius each where they are 300


@ATTACKS.register("uap", paper="arXiv:1811.11304")
@dataclass(frozen=True)
class UAP(Fitted):
    """One perturbation for all pictures (Moosavi-Dezfooli et al. 2017), by stochastic gradients (Shafahi et al. 2020).

    Each step goes up the mean loss of a batch, whose pictures stop counting once they are beaten for sure. Scored is what is
    left of the perturbation in the box around each picture.
    """

    threat: Ball = Linf(8 / 255)
    steps: int = 300
    step_size: float | None = None  # fraction of eps; None is 15 / steps, and at most 1
    loss: Loss = field(default=ClippedCrossEntropy())
    pictures: int = 512
    batch: int = 64
    fitted_on: str = "auto"

    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, pictures=1, batch=1)
        if self.step_size is not None and not 0 < self.step_size < math.inf:
            raise InputError(f"UAP: step_size is {self.step_size}; give a fraction of eps above 0, for example 0.05.")

    @property
    def stride(self) -> float:
        """Length of a step as a fraction of eps. However few they are, the steps go as far as the ball reaches."""
        return min(1.0, _PATH / self.steps) if self.step_size is None else self.step_size

    def begin(self, x: Tensor, rng: Rng) -> Fit:
        """No perturbation."""
        return Fit(torch.zeros_like(x[0]), None)

    def worn(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """The sum, cut to the range of a pixel."""
        return (x + thing).clamp(0, 1)

    def shown(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """The nearest point to the sum in ball and box."""
        return self.threat.project(x + thing, x)

    def improved(self, at: Fit, grad: Tensor) -> Fit:
        """One stride up the ball's steepest direction, back into the ball."""
        thing = at.thing[None]
        length = self.stride * self.threat.reach(thing)
        ahead = thing + length * self.threat.steepest(grad[None], thing)
        return Fit(self._within(ahead)[0], None)

    def blanks(self, thing: Tensor) -> tuple[tuple[str, Tensor], ...]:
        """A perturbation of the same size in a direction drawn at random."""
        noise = Rng.of(0, torch.zeros(1, dtype=torch.long)).normal(*thing.shape, dtype=thing.dtype)
        still = torch.zeros_like(noise)
        size = float(type(self.threat)(math.inf).distance(thing[None], still.to(thing))[0])
        return (("random", size * self.threat.steepest(noise, still)[0]),)

    def _within(self, delta: Tensor) -> Tensor:
        """Perturbations (1, ...) in the ball and in [-1, 1], which no picture's own box cuts further."""
        # A ball of half the radius around grey has room for half of every perturbation.
        grey = torch.full_like(delta, 0.5)
        half = type(self.threat)(float(self.threat.eps) / 2)
        return 2 * (half.project(grey + delta / 2, grey) - grey)
