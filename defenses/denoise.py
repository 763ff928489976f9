"""Train a denoiser to give the picture back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball, Linf
from advkit.core.types import expand
from advkit.defenses._denoising import Denoising, perturbed
from advkit.defenses._settings import above, at_least
from advkit.errors import InputError


@DEFENSES.register("denoise", paper="arXiv:1608.03981")
@dataclass(frozen=True)
class Denoise(Denoising):
    """Trains a denoiser: squared error to the picture without its noise (Zhang et al. 2017).

    ``noise`` is gaussian, of the deviation ``sigma`` or of one drawn for each picture from ``sigma_least`` to it; or
    adversarial: between the picture and what PGD on the guide makes of it within ``threat`` (Gu & Rigazio 2015).
    """

    sigma: float = 0.25  # of pixels in [0, 1]
    sigma_least: float | None = None
    noise: Literal["gaussian", "adversarial"] = "gaussian"
    threat: Ball = Linf(8 / 255)
    steps: int = 4
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 10:
            raise InputError(f"denoise: sigma is {self.sigma}; give a deviation above 0 and at most 10, such as 0.25.")
        if self.sigma_least is not None and not 0 <= self.sigma_least <= self.sigma:
            raise InputError(f"denoise: sigma_least is {self.sigma_least}; give 0 or more, up to sigma ({self.sigma}).")

        at_least("denoise", 1, steps=self.steps)
        above("denoise", step_size=self.step_size)

    @property
    def needs_guide(self) -> bool:
        """Only adversarial noise is made on a classifier."""
        return self.noise == "adversarial"

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures with noise, not clipped."""
        if self.noise == "adversarial":
            return perturbed(self, x, self.threat, self.steps, self.step_size, seed)
        rng = Rng.of(seed, identify(x))
        noise = self.sigma * rng.fold("noise").normal(*x.shape[1:], dtype=x.dtype)
        if self.sigma_least is None:
            return x + noise
        least = self.sigma_least / self.sigma
        return x + expand(least + (1 - least) * rng.fold("sigma").uniform(dtype=x.dtype), x) * noise

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean squared error over pixels and pictures."""
        return F.mse_loss(self.cleaned(model, shown, x), x)
