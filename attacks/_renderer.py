"""Renderers: parameters in [0, 1] become a picture inside the ball. Pixels lie at (column + 0.5, row + 0.5).

A renderer never leaves its threat model: what covers is hard-edged and takes no more pixels than the area allows, what
darkens or lights up is clamped between two pictures that the ball itself has projected.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._search import Moves
from advkit.core.regions import Area
from advkit.core.threat import Ball, Sparse
from advkit.errors import InputError

__all__ = ["COLOURS", "Canvas", "Covering", "Renderer", "bounds", "centres", "colours_of", "nearest", "within"]

Canvas = tuple[Tensor, ...]
"""What a renderer computes once for each picture, (B, ...) each."""

COLOURS: dict[str, tuple[float, float, float]] = {
    "black": (0.05, 0.05, 0.05),
    "white": (0.95, 0.95, 0.95),
    "grey": (0.5, 0.5, 0.5),
    "red": (0.75, 0.10, 0.12),
    "yellow": (0.95, 0.80, 0.10),
    "blue": (0.10, 0.25, 0.65),
}
_INNER = 0.1875  # pieces have their centres this far from the border: 6 to 26 of 32 pixels


class Renderer(ABC):
    """A frozen value that draws."""

    differentiable: ClassVar[bool] = False
    """It has a soft form that a gradient can follow."""
    layers: ClassVar[int] = 0
    """Pictures in its canvas."""

    @abstractmethod
    def moves(self, x: Tensor) -> Moves:
        """One entry for each of its parameters."""

    def canvas(self, x: Tensor, threat: Ball) -> Canvas:
        """What is the same for all parameters."""
        return ()

    @abstractmethod
    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Pictures (B, P, C, H, W) for parameters (B, P, D), inside the ball to the last bit."""

    def soft(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """The same with soft edges, differentiable in theta; it may leave the ball a little, for it is only searched."""
        raise NotImplementedError


def centres(x: Tensor) -> tuple[Tensor, Tensor]:
    """Columns and rows of all pixel centres, (H * W,) each."""
    height, width = x.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=x.device, dtype=x.dtype) + 0.5,
        torch.arange(width, device=x.device, dtype=x.dtype) + 0.5,
        indexing="ij",
    )
    return columns.flatten(), rows.flatten()


def within(theta: Tensor, x: Tensor, low: float = _INNER) -> tuple[Tensor, Tensor]:
    """Parameters (..., 2) as a place (column, row) in pixels; ``low`` of the side is kept clear on each side."""
    inner = low + (1 - 2 * low) * theta
    return inner[..., 0] * x.shape[-1], inner[..., 1] * x.shape[-2]


