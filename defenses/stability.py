"""Train a denoiser so that a classifier behind it answers under noise as it does without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.rng import Rng, identify
from advkit.defenses._denoising import Denoising
from advkit.errors import InputError


@DEFENSES.register("stability", paper="arXiv:2003.01908")
@dataclass(frozen=True)
class Stability(Denoising):
    """Trains a denoiser: a classifier behind it keeps its answer under Gaussian noise (Salman et al. 2020)."""

    sigma: float = 0.25  # of pixels in [0, 1]

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 10:
            raise InputError(
                f"stability: sigma is {self.sigma}; give a deviation above 0 and at most 10, such as 0.25."
            )

    by_agreement: ClassVar[bool] = True

    @property
    def needs_guide(self) -> bool:
        """Its answers are to be kept."""
        return True

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures with noise, not clipped."""
        return x + self.sigma * Rng.of(seed, identify(x)).fold("noise").normal(*x.shape[1:], dtype=x.dtype)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of the guide on the cleaned pictures, to its own answer on the clean ones."""
        with torch.no_grad():
            answered = self.of_guide(x).argmax(1)
        return F.cross_entropy(self.of_guide(self.cleaned(model, shown, x)), answered)
