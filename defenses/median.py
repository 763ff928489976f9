"""The median of neighbouring pixels in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._pixels import Choice, check_inside, declare, mirrored, windows
from advkit.errors import InputError


@DEFENSES.register("median", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class Median(Wrapper):
    """Median of ``size`` x ``size`` pixels, borders mirrored: feature squeezing (Xu et al. 2018; 2 x 2, 3 x 3 on digits).

    The exact gradient reaches the pixel that is the median of a window and no other: fewer than half of them. It is the
    stronger all the same: CIFAR-10 at 1/255 keeps 15 % against PGD-20 by it, 70 % by ``gradient=straight-through``. On
    traffic signs the filter gained nothing against attacks that go through it.
    """

    size: int = 2  # pixels
    gradient: Choice = "exact"

    def __post_init__(self) -> None:
        if self.size < 2:
            raise InputError(f"median: size is {self.size}; give a number of pixels, 2 or more.")
        declare(self, self.gradient)

    def __call__(self, x: Tensor) -> Tensor:
        """The median of each pixel's window, which for an even side begins above and to the left; of two, the upper."""
        check_inside("median", "size", self.size, x)
        wide = mirrored(x, self.size // 2, (self.size - 1) // 2)
        seen = list(windows(wide, self.size, *x.shape[-2:]))
        if self.size == 2:
            return _second_largest(seen)
        if self.size == 3:
            return _median_of_nine(seen)
        return torch.stack(seen, -1).kthvalue(self.size**2 // 2 + 1, -1).values


def _second_largest(seen: list[Tensor]) -> Tensor:
    """The upper median of four."""
    a, b, c, d = seen
    low, high = (
        torch.minimum(torch.maximum(a, b), torch.maximum(c, d)),
        torch.maximum(torch.minimum(a, b), torch.minimum(c, d)),
    )
    return torch.maximum(low, high)


def _median_of_nine(seen: list[Tensor]) -> Tensor:
    """By columns sorted first (Smith 1996): many times faster than to sort each window."""
    columns = [_sorted(*seen[i : i + 3]) for i in (0, 3, 6)]
    low = torch.maximum(torch.maximum(columns[0][0], columns[1][0]), columns[2][0])
    middle = _sorted(*(column[1] for column in columns))[1]
    high = torch.minimum(torch.minimum(columns[0][2], columns[1][2]), columns[2][2])
    return _sorted(low, middle, high)[1]


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    return a, b, c
