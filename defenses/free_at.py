"""Adversarial training at the price of none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.threat import Ball, Linf
from advkit.defenses._settings import above, at_least, gradient_ball


@DEFENSES.register("free-at", paper="arXiv:1904.12843")
@dataclass(frozen=True)
class FreeTraining(Objective):
    """Each batch met ``replays`` times, the backward pass of each step giving the next perturbation (Shafahi et al. 2019).

    The perturbation is carried on, also to the next batch, and no pass is made for the attack: an epoch of m replays costs
    m ordinary ones. The gradient is that of the training pass, in training mode.
    """

    threat: Ball = Linf(8 / 255)
    replays: int = 8
    step_size: float = 1.0  # fraction of eps

    wants_gradient: ClassVar[bool] = True

    def __post_init__(self) -> None:
        gradient_ball("free-at", self.threat)
        at_least("free-at", 1, replays=self.replays)
        above("free-at", step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures under the perturbation that was carried on, cut to the ball and the box; x itself at first."""
        if memory is None or memory.shape != x.shape:
            return x
        return self.threat.project(x + memory, x)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)

    def remember(self, x: Tensor, shown: Tensor, grad: Tensor) -> Tensor:
        """The perturbation (B, C, H, W) after a step up the gradient, in the ball."""
        length = self.step_size * self.threat.reach(x)
        return self.threat.project(shown + length * self.threat.steepest(grad, shown), x) - x
