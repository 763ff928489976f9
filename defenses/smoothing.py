"""Randomised smoothing: certificates in L2 from Gaussian noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.defenses._smoothing import ByNoise, Probabilities


@DEFENSES.register("smoothing", paper="arXiv:1902.02918")
@dataclass(frozen=True)
class Smoothing(ByNoise):
    """Randomised smoothing by Gaussian noise (Cohen et al. 2019): radius sigma times the normal quantile of p, in L2."""

    norm: ClassVar[str] = "l2"

    def unit_noise(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
        """Standard normal."""
        return torch.randn(shape, generator=generator, device=device)

    def radius_at(self, p: npt.ArrayLike) -> Probabilities:
        """Sigma times the quantile; of two classes, the other has 1 - p."""
        radius: Probabilities = self.sigma * ndtri(p)
        return radius
