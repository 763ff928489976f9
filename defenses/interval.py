"""Certificates by interval bounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate
from advkit.core.rng import Rng
from advkit.defenses._bounds import interval_margins
from advkit.defenses._radius import OfTheNetwork, Question, check_search


@DEFENSES.register("interval", paper="arXiv:1810.12715")
@dataclass(frozen=True)
class Interval(OfTheNetwork):
    """Linf radius certified by interval bounds, one box per layer (Gowal et al. 2018).

    The ball is cut by the box [0, 1], as those of attacks are; radius 1 is every picture. Without ``eps`` the largest
    radius is found by halving. Bounds are computed in float64.
    """

    eps: float = 0.0  # the radius to certify, such as 8/255; 0: the largest
    halvings: int = 32  # of the interval [0, 1] in which the largest lies

    def __post_init__(self) -> None:
        check_search("interval", self.eps, self.halvings)

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """Radii about the model's answers; a forward is a pass of the picture or of a box around it."""
        parts = [self._part(model, rows) for rows in torch.split(x, max(1, batch_size))]
        return Certificate(*(torch.cat([part[i] for part in parts]) for i in range(3)))

    def _part(self, model: nn.Module, x: Tensor) -> Certificate:
        question = Question.about(model, x)
        nothing, everything = question.every(0.0), question.every(1.0)
        once = torch.ones_like(question.y)
        if self.eps:
            held = question.holds(interval_margins, question.every(self.eps))
            return Certificate(question.y, torch.where(held, self.eps, nothing), 2 * once)
        anywhere = question.holds(interval_margins, everything)
        low, high = nothing, everything
        for _ in range(self.halvings):
            middle = (low + high) / 2
            held = question.holds(interval_margins, middle)
            low, high = torch.where(held, middle, low), torch.where(held, high, middle)
        return Certificate(question.y, torch.where(anywhere, everything, low), (2 + self.halvings) * once)
