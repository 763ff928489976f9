"""MART: examples that are wrong already count more."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective, hard
from advkit.core.goal import rival
from advkit.core.threat import Ball, Linf
from advkit.defenses._logits import wide
from advkit.defenses._settings import above, at_least, gradient_ball

_ROOM = 1.0001  # of the paper's code: keeps the logarithm finite where a wrong class has probability 1


@DEFENSES.register("mart", paper="https://openreview.net/forum?id=rklOg6EFwS")
@dataclass(frozen=True)
class Mart(Objective):
    """Boosted cross-entropy on PGD's pictures plus a divergence weighted by the clean error (Wang et al. 2020)."""

    threat: Ball = Linf(8 / 255)
    beta: float = 5.0
    steps: int = 10
    step_size: float = 0.25  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("mart", self.threat)
        at_least("mart", 1, steps=self.steps)
        above("mart", beta=self.beta, step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """PGD's last iterate on the cross-entropy; the attack sees the model in eval mode."""
        attack = PGD(self.threat, steps=self.steps, step_size=self.step_size)
        return attack(model, x, y, seed=seed, keep="last", batch_size=len(x))

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """CE(x') - log(1.0001 - max_{j != y} p_j(x')) + beta mean KL(p(x) || p(x')) (1 - p_y(x)).

        For soft labels, p_y is the expected probability and y, where a class is excluded, the likeliest one.
        """
        clean, moved = wide(model(x)).log_softmax(1), wide(model(shown)).log_softmax(1)
        boosted = F.nll_loss(moved, y) if y.ndim == 1 else -(y * moved).sum(1).mean()
        boosted = boosted - (_ROOM - rival(moved.exp(), hard(y))).log().mean()
        known = clean.gather(1, y[:, None]).squeeze(1).exp() if y.ndim == 1 else (y * clean.exp()).sum(1)
        divergence = (clean.exp() * (clean - moved)).sum(1)
        return boosted + self.beta * (divergence * (1 - known)).mean()
