"""Training under the noise of randomised smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.defenses._settings import above


@DEFENSES.register("gaussian", paper="arXiv:1902.02918")
@dataclass(frozen=True)
class GaussianTraining(Objective):
    """Cross-entropy on pictures with Gaussian noise, for randomised smoothing (Cohen et al. 2019).

    The noise is not clipped to [0, 1], since that of the certifier is not either.
    """

    sigma: float = 0.25  # in units of the pixel range, as the certifier's

    def __post_init__(self) -> None:
        above("gaussian", sigma=self.sigma)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """x + N(0, sigma^2), one draw for each picture."""
        return x + self.sigma * Rng.of(seed, identify(x)).fold("noise").normal(*x.shape[1:], dtype=x.dtype)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
