"""FGSM, and gradients that point the same way throughout the ball."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball, Linf
from advkit.defenses._settings import above, gradient_ball
from advkit.defenses._single_step import input_gradient


@DEFENSES.register("gradalign", paper="arXiv:2007.02617")
@dataclass(frozen=True)
class GradAlign(Objective):
    """FGSM training plus ``weight`` times 1 - the cosine of two gradients (Andriushchenko & Flammarion 2020).

    The gradients are those at the picture and at a random point of its ball; the loss differentiates them once more, so a
    step takes about three times as long as one of FGSM training.
    """

    threat: Ball = Linf(8 / 255)
    weight: float = 0.2
    step_size: float = 1.0  # fraction of eps

    def __post_init__(self) -> None:
        gradient_ball("gradalign", self.threat)
        above("gradalign", weight=self.weight, step_size=self.step_size)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """(B, 2, C, H, W): one step of FGSM, and a random point of the ball."""
        length = self.step_size * self.threat.reach(x)
        x_adv = self.threat.project(x + length * self.threat.steepest(input_gradient(model, x, y), x), x)
        nearby = self.threat.random_point(x, Rng.of(seed, identify(x)).fold("nearby"))
        return torch.stack([x_adv, nearby], 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """CE(x') + weight (1 - mean cosine of the gradients of CE at x and nearby); the model in its own mode."""
        x_adv, nearby = shown.unbind(1)
        here, there = (_gradient(model, points, y) for points in (x, nearby))
        return F.cross_entropy(model(x_adv), y) + self.weight * (1 - _cosine(here, there).mean())


def _gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """(B, D) gradients of each picture's cross-entropy, themselves differentiable."""
    points = x.detach().clone().requires_grad_()
    loss = F.cross_entropy(model(points), y, reduction="sum")
    (grad,) = torch.autograd.grad(loss, points, create_graph=True)
    return grad.flatten(1)


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """(B,) cosines; 1 where a gradient is 0, which aligns with everything and has no direction to learn."""
    first, second = (grad / _largest(grad) for grad in (first, second))
    lengths = first.square().sum(1) * second.square().sum(1)
    known = lengths > 0
    # Two wheres: the root's infinite derivative at 0 would otherwise make NaN of the gradient.
    product = (first * second).sum(1) / torch.where(known, lengths, 1.0).sqrt()
    return torch.where(known, product, 1.0)


def _largest(grad: Tensor) -> Tensor:
    """(B, 1) constants to divide by: the squares of a confident picture's gradient of 1e-12 are 0 in float32."""
    return grad.detach().abs().amax(1, keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
