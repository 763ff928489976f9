"""TRADES: accuracy on clean pictures, and answers that do not change around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.goal import Diverge
from advkit.core.losses import KL
from advkit.core.modes import borrowed
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball, Linf
from advkit.defenses._logits import wide
from advkit.defenses._settings import above, at_least, gradient_ball

_START = 0.001  # standard deviation: at x itself the divergence has no gradient


@DEFENSES.register("trades", paper="arXiv:1901.08573")
@dataclass(frozen=True)
class Trades(Objective):
    """Cross-entropy plus ``beta`` times the divergence of the answer nearby from the clean one (Zhang et al. 2019)."""

    threat: Ball = Linf(8 / 255)
    beta: float = 6.0
    steps: int = 10
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("trades", self.threat)
        at_least("trades", 1, steps=self.steps)
        above("trades", beta=self.beta, step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """PGD's last iterate on KL(p(x) || p(x')), from x + 0.001 N(0, 1); the model is in eval mode, labels are not used."""
        with borrowed(model), torch.no_grad():
            goal = Diverge.of(model(x))
        noise = Rng.of(seed, identify(x)).fold("start").normal(*x.shape[1:], dtype=x.dtype)
        attack = PGD(self.threat, steps=self.steps, step_size=self.step_size, loss=KL())
        return attack(model, x, goal, seed=seed, keep="last", start=x + _START * noise, batch_size=len(x))

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """CE(f(x), y) + beta mean KL(p(x) || p(x')), with the gradient through both answers."""
        clean, moved = wide(model(x)), wide(model(shown))
        divergence = F.kl_div(moved.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
        return F.cross_entropy(clean, y) + self.beta * divergence
