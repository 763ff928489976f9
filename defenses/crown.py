"""Certificates by CROWN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng
from advkit.defenses._backward import crown_margins
from advkit.defenses._bounds import Box, Network, interval_margins
from advkit.defenses._radius import Margins, Question, check_search

_LEAST = 2.0**-12  # where the search for the largest radius begins if interval bounds certify less


@DEFENSES.register("crown", paper="arXiv:1811.00866")
@dataclass(frozen=True)
class Crown(Certifier):
    """Linf radius certified by CROWN: lines around each ReLU, followed back to the picture (Zhang et al. 2018).

    Never less than interval bounds give. With ``neurons=interval`` the hidden ReLUs are bounded by boxes and only the logits
    by lines (CROWN-IBP, Zhang et al. 2020): faster by the number of neurons. The ball is cut by the box [0, 1].
    """

    eps: float = 0.0  # the radius to certify, such as 8/255; 0: the largest
    halvings: int = 6  # of the factor 2 between which the largest lies: 6 give it to 1 %
    neurons: Literal["crown", "interval"] = "crown"

    norm: ClassVar[str] = "linf"

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

        def holds(radius: float, *ways: Margins) -> bool:
            nonlocal asked
            for margins in ways:
                asked += 1
                if bool(question.holds(margins, question.every(radius))):
                    return True
            return False

        if self.eps:
            radius = self.eps if holds(self.eps, interval_margins, self._margins) else 0.0
        else:
            low, _ = _bracket(lambda radius: holds(radius, interval_margins), 0.0)
            low, high = _bracket(lambda radius: holds(radius, self._margins), low)
            for _ in range(self.halvings):
                middle = (low + high) / 2
                low, high = (middle, high) if holds(middle, self._margins) else (low, middle)
            radius = low
        return Certificate(question.y, question.every(radius), torch.full_like(question.y, asked))

    def _margins(self, network: Network, box: Box, y: Tensor) -> Tensor:
        return crown_margins(network, box, y, every_neuron=self.neurons == "crown")


def _bracket(holds: Callable[[float], bool], low: float) -> tuple[float, float]:
    """A radius that holds, ``low`` to begin with, and one at most twice as large that does not, or 1 and 1."""
    high = max(2 * low, _LEAST)
    while high < 1 and holds(high):
        low, high = high, 2 * high
    if high < 1:
        return low, high
    return (1.0, 1.0) if holds(1.0) else (low, 1.0)
