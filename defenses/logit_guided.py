"""Train a denoiser by a classifier's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.threat import Ball, Linf
from advkit.defenses._denoising import Denoising, perturbed
from advkit.defenses._settings import above
from advkit.errors import InputError


@DEFENSES.register("logit-guided", paper="arXiv:1712.02976")
@dataclass(frozen=True)
class LogitGuided(Denoising):
    """Trains a denoiser: L1 distance of a classifier's logits, without and with a perturbation (Liao et al. 2018, LGD).

    Perturbations lie between the picture and what PGD on the guide makes of it within ``threat``.
    """

    threat: Ball = Linf(8 / 255)
    steps: int = 4
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"logit-guided: steps is {self.steps}; give 1 or more.")
        above("logit-guided", step_size=self.step_size)

    by_agreement: ClassVar[bool] = True

    @property
    def needs_guide(self) -> bool:
        """Its logits are the measure."""
        return True

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures, more or less perturbed."""
        return perturbed(self, x, self.threat, self.steps, self.step_size, seed)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean absolute difference over logits and pictures."""
        with torch.no_grad():
            wanted = self.of_guide(x)
        return F.l1_loss(self.of_guide(self.cleaned(model, shown, x)), wanted)
