"""Total-variation denoising in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._pixels import Choice, averaged, declare
from advkit.defenses._variation import differences, divergence, length
from advkit.errors import InputError


@DEFENSES.register("tv")
@dataclass(frozen=True)
class TotalVariation(Wrapper):
    """Less total variation: half the squared change plus ``weight`` times the variation is minimised (Chambolle 2004).

    ``steps`` of the iteration, through which the exact gradient goes; each channel by itself. On traffic signs it cost
    0.16 of clean accuracy and gained nothing at 8/255 against the worst of exact, straight-through and transferred attacks.
    """

    weight: float = 0.1
    steps: int = 20
    gradient: Choice = "exact"

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise InputError(f"tv: weight is {self.weight}; give a number above 0.")
        if self.steps < 1:
            raise InputError(f"tv: steps is {self.steps}; give 1 or more.")
        declare(self, self.gradient)

    def __call__(self, x: Tensor) -> Tensor:
        """The picture after ``steps`` of the dual iteration, step length 1/4."""
        cleaned, down, right = x, torch.zeros_like(x), torch.zeros_like(x)
        for _ in range(self.steps):
            below, after = differences(cleaned)
            # The dual field stays no longer than ``weight``: the division is what the step's own growth demands.
            size = 1 + length(below, after) / (4 * self.weight)
            down, right = (down + below / 4) / size, (right + after / 4) / size
            cleaned = x + divergence(down, right)
        return averaged(cleaned)
