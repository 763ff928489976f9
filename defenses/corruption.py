"""Weather, cameras and bad lines: what happens to pictures without an enemy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.types import expand
from advkit.defenses._pictures import blurred, chosen, contrasted, pixelated, smeared
from advkit.errors import InputError


@DEFENSES.register("corruption", paper="arXiv:1903.12261")
@dataclass(frozen=True)
class CorruptionTraining(Objective):
    """Cross-entropy on pictures with a common corruption each (after Hendrycks & Dietterich 2019).

    Gaussian, shot and impulse noise, blur, motion, contrast, brightness or pixels, at a severity from 1 to ``severity``
    about as strong as in CIFAR-10-C. What is trained on is no test any more: accuracy under these corruptions says nothing of
    others.
    """

    severity: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.severity <= 5:
            raise InputError(f"corruption: severity is {self.severity}; give the largest one drawn, from 1 to 5.")

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """Each picture under a corruption and a severity that are drawn; in [0, 1]."""
        rng = Rng.of(seed, identify(x))
        choice = rng.fold("choice").integers(len(_CORRUPTIONS))
        level = rng.fold("level").integers(self.severity)
        draws = rng.fold("draws")

        def under(corruption: Callable[[Tensor, Tensor, Rng], Tensor], strengths: tuple[float, ...]) -> Operation:
            table = torch.tensor(strengths, dtype=x.dtype, device=x.device)
            return lambda points, index: corruption(points, table[level[index]], draws.take(index))

        return chosen([under(corruption, strengths) for corruption, strengths in _CORRUPTIONS], choice, x)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)


Operation = Callable[[Tensor, Tensor], Tensor]


def _gaussian(x: Tensor, sigma: Tensor, rng: Rng) -> Tensor:
    return (x + expand(sigma, x) * rng.normal(*x.shape[1:], dtype=x.dtype)).clamp(0, 1)


def _shot(x: Tensor, photons: Tensor, rng: Rng) -> Tensor:
    """Photon noise in its normal limit: variance x / photons."""
    return (x + (x / expand(photons, x)).sqrt() * rng.normal(*x.shape[1:], dtype=x.dtype)).clamp(0, 1)


def _impulse(x: Tensor, share: Tensor, rng: Rng) -> Tensor:
    """A share of the values at 0 or 1."""
    hit = rng.fold("hit").uniform(*x.shape[1:]) < expand(share, x)
    return torch.where(hit, rng.fold("value").integers(2, *x.shape[1:]).to(x.dtype), x)


def _blur(x: Tensor, sigma: Tensor, rng: Rng) -> Tensor:
    return blurred(x, sigma, 4)


def _motion(x: Tensor, length: Tensor, rng: Rng) -> Tensor:
    return smeared(x, length, torch.pi * rng.uniform(dtype=x.dtype))


def _contrast(x: Tensor, factor: Tensor, rng: Rng) -> Tensor:
    return contrasted(x, factor)


def _brightness(x: Tensor, shift: Tensor, rng: Rng) -> Tensor:
    return (x + expand(shift, x)).clamp(0, 1)


def _pixels(x: Tensor, share: Tensor, rng: Rng) -> Tensor:
    return pixelated(x, share)


_CORRUPTIONS: tuple[tuple[Callable[[Tensor, Tensor, Rng], Tensor], tuple[float, ...]], ...] = (
    (_gaussian, (0.04, 0.06, 0.08, 0.09, 0.10)),  # standard deviation
    (_shot, (500, 250, 100, 75, 50)),  # photons of white
    (_impulse, (0.01, 0.02, 0.03, 0.05, 0.07)),  # share of the values
    (_blur, (0.4, 0.6, 0.7, 0.8, 1.0)),  # pixels
    (_motion, (2, 3, 4, 5, 6)),  # pixels
    (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),  # of what there was
    (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),
    (_pixels, (0.95, 0.9, 0.85, 0.75, 0.65)),  # share of the rows and columns
)
