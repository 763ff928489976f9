"""Adversarial training of the smoothed classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.threat import L2, Ball
from advkit.core.units import Eps
from advkit.defenses._logits import wide
from advkit.defenses._settings import above, at_least, gradient_ball, share

_RADIUS = L2(64 / 255)


@DEFENSES.register("smoothadv", paper="arXiv:1906.04584")
@dataclass(frozen=True)
class SmoothAdv(Objective):
    """Cross-entropy on noisy copies of pictures adversarial to the mean answer over these copies (Salman et al. 2019)."""

    threat: Ball = _RADIUS
    sigma: float = 0.25  # in units of the pixel range, as the certifier's
    copies: int = 2
    steps: int = 10
    step_size: float | None = None  # fraction of eps; None is 2 / steps
    warmup: float = 0.0  # share of the training in which the radius grows to its full size

    def __post_init__(self) -> None:
        gradient_ball("smoothadv", self.threat)
        at_least("smoothadv", 1, copies=self.copies, steps=self.steps)
        above("smoothadv", sigma=self.sigma)
        if self.step_size is not None:
            above("smoothadv", step_size=self.step_size)
        share("smoothadv", warmup=self.warmup)

    def at(self, done: float) -> Self:
        """With the radius that the warm-up has reached, at least a hundredth of the full one."""
        if done >= self.warmup:
            return self
        grown = replace(self.threat, eps=Eps(self.threat.eps * max(done / self.warmup, 0.01)))
        return replace(self, threat=grown)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """(B, copies, C, H, W): PGD's last iterate under the draws of noise that it was made for; not clipped to [0, 1]."""
        rng = Rng.of(seed, identify(x)).fold("noise")
        noise = self.sigma * rng.normal(self.copies, *x.shape[1:], dtype=x.dtype)
        step_size = 2 / self.steps if self.step_size is None else self.step_size
        attack = PGD(self.threat, steps=self.steps, step_size=step_size, random_start=False)
        x_adv = attack(_Mean(model, noise), x, y, seed=seed, keep="last", batch_size=len(x))
        return x_adv[:, None] + noise

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy over pictures and copies."""
        return F.cross_entropy(model(shown.flatten(0, 1)), y.repeat_interleave(shown.shape[1], 0))


class _Mean(nn.Module):
    """The logarithm of a model's mean probabilities over given draws of noise (B, copies, C, H, W), a row for a picture.

    All rows are asked at once and in their order, as they are where every lane has the same steps and none leaves early.
    """

    def __init__(self, model: nn.Module, noise: Tensor) -> None:
        super().__init__()
        self.model, self.noise = model, noise

    def forward(self, x: Tensor) -> Tensor:
        copies = self.noise.shape[1]
        logits = wide(self.model((x[:, None] + self.noise).flatten(0, 1)))
        each = logits.log_softmax(1).reshape(len(x), copies, -1)
        return each.logsumexp(1) - math.log(copies)
