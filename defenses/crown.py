"""Certificates by CROWN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate
from advkit.core.rng import Rng
from advkit.defenses._backward import crown_margins
from advkit.defenses._bounds import Box, Network, interval_margins
from advkit.defenses._radius import Margins, OfTheNetwork, Question, check_search

_LEAST = 2.0**-12  # where the search for the largest radius begins if interval bounds certify less
_BOXES = 20  # halvings of what interval bounds certify: they cost next to nothing


@DEFENSES.register("crown", paper="arXiv:1811.00866")
@dataclass(frozen=True)
class Crown(OfTheNetwork):
    """Linf radius certified by CROWN: lines around each ReLU, followed back to the picture (Zhang et al. 2018).

    Never less than interval bounds give. With ``neurons=interval`` the hidden ReLUs are bounded by boxes and only the logits
    by lines (CROWN-IBP, Zhang et al. 2020): faster by the number of neurons. The ball is cut by the box [0, 1].
    """

    eps: float = 0.0  # the radius to certify, such as 8/255; 0: the largest
    halvings: int = 6  # of the factor 2 between which the largest lies: 6 give it to 1 %
    neurons: Literal["crown", "interval"] = "crown"

    def __post_init__(self) -> None:
        check_search("crown", self.eps, self.halvings)

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """Radii about the model's answers; a forward is a pass of the picture or of the bounds, back and forth.

        Examples are taken one by one, since each has its own ReLUs that need lines.
        """
        parts = [self._one(model, row) for row in torch.split(x, 1)]
        return Certificate(*(torch.cat([part[i] for part in parts]) for i in range(3)))

    def _one(self, model: nn.Module, x: Tensor) -> Certificate:
        question = Question.about(model, x)
        asked = 1

        def by(margins: Margins) -> Callable[[float], bool]:
            def holds(radius: float) -> bool:
                nonlocal asked
                asked += 1
                return bool(question.holds(margins, question.every(radius)))

            return holds

        by_boxes, by_lines = by(interval_margins), by(self._margins)
        if self.eps:
            radius = self.eps if by_boxes(self.eps) or by_lines(self.eps) else 0.0
        else:
            radius = _largest(by_lines, _largest(by_boxes, 0.0, _BOXES), self.halvings)
        return Certificate(question.y, question.every(radius), torch.full_like(question.y, asked))

    def _margins(self, network: Network, box: Box, y: Tensor) -> Tensor:
        return crown_margins(network, box, y, every_neuron=self.neurons == "crown")


def _largest(holds: Callable[[float], bool], low: float, halvings: int) -> float:
    """The largest radius that is seen to hold: ``low`` doubled while it does, then the last doubling halved so often."""
    high = max(2 * low, _LEAST)
    while high < 1 and holds(high):
        low, high = high, 2 * high
    if high >= 1:
        high = 1.0
        if holds(high):
            return high
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
