"""A model that draws and an attack that minds its company, importable by workers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.backbones import load_model
from advkit.core import Linf
from advkit.core.external import External
from advkit.core.goal import Goal
from advkit.core.threat import Ball

BALL = Linf(8 / 255)


@dataclass(frozen=True)
class Crowd(External):
    """What it makes of a picture hangs on the whole batch: on its size, its mean, and draws for all of it."""

    threat: Ball = BALL
    name: str = "test:crowd"

    def perturb(self, model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
        points = x.clone().requires_grad_()
        (grad,) = torch.autograd.grad(goal.margin(model(points)).sum(), points)
        up = torch.rand_like(x) < 0.5 + 0.2 * (x > x.mean(0)) - 0.2 / len(x)
        return (x + float(self.threat.eps) * torch.where(up, grad.sign(), -grad.sign())).clamp(0, 1)


class Draws(nn.Module):
    """A network whose answers shake, by torch's global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = load_model("lenet")

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.inner(x + 0.03 * torch.randn_like(x))
        return logits
