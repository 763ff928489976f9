"""SPSA: Adam on a gradient that is estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._adam import Moments, adam, still
from advkit.attacks._probing import Probing
from advkit.catalog import ATTACKS
from advkit.core.rng import Rng


@ATTACKS.register("spsa", paper="arXiv:1802.05666")
@dataclass(frozen=True)
class SPSA(Probing):
    """Simultaneous perturbation (Uesato et al. 2018): the gradient estimated from scores at random corners, and Adam."""

    step_size: float = 0.3
    delta: float = 0.01  # every value of a probe moves by so much

    width: ClassVar[str] = "delta"

    def moves(self, x: Tensor, rng: Rng) -> Tensor:
        """Every value up or down."""
        return self.delta * (rng.uniform(self.samples, *x.shape[1:], dtype=x.dtype) - 0.5).sign()

    def memory(self, x: Tensor) -> Moments:
        """Adam's."""
        return still(x)

    def ascent(self, grad: Tensor, loss: Tensor, memory: Moments, x: Tensor) -> tuple[Tensor, Moments]:
        """Adam's step; where every value moves by 1, the ball may measure more."""
        move, memory = adam(grad, memory)
        one = torch.ones_like(x[:1])
        return move / float(self.threat.distance(one, torch.zeros_like(one))), memory
