"""Pictures of which a column or a block is left (Levine & Feizi 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.defenses._masks import check_fill, fill_of
from advkit.errors import DataError, InputError

__all__ = ["Ablation", "Encoding", "Shape"]

Shape = Literal["columns", "blocks"]
Encoding = Literal["fill", "channels"]


@dataclass(frozen=True)
class Ablation:
    """What is left of a picture: a band of ``size`` columns, or a block of that side, around the edges (a torus).

    ``encoding`` channels doubles them, x beside 1 - x, and makes both 0 where nothing is left: the paper's way, for networks
    of 2C channels. ``fill`` stands there one colour, for networks that take pictures.
    """

    shape: Shape
    size: int
    fill: str | float
    encoding: Encoding

    def check(self, name: str) -> None:
        """Refuse settings that make no sense."""
        check_fill(name, self.fill)
        if self.size < 1:
            raise InputError(f"{name}: size is {self.size}; give 1 pixel or more.")

    def places(self, x: Tensor) -> int:
        """How many there are in a picture. Raises DataError where one is wider than the picture."""
        height, width = x.shape[-2:]
        if self.size > (width if self.shape == "columns" else min(height, width)):
            raise DataError(f"{self.shape} of {self.size} pixels do not fit pictures of {height} x {width}.")
        return width if self.shape == "columns" else height * width

    def touched(self, side: int, height: int, width: int) -> int:
        """In how many of the ablated pictures a square of ``side`` pixels is seen, at most."""
        across = min(side + self.size - 1, width)
        return across if self.shape == "columns" else across * min(side + self.size - 1, height)

    def shown(self, model: nn.Module, x: Tensor, place: Tensor) -> Tensor:
        """Pictures (N, C or 2C, H, W): of each of x the part with its number (N,)."""
        height, width = x.shape[-2:]
        left = _band(place % width, self.size, width)[:, None, None, :]
        kept = left if self.shape == "columns" else left & _band(place // width, self.size, height)[:, None, :, None]
        if self.encoding == "channels":
            return torch.where(kept, torch.cat([x, 1 - x], 1), 0.0)
        return torch.where(kept, x, fill_of(self.fill, model, x))


def _band(start: Tensor, size: int, extent: int) -> Tensor:
    """(N, extent) bool: the ``size`` places from each start on, round the end."""
    return (torch.arange(extent, device=start.device) - start[:, None]) % extent < size
