"""Adversarial training at the price of one extra gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball, Linf
from advkit.defenses._settings import above, gradient_ball
from advkit.defenses._single_step import input_gradient


@DEFENSES.register("fast-at", paper="arXiv:2001.03994")
@dataclass(frozen=True)
class FastTraining(Objective):
    """Cross-entropy on pictures of FGSM from a random start (Wong et al. 2020).

    From the start ``zero`` it is plain FGSM, which at large radii soon overfits to its own step: robustness to FGSM rises
    while that to PGD falls to 0 within an epoch (catastrophic overfitting).
    """

    threat: Ball = Linf(8 / 255)
    step_size: float = 1.25  # fraction of eps
    start: Literal["random", "zero"] = "random"

    def __post_init__(self) -> None:
        gradient_ball("fast-at", self.threat)
        above("fast-at", step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """One step from the start, back into the ball: one pass and one gradient, with the model in eval mode."""
        rng = Rng.of(seed, identify(x)).fold("start")
        first = self.threat.random_point(x, rng) if self.start == "random" else x
        length = self.step_size * self.threat.reach(x)
        step = length * self.threat.steepest(input_gradient(model, first, y), first)
        return self.threat.project(first + step, x)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
