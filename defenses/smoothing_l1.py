"""Randomised smoothing: certificates in L1 from uniform or Laplace noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.defenses._smoothing import ByNoise, Probabilities


@DEFENSES.register("smoothing-l1", paper="arXiv:2002.08118")
@dataclass(frozen=True)
class SmoothingL1(ByNoise):
    """Smoothing by uniform noise (Yang et al. 2020) or Laplace noise (Teng et al. 2019): radius in L1.

    Noise is uniform in a cube of side 2 l, l = sqrt(3) sigma, or has the scale b = sigma / sqrt(2).
    """

    noise_kind: Literal["uniform", "laplace"] = "uniform"

    norm: ClassVar[str] = "l1"

    def unit_noise(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
        """Uniform in [-sqrt(3), sqrt(3)], or by the inverse of Laplace's distribution function, of scale 1 / sqrt(2)."""
        u = torch.rand(shape, generator=generator, device=device).sub_(0.5).mul_(2)
        if self.noise_kind == "uniform":
            return u.mul_(3**0.5)
        # -1 is met once in 2^24 draws, and its logarithm would be infinite
        return u.abs().neg_().add_(1).clamp_(min=2**-25).log_().mul_(-(0.5**0.5)).copysign_(u)

    def radius_at(self, p: npt.ArrayLike) -> Probabilities:
        """2 l (p - 1/2) for uniform noise, -b log(2 (1 - p)) for Laplace noise."""
        p = np.asarray(p, np.float64)
        if self.noise_kind == "uniform":
            return 2 * 3**0.5 * self.sigma * (p - 0.5)
        with np.errstate(divide="ignore"):  # infinite where p is 1
            return np.asarray(-(self.sigma / 2**0.5) * np.log(2 * (1 - p)), np.float64)
