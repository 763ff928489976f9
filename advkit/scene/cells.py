"""What a sticker's colours are made of: square cells of at least so many mm, free or chosen from a palette."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import ceil, exp, log
from typing import Literal

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene.printing import Palette

__all__ = ["Cells", "Free", "FromPalette", "annealed", "spread"]


def annealed(done: float, hot: float = 1.0, cold: float = 0.3) -> float:
    """The temperature when the share ``done`` of the steps is: from ``hot`` to ``cold`` by equal factors."""
    return exp(log(hot) + (log(cold) - log(hot)) * min(1.0, max(0.0, done)))


def spread(values: Tensor, cell: int, height: int, width: int) -> Tensor:
    """Values (..., h, w) of square cells of ``cell`` pixels on a raster, (..., height, width); the last cells may be cut."""
    wide = values.repeat_interleave(cell, -1).repeat_interleave(cell, -2)
    return wide[..., :height, :width]


@dataclass(frozen=True)
class Cells:
    """A raster of ``size`` pixels in square cells of ``cell`` pixels; those at the right and lower edge may be cut."""

    size: int
    cell: int = 1

    def __post_init__(self) -> None:
        if self.size < 1 or not 1 <= self.cell <= self.size:
            raise InputError(f"cells of {self.cell} pixels on a raster of {self.size}; give 1 to {self.size}.")

    @classmethod
    def at_least(cls, cell_mm: float, square_mm: float, size: int) -> Cells:
        """The smallest cells that are nowhere less than ``cell_mm`` wide on a square of ``square_mm``."""
        if not 0 <= cell_mm <= square_mm:
            raise InputError(f"cells of {cell_mm:g} mm on a square of {square_mm:g} mm; give 0 to {square_mm:g}.")
        # the quotient of 30 mm and 750 mm / 128 is a hair above a whole number; it must not cost a pixel
        return cls(size, max(1, ceil(cell_mm / square_mm * size - 1e-9)))

    @property
    def count(self) -> int:
        """Cells along one side."""
        return -(-self.size // self.cell)

    def spread(self, values: Tensor) -> Tensor:
        """Values (..., count, count) of cells on the raster, (..., size, size)."""
        return spread(values, self.cell, self.size, self.size)


@dataclass(frozen=True, eq=False)
class Paint(ABC):
    """A map from free numbers ``theta`` to colours (3, size, size) that an optimiser can follow."""

    cells: Cells

    @abstractmethod
    def start(self, rng: Rng) -> Tensor:
        """The first ``theta``, of one stream."""

    @abstractmethod
    def colours(self, theta: Tensor, temperature: float) -> Tensor:
        """Colours (3, size, size), differentiable in ``theta``."""

    @abstractmethod
    def settled(self, theta: Tensor) -> Tensor:
        """The colours that count at the end."""


@dataclass(frozen=True, eq=False)
class Free(Paint):
    """Any colours: through a sigmoid, cut to [0, 1], or as they are (for colours that are added)."""

    squash: Literal["sigmoid", "clamp", "none"] = "sigmoid"

    def start(self, rng: Rng) -> Tensor:
        """About mid-grey for a sigmoid, uniform in [0, 1] else (RP2's code)."""
        shape = (3, self.cells.count, self.cells.count)
        if self.squash == "sigmoid":
            return 0.1 * rng.fold("paint").normal(*shape)[0]
        return rng.fold("paint").uniform(*shape)[0]

    def colours(self, theta: Tensor, temperature: float = 1.0) -> Tensor:
        """The squashed values; the temperature means nothing here."""
        squashed = {"sigmoid": theta.sigmoid(), "clamp": theta.clamp(0, 1), "none": theta}[self.squash]
        return self.cells.spread(squashed)

    def settled(self, theta: Tensor) -> Tensor:
        """The same."""
        return self.colours(theta.detach())


@dataclass(frozen=True, eq=False)
class FromPalette(Paint):
    """One colour of a palette for each cell, the likeliest; its gradient is that of a softmax over the palette.

    A mean of colours that only hardens at the end is decided within some twenty steps and then stands still, for Adam
    remembers the large gradients of the beginning; taking the likeliest at once finds stickers that succeed more often.
    """

    palette: Palette

    def start(self, rng: Rng) -> Tensor:
        """Nearly all colours alike, (n, count, count)."""
        return 0.1 * rng.fold("paint").normal(len(self.palette), self.cells.count, self.cells.count)[0]

    def colours(self, theta: Tensor, temperature: float) -> Tensor:
        """The settled colours, with the gradient of the palette's mean by the softmax of ``theta`` / temperature."""
        share = (theta / temperature).softmax(0)
        mean = self.cells.spread(torch.einsum("nyx,nc->cyx", share, self.palette.colours.to(theta)))
        # mean - mean is exactly 0: the value is the palette's to the last bit
        return self.settled(theta) + (mean - mean.detach())

    def settled(self, theta: Tensor) -> Tensor:
        """The likeliest colour of each cell, exactly that of the palette."""
        chosen = self.palette.colours.to(theta)[theta.detach().argmax(0)]
        return self.cells.spread(chosen.movedim(-1, 0))
