"""FGSM from a noisy picture, without going back into the ball."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball, Linf
from advkit.core.units import Eps
from advkit.defenses._settings import above, gradient_ball
from advkit.defenses._single_step import input_gradient


@DEFENSES.register("n-fgsm", paper="arXiv:2202.01181")
@dataclass(frozen=True)
class NoiseFGSM(Objective):
    """Cross-entropy on FGSM from pictures with noise of twice the radius, not clipped (de Jorge et al. 2022).

    What is shown is in [0, 1], but may lie up to ``noise`` + ``step_size`` radii away.
    """

    threat: Ball = Linf(8 / 255)
    noise: float = 2.0  # radius of the noise, in eps
    step_size: float = 1.0  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("n-fgsm", self.threat)
        above("n-fgsm", noise=self.noise, step_size=self.step_size)
        _ = self.wide

    @property
    def wide(self) -> Ball:
        """Where the noise is drawn from. Raises InputError where that is wider than the box."""
        return replace(self.threat, eps=Eps(self.noise * self.threat.eps))

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """One step from the noisy picture: one pass and one gradient, with the model in eval mode."""
        noisy = self.wide.random_point(x, Rng.of(seed, identify(x)).fold("noise"))
        length = self.step_size * self.threat.reach(x)
        step = length * self.threat.steepest(input_gradient(model, noisy, y), noisy)
        return (noisy + step).clamp(0, 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
