"""Logit pairing of adversarial pictures with their clean ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.threat import Ball, Linf
from advkit.defenses._logits import wide
from advkit.defenses._settings import above, at_least, gradient_ball


@DEFENSES.register("alp", paper="arXiv:1803.06373")
@dataclass(frozen=True)
class AdversarialLogitPairing(Objective):
    """Clean and adversarial cross-entropy plus the squared difference of their logits (Kannan et al. 2018).

    It is broken: Engstrom et al. 2018 (arXiv:1807.10272) reach 0.6 % accuracy where 27.9 % was claimed, by an attack of
    more steps; pairing makes the loss around pictures harder to climb, not lower.
    """

    threat: Ball = Linf(8 / 255)
    weight: float = 0.5
    steps: int = 10
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("alp", self.threat)
        at_least("alp", 1, steps=self.steps)
        above("alp", weight=self.weight, step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """PGD's last iterate; the attack sees the model in eval mode."""
        attack = PGD(self.threat, steps=self.steps, step_size=self.step_size)
        return attack(model, x, y, seed=seed, keep="last", batch_size=len(x))

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """(CE(x) + CE(x')) / 2 + weight * mean of (z(x) - z(x'))^2 over pictures and classes."""
        clean, moved = wide(model(x)), wide(model(shown))
        mixed = (F.cross_entropy(clean, y) + F.cross_entropy(moved, y)) / 2
        return mixed + self.weight * F.mse_loss(moved, clean)
