"""NES: steepest ascent with momentum on a gradient that is estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._probing import Probing
from advkit.catalog import ATTACKS
from advkit.core.rng import Rng

_MOMENTUM = 0.9  # of the authors' code


@ATTACKS.register("nes", paper="arXiv:1804.08598")
@dataclass(frozen=True)
class NES(Probing):
    """Natural evolution strategies (Ilyas et al. 2018): the gradient estimated from scores at normal draws, and momentum."""

    sigma: float = 0.001  # standard deviation of the values of a probe

    width: ClassVar[str] = "sigma"

    def moves(self, x: Tensor, rng: Rng) -> Tensor:
        """Normal draws."""
        return self.sigma * rng.normal(self.samples, *x.shape[1:], dtype=x.dtype)

    def memory(self, x: Tensor) -> Tensor:
        """The mean of the gradients, later ones counting more."""
        return torch.zeros_like(x)

    def ascent(self, grad: Tensor, memory: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The steepest step along the mean."""
        memory = _MOMENTUM * memory + (1 - _MOMENTUM) * grad
        return self.threat.steepest(memory, x), memory