def turned(angle: Tensor, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets (..., H * W) in axes turned by ``angle`` (...) in radians."""
    # In float64: the sine of float32 may differ in its last bit between batches, and edges are hard.
    cos, sin = (f(angle.double()).to(columns.dtype)[..., None] for f in (torch.cos, torch.sin))
    return columns * cos + rows * sin, rows * cos - columns * sin


def nearest(gauge: Tensor, inside: Tensor, count: int) -> Tensor:
    """(..., H * W) bool: of the pixels inside, the ``count`` of the lowest gauge."""
    if not count:
        return torch.zeros_like(inside)
    chosen = gauge.masked_fill(~inside, torch.inf).topk(count, dim=-1, largest=False, sorted=False).indices
    return torch.zeros_like(inside).scatter(-1, chosen, True) & inside


def bounds(x: Tensor, threat: Ball) -> tuple[Tensor, Tensor]:
    """The darkest and the lightest picture of a ball that limits every value by itself."""
    return threat.project(torch.zeros_like(x), x), threat.project(torch.ones_like(x), x)


def edge(depth: Tensor, softness: float) -> Tensor:
    """How far inside, 0 to 1, for a depth in pixels; the edge is ``softness`` pixels wide."""
    return (depth / softness + 0.5).clamp(0, 1)


def colours_of(palette: str, what: str) -> tuple[tuple[float, float, float], ...]:
    """The colours of ``black,white,#ff8000``. Raises InputError."""
    found = []
    for name in palette.split(","):
        text = name.strip().lower()
        if text in COLOURS:
            found.append(COLOURS[text])
            continue
        digits = text.removeprefix("#")
        try:
            if not text.startswith("#") or len(digits) != 6:
                raise ValueError
            number = int(digits, 16)
        except ValueError:
            raise InputError(
                f"{what}: {name.strip()!r} in palette is no colour; give {', '.join(COLOURS)} or #rrggbb, with commas."
            ) from None
        found.append((number >> 16 & 255, number >> 8 & 255, number & 255))
        found[-1] = (found[-1][0] / 255, found[-1][1] / 255, found[-1][2] / 255)
    return tuple(found)


def shades(colours: tuple[tuple[float, float, float], ...], x: Tensor) -> Tensor:
    """Colours (n, C) for pictures of C channels: their mean where that is not 3."""
    table = torch.tensor(colours, dtype=x.dtype, device=x.device)
    return table if x.shape[1] == 3 else table.mean(1, keepdim=True).expand(-1, x.shape[1])


@dataclass(frozen=True)
class Covering(Renderer):
    """Opaque pieces that share the area: each takes at most its part of the pixels, those of the lowest gauge inside it.

    Parameters of a piece: column, row, colour, and those of its shape.
    """

    pieces: int
    colours: tuple[tuple[float, float, float], ...]

    differentiable: ClassVar[bool] = True
    shape_moves: ClassVar[tuple[tuple[float, bool], ...]] = ()
    """Small move and whether it wraps, of each parameter of the shape."""

    @abstractmethod
    def gauge(self, shape: Tensor, columns: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """For offsets (..., H * W) from the centre and parameters (..., S): what decides who is dropped, and the depth.

        A pixel is inside where its depth is not negative.
        """

    def moves(self, x: Tensor) -> Moves:
        """Small moves: a sixteenth of the inner field, and none of the colour."""
        each = [(0.1, False), (0.1, False), (0.0, False), *self.shape_moves]
        stride, wraps = zip(*(each * self.pieces), strict=True)
        piece = torch.arange(self.pieces, device=x.device).repeat_interleave(len(each))
        return Moves(torch.tensor(stride, device=x.device), torch.tensor(wraps, device=x.device), piece)

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Later pieces lie on earlier ones."""
        parts = theta.reshape(*theta.shape[:2], self.pieces, -1)
        count = self._count(x, threat)
        gauge, depth = self._placed(parts, x, count)
        masks = nearest(gauge, depth >= 0, count)
        table = shades(self.colours, x)
        chosen = table[(parts[..., 2] * len(table)).long().clamp_max(len(table) - 1)]  # (B, P, k, C)
        shown = x[:, None].expand(-1, theta.shape[1], *x.shape[1:]).flatten(3)
        for k in range(self.pieces):
            shown = torch.where(masks[:, :, k, None], chosen[:, :, k, :, None], shown)
        return shown.reshape(*theta.shape[:2], *x.shape[1:])

    def soft(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Edges as wide as an eighth of the picture; colours run into one another along the palette."""
        parts = theta.reshape(*theta.shape[:2], self.pieces, -1)
        _, depth = self._placed(parts, x, self._count(x, threat))
        weight = edge(depth, x.shape[-1] / 8)
        table = shades(self.colours, x)
        place = parts[..., 2] * (len(table) - 1)
        low = place.detach().floor().clamp(0, max(0, len(table) - 2))
        first, second = table[low.long()], table[(low.long() + 1).clamp_max(len(table) - 1)]
        chosen = torch.lerp(first, second, (place - low)[..., None].clamp(0, 1))
        shown = x[:, None].expand(-1, theta.shape[1], *x.shape[1:]).flatten(3)
        for k in range(self.pieces):
            shown = torch.lerp(shown, chosen[:, :, k, :, None].expand_as(shown), weight[:, :, k, None].expand_as(shown))
        return shown.reshape(*theta.shape[:2], *x.shape[1:])

    def _count(self, x: Tensor, threat: Ball) -> int:
        """Pixels of a piece. Raises InputError where there is none."""
        room = threat.room(x) if isinstance(threat, Sparse) else 0
        if room < self.pieces:
            unit = "an area" if isinstance(threat, Area) else "a number"
            raise InputError(
                f"{threat.label} is {unit} of {room} of the {x[0, 0].numel()} pixels, which is not one for each of "
                f"{self.pieces} pieces; give a larger --eps or fewer pieces."
            )
        return room // self.pieces

    def _placed(self, parts: Tensor, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        columns, rows = centres(x)
        column, row = within(parts[..., :2], x)
        return self.gauge(parts[..., 3:], columns - column[..., None], rows - row[..., None], count)


@dataclass(frozen=True)
class Squares(Covering):
    """Upright squares."""

    def gauge(self, shape: Tensor, columns: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The larger of both offsets; the square has ``count`` pixels."""
        far = torch.maximum(columns.abs(), rows.abs())
        return far, math.sqrt(count) / 2 - far
