"""Dots: round stickers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Covering, Renderer, colours_of
from advkit.catalog import ATTACKS
from advkit.core.regions import Area
from advkit.core.threat import Ball
from advkit.errors import InputError

_MOST = 32


@dataclass(frozen=True)
class Discs(Covering):
    """Discs of equal size."""

    def gauge(self, shape: Tensor, columns: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The distance from the centre."""
        far = (columns.square() + rows.square()).sqrt()
        return far, math.sqrt(count / math.pi) - far


@ATTACKS.register("dots", paper="arXiv:1904.07342")
@dataclass(frozen=True)
class Dots(Parametric):
    """White discs, placed by hill climbing (black-box dots as on the lens of Li et al. 2019, opaque).

    ``pieces`` share the area; ``palette`` holds the colours that a piece may have.
    """

    threat: Ball = Area(0.05)
    pieces: int = 3
    palette: str = "white"

    def __post_init__(self) -> None:
        if not 1 <= self.pieces <= _MOST:
            raise InputError(f"Dots: pieces is {self.pieces}; give 1 to {_MOST}.")
        colours_of(self.palette, "Dots")
        super().__post_init__()

    @property
    def renderer(self) -> Renderer:
        """Discs."""
        return Discs(self.pieces, colours_of(self.palette, "Dots"))
