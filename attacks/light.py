"""Light: a laser beam, or the reflection of a mirror."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Canvas, Renderer, bounds, centres, edge, turned, within
from advkit.attacks._search import Moves, Optimiser
from advkit.catalog import ATTACKS
from advkit.core.regions import Veil
from advkit.core.threat import Ball
from advkit.errors import InputError

_SOFT = 1.5  # pixels
_FAINTEST = 1 / 7  # of the opacity allowed
_CORNERS = {"triangle": 3, "rectangle": 4, "pentagon": 5, "hexagon": 6}


@dataclass(frozen=True)
class _Light(Renderer):
    """Blends a region with a colour; the last parameter is the opacity."""

    differentiable: ClassVar[bool] = True
    layers: ClassVar[int] = 2
    strides: ClassVar[tuple[tuple[float, bool], ...]] = ()

    def moves(self, x: Tensor) -> Moves:
        """One piece."""
        stride, wraps = zip(*self.strides, (0.1, False), strict=True)
        piece = torch.zeros(len(stride), dtype=torch.long, device=x.device)
        return Moves(torch.tensor(stride, device=x.device), torch.tensor(wraps, device=x.device), piece)

    def canvas(self, x: Tensor, threat: Ball) -> Canvas:
        """The darkest and the lightest picture under a veil."""
        return bounds(x, threat)

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Clamped, for a product of opacities is rounded."""
        shown = self._blended(theta, x, threat, _SOFT)
        return torch.minimum(torch.maximum(shown, canvas[0][:, None]), canvas[1][:, None])

    def soft(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """The edge is an eighth of the picture wide."""
        return self._blended(theta, x, threat, x.shape[-1] / 8)

    def _blended(self, theta: Tensor, x: Tensor, threat: Ball, softness: float) -> Tensor:
        opacity = threat.eps * (_FAINTEST + (1 - _FAINTEST) * theta[..., -1:])
        weight = (opacity * edge(self._depth(theta, x), softness)).reshape(*theta.shape[:2], 1, *x.shape[2:])
        colour = self._colour(theta)
        if x.shape[1] != 3:
            colour = colour.mean(2, keepdim=True).expand(-1, -1, x.shape[1])
        blended: Tensor = x[:, None] + weight * (colour[..., None, None] - x[:, None])
        return blended

    @abstractmethod
    def _depth(self, theta: Tensor, x: Tensor) -> Tensor:
        """(B, P, H * W) pixels inside."""

    @abstractmethod
    def _colour(self, theta: Tensor) -> Tensor:
        """(B, P, 3)."""


@dataclass(frozen=True)
class Beam(_Light):
    """A stripe across the picture in a pure colour: angle, place, width, hue."""

    strides: ClassVar[tuple[tuple[float, bool], ...]] = ((0.1, True), (0.05, False), (0.1, False), (0.1, False))

    def _depth(self, theta: Tensor, x: Tensor) -> Tensor:
        columns, rows = centres(x)
        side = max(x.shape[-2:])
        _, across = turned(theta[..., 0] * math.pi, columns - x.shape[-1] / 2, rows - x.shape[-2] / 2)
        place, width = (theta[..., 1] - 0.5) * side, (0.025 + 0.475 * theta[..., 2]) * side
        return width[..., None] / 2 - (across - place[..., None]).abs()

    def _colour(self, theta: Tensor) -> Tensor:
        hue = theta[..., 3:4] * 5 / 6  # red to violet: the colours that a laser has
        shift = torch.tensor([0.0, 2 / 3, 1 / 3], dtype=theta.dtype, device=theta.device)
        return (((hue + shift) % 1 * 6 - 3).abs() - 1).clamp(0, 1)


@dataclass(frozen=True)
class Reflection(_Light):
    """A regular polygon in any colour: column, row, radius, angle, red, green, blue."""

    corners: int

    strides: ClassVar[tuple[tuple[float, bool], ...]] = ((0.05, False),) * 3 + ((0.1, True),) + ((0.1, False),) * 3

    def _depth(self, theta: Tensor, x: Tensor) -> Tensor:
        columns, rows = centres(x)
        column, row = within(theta[..., :2], x, 0.0)
        radius = (0.09 + 0.91 * theta[..., 2]) * max(x.shape[-2:])
        sides = torch.arange(self.corners, device=x.device, dtype=x.dtype)
        angle = (theta[..., 3:4] + sides) * (2 * math.pi / self.corners)
        ahead, _ = turned(angle, (columns - column[..., None])[:, :, None], (rows - row[..., None])[:, :, None])
        return radius[..., None] * math.cos(math.pi / self.corners) - ahead.amax(2)

    def _colour(self, theta: Tensor) -> Tensor:
        return theta[..., 4:7]


@ATTACKS.register("light", paper="arXiv:2103.06504")
@dataclass(frozen=True)
class Light(Parametric):
    """A laser beam (Duan et al. 2021) or a reflected polygon (Wang et al. 2023), no more opaque than eps.

    ``shape`` is beam, triangle, rectangle, pentagon or hexagon.
    """

    threat: Ball = Veil(0.5)
    queries: int = 500
    optimiser: Optimiser = "pso"
    shape: Literal["beam", "triangle", "rectangle", "pentagon", "hexagon"] = "beam"

    balls: ClassVar[tuple[type[Ball], ...]] = (Veil,)

    def __post_init__(self) -> None:
        if self.shape != "beam" and self.shape not in _CORNERS:
            raise InputError(f"Light: shape is {self.shape!r}; allowed: beam, {', '.join(_CORNERS)}.")
        super().__post_init__()

    @property
    def renderer(self) -> Renderer:
        """A beam or a polygon."""
        return Beam() if self.shape == "beam" else Reflection(_CORNERS[self.shape])
