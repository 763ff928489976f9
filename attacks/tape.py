"""Tape: a few opaque strips. The cheapest thing that a hand can put on a sign."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Covering, Renderer, colours_of, turned
from advkit.catalog import ATTACKS
from advkit.core.regions import Area
from advkit.core.threat import Ball
from advkit.errors import InputError

_ASPECT = 4.0
_MOST = 8


@dataclass(frozen=True)
class Strips(Covering):
    """Rectangles four times as long as wide, at any angle; none is thinner than a pixel, or it would fall apart."""

    shape_moves: ClassVar[tuple[tuple[float, bool], ...]] = ((0.4 / math.pi, True),)

    def gauge(self, shape: Tensor, columns: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Ends are cut before sides are, so that a strip stays in one piece."""
        width = max(1.0, math.sqrt(count / _ASPECT))
        along, across = turned(shape[..., 0] * math.pi, columns, rows)
        depth = torch.minimum(count / width / 2 - along.abs(), width / 2 - across.abs())
        return along.abs(), depth


@ATTACKS.register("tape", paper="arXiv:1707.08945")
@dataclass(frozen=True)
class Tape(Parametric):
    """Strips of black or white tape, placed by hill climbing (after the graffiti of Eykholt et al. 2018).

    ``pieces`` share the area; ``palette`` holds the colours that a piece may have.
    """

    threat: Ball = Area(0.05)
    pieces: int = 1
    palette: str = "black,white"

    def __post_init__(self) -> None:
        if not 1 <= self.pieces <= _MOST:
            raise InputError(f"Tape: pieces is {self.pieces}; give 1 to {_MOST}.")
        colours_of(self.palette, "Tape")
        super().__post_init__()

    @property
    def renderer(self) -> Renderer:
        """Strips."""
        return Strips(self.pieces, colours_of(self.palette, "Tape"))
