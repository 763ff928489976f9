"""Adversarial training."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.threat import Ball, Linf
from advkit.defenses._settings import above, at_least, gradient_ball


@DEFENSES.register("pgd-at", paper="arXiv:1706.06083")
@dataclass(frozen=True)
class PGDTraining(Objective):
    """Cross-entropy on PGD's adversarial pictures (Madry et al. 2018)."""

    threat: Ball = Linf(8 / 255)
    steps: int = 7
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("pgd-at", self.threat)
        at_least("pgd-at", 1, steps=self.steps)
        above("pgd-at", step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """PGD's last iterate; the attack sees the model in eval mode."""
        attack = PGD(self.threat, steps=self.steps, step_size=self.step_size)
        return attack(model, x, y, seed=seed, keep="last", batch_size=len(x))

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
