"""Non-local means in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._pixels import Choice, averaged, check_odd, declare, reflected
from advkit.errors import InputError


@DEFENSES.register("nlm", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class NonLocalMeans(Wrapper):
    """Mean of the pixels whose surroundings look alike (Buades et al. 2005), at the settings of Xu et al. 2018 (13-3-4).

    A pixel ``search``/2 away at most weighs exp(-d / h^2), d the mean squared difference of ``patch`` x ``patch`` pixels and
    channels, in RGB (Xu: OpenCV's, in Lab). On traffic signs it gained 0.06 at 2/255 and nothing at 4/255 and 8/255.
    """

    h: float = 4 / 255
    patch: int = 3  # pixels, odd
    search: int = 13  # pixels, odd
    gradient: Choice = "exact"

    def __post_init__(self) -> None:
        if not self.h > 0:
            raise InputError(f"nlm: h is {self.h}; give a number above 0, such as 4/255.")
        check_odd("nlm", "patch", self.patch)
        check_odd("nlm", "search", self.search)
        declare(self, self.gradient)

    def __call__(self, x: Tensor) -> Tensor:
        """The weighted means, borders reflected."""
        reach, half = self.search // 2, self.patch // 2
        border = reach + half
        height, width = x.shape[-2:]
        if border >= min(height, width):
            raise InputError(
                f"nlm: search {self.search} and patch {self.patch} reach {border} pixels beyond a border; of "
                f"{height} x {width} pixels give {min(height, width) - 1} or fewer."
            )
        wide = reflected(x, border, border)
        total, weights = x, torch.ones_like(x[:, :1])
        for row in range(-reach, reach + 1):
            # What a row of shifts needs for its gradient is computed again, not kept: else 169 shifts are held at once.
            more: tuple[Tensor, Tensor] = checkpoint(
                self._row, wide, row, use_reentrant=False, preserve_rng_state=False
            )
            total, weights = total + more[0], weights + more[1]
        return averaged(total / weights)

    def _row(self, wide: Tensor, row: int) -> tuple[Tensor, Tensor]:
        """The weighted sum of the pixels ``row`` below, over the columns searched, and the weights'; not of the pixel."""
        reach, half = self.search // 2, self.patch // 2
        height, width = (size - 2 * (reach + half) for size in wide.shape[-2:])
        here = wide[..., reach : reach + height + 2 * half, reach : reach + width + 2 * half]
        top = reach + row
        total, weights = torch.zeros_like(wide[..., :height, :width]), torch.zeros_like(wide[:, :1, :height, :width])
        for left in range(self.search):
            if row == 0 and left == reach:
                continue
            there = wide[..., top : top + height + 2 * half, left : left + width + 2 * half]
            first, *others = (there - here).square().unbind(1)
            apart = F.avg_pool2d(sum(others, first).unsqueeze(1), self.patch, 1) / wide.shape[1]
            weight = torch.exp(-apart / self.h**2)
            total = total + weight * there[..., half : half + height, half : half + width]
            weights = weights + weight
        return total, weights
