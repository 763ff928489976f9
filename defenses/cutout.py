"""Holes in the pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks._rectangles import rectangle
from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.defenses._settings import above, at_least, side_in_pixels
from advkit.errors import InputError


@DEFENSES.register("cutout", paper="arXiv:1708.04552")
@dataclass(frozen=True)
class Cutout(Objective):
    """Cross-entropy on pictures with square holes (DeVries & Taylor 2017), the masks that PatchCleanser lays on.

    Holes lie inside the picture, at every place with the same probability.
    """

    holes: int = 2
    side: float = 0.3  # pixels or, below 1, a share of the shorter side
    value: float | None = 0.5  # what holes are filled with; none: the picture's own mean colour

    def __post_init__(self) -> None:
        at_least("cutout", 1, holes=self.holes)
        above("cutout", side=self.side)
        if self.value is not None and not 0 <= self.value <= 1:
            raise InputError(
                f"cutout: value is {self.value}; give a grey level in [0, 1], or none for the mean colour."
            )

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures with their holes."""
        side = side_in_pixels(self.side, min(x.shape[2:]))
        places = (x.shape[2] - side + 1) * (x.shape[3] - side + 1)
        place = Rng.of(seed, identify(x)).fold("place").integers(places, self.holes)
        cut = torch.stack([rectangle(each, side, side, x) for each in place.unbind(1)]).any(0)
        filling = x.mean((2, 3), keepdim=True) if self.value is None else torch.full_like(x[:1], self.value)
        return torch.where(cut, filling, x)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
