"""Logit pairing of clean pictures with one another."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.defenses._logits import wide
from advkit.defenses._settings import above


@DEFENSES.register("clp", paper="arXiv:1803.06373")
@dataclass(frozen=True)
class CleanLogitPairing(Objective):
    """Cross-entropy on noisy pictures plus the squared difference of the logits of pairs (Kannan et al. 2018).

    It is broken: small logits hide the gradient from an attack on the cross-entropy of few steps, and a stronger one beats
    it (Mosbach et al. 2018, arXiv:1810.12042; Engstrom et al. 2018, arXiv:1807.10272, on adversarial pairing).
    """

    weight: float = 0.5
    sigma: float = 0.25  # of the noise, in units of the pixel range

    def __post_init__(self) -> None:
        above("clp", weight=self.weight, sigma=self.sigma)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """Pictures with Gaussian noise, in [0, 1]."""
        noise = Rng.of(seed, identify(x)).fold("noise").normal(*x.shape[1:], dtype=x.dtype)
        return (x + self.sigma * noise).clamp(0, 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """CE + weight * mean of (z_i - z_{i + B/2})^2: the first half of the batch against the second, whatever the class."""
        logits = wide(model(shown))
        half = len(logits) // 2
        loss = F.cross_entropy(logits, y)
        return loss + self.weight * F.mse_loss(logits[:half], logits[half : 2 * half]) if half else loss
