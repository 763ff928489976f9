"""Rain: blurred drops and streaks on the lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Canvas, Renderer, bounds, centres, nearest, turned, within
from advkit.attacks._search import Moves
from advkit.catalog import ATTACKS
from advkit.core.regions import Area, Veil
from advkit.core.threat import Ball, Sparse
from advkit.errors import InputError

_MOST = 100
_LONGEST = 6.0  # of a streak, in radii
_SLANT = 1.2  # radians between the steepest streaks
_OPAQUE = 0.9  # drops that are limited in area, not in opacity


@dataclass(frozen=True)
class Drops(Renderer):
    """Capsules that show what lies behind them blurred and lighter; slant and length are the same for all.

    Parameters: column, row and size of each, then slant and length.
    """

    pieces: int

    def moves(self, x: Tensor) -> Moves:
        """What is the same for all is a piece by itself."""
        stride = torch.full((3 * self.pieces + 2,), 0.06, device=x.device)
        piece = torch.arange(self.pieces + 1, device=x.device).repeat_interleave(3)[: len(stride)]
        return Moves(stride, torch.zeros_like(stride, dtype=torch.bool), piece)

    def canvas(self, x: Tensor, threat: Ball) -> Canvas:
        """What a drop shows, and the ends of each value's range."""
        reach = max(1, min(x.shape[2:]) // 8)
        padded = F.pad(x, (reach,) * 4, mode="replicate")
        seen = 0.5 + 0.5 * F.avg_pool2d(padded, 2 * reach + 1, stride=1)
        return (seen, *(() if isinstance(threat, Sparse) else bounds(x, threat)))

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Drops of a limited area are cut to it; drops of a limited opacity are clamped to it."""
        drops = theta[..., :-2].reshape(*theta.shape[:2], self.pieces, 3)
        longer = (_LONGEST * theta[..., -1:])[..., None]
        if isinstance(threat, Sparse):
            count = threat.room(x) // self.pieces
            if not count:
                raise InputError(
                    f"{threat.label} is less than a pixel for each of {self.pieces} drops; give a larger --eps."
                )
            radius = (count / (torch.pi + 2 * longer[..., 0])).sqrt().expand_as(drops[..., 2])
        else:
            count = 0
            radius = (0.03 + 0.07 * drops[..., 2]) * max(x.shape[2:])
        radius = radius[..., None]
        columns, rows = centres(x)
        column, row = within(drops[..., :2], x, 0.0)
        slant = (torch.pi / 2 + _SLANT * (theta[..., -2:-1] - 0.5)).expand(-1, -1, self.pieces)
        along, across = turned(slant, columns - column[..., None], rows - row[..., None])
        beyond = (along.abs() - longer * radius / 2).clamp_min(0)
        far = (beyond.square() + across.square()).sqrt() / radius
        map_of = (*theta.shape[:2], 1, *x.shape[2:])
        weight = (1 - far.square()).clamp_min(0).amax(2).reshape(map_of)
        opacity = _OPAQUE if count else float(threat.eps)
        shown = x[:, None] + opacity * weight * (canvas[0] - x)[:, None]
        if count:
            kept = nearest(far, far < 1, count).any(2).reshape(map_of)
            return torch.where(kept, shown.clamp(0, 1), x[:, None])
        return torch.minimum(torch.maximum(shown, canvas[1][:, None]), canvas[2][:, None])


@ATTACKS.register("rain", paper="arXiv:2009.09205")
@dataclass(frozen=True)
class Rain(Parametric):
    """Blurred drops or streaks, placed by hill climbing (after the adversarial rain of Zhai et al. 2020).

    In Veil drops are no more opaque than eps, in Area they cover no more.
    """

    threat: Ball = Veil(0.5)
    pieces: int = 10

    balls: ClassVar[tuple[type[Ball], ...]] = (Veil, Area)

    def __post_init__(self) -> None:
        if not 1 <= self.pieces <= _MOST:
            raise InputError(f"Rain: pieces is {self.pieces}; give 1 to {_MOST} drops.")
        super().__post_init__()

    @property
    def renderer(self) -> Renderer:
        """Drops."""
        return Drops(self.pieces)
