"""Pixel: a few single pixels of any colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Canvas, Renderer
from advkit.attacks._search import Evolution, Moves, Optimiser, Search
from advkit.catalog import ATTACKS
from advkit.core.regions import Area
from advkit.core.threat import L0, Ball, Sparse
from advkit.errors import InputError


@dataclass(frozen=True)
class Pixels(Renderer):
    """As many pixels as the ball allows: column, row and a value per channel each."""

    threat: Ball

    def moves(self, x: Tensor) -> Moves:
        """Every pixel is a piece."""
        count = self._room(x)
        stride = torch.full((count * (2 + x.shape[1]),), 0.1, device=x.device)
        piece = torch.arange(count, device=x.device).repeat_interleave(2 + x.shape[1])
        return Moves(stride, torch.zeros_like(stride, dtype=torch.bool), piece)

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Where two fall on one place, the first counts."""
        height, width = x.shape[2:]
        parts = theta.reshape(*theta.shape[:2], -1, 2 + x.shape[1])
        column = (parts[..., 0] * width).long().clamp_max(width - 1)
        place = (parts[..., 1] * height).long().clamp_max(height - 1) * width + column
        first = (place[..., :, None] == place[..., None, :]).to(torch.uint8).argmax(-1)
        values = parts[..., 2:].gather(2, first[..., None].expand(*first.shape, x.shape[1])).transpose(2, 3)
        shown = x[:, None].expand(-1, theta.shape[1], *x.shape[1:]).flatten(3)
        shown = shown.scatter(3, place[:, :, None].expand_as(values), values)
        return shown.reshape(*theta.shape[:2], *x.shape[1:])

    def _room(self, x: Tensor) -> int:
        room = self.threat.room(x) if isinstance(self.threat, Sparse) else 0
        if not room:
            raise InputError(f"{self.threat.label} is less than one of {x[0, 0].numel()} pixels; give a larger --eps.")
        return room


@ATTACKS.register("pixel", paper="arXiv:1710.08864")
@dataclass(frozen=True)
class Pixel(Parametric):
    """Few pixels found by differential evolution (Su et al. 2019, one pixel): rand/1, F = 0.5, no crossover.

    The paper's population of 400 and 100 generations are ``one-pixel``. With fewer queries the generations count, not the
    population: so 20 vectors have the paper's 100 generations here.
    """

    threat: Ball = L0(1)
    queries: int = 2000
    optimiser: Optimiser = "de"
    population: int | None = 20

    balls: ClassVar[tuple[type[Ball], ...]] = (L0, Area)

    @property
    def search(self) -> Search:
        """With the paper's constants."""
        return Evolution("rand1bin", 0.5, 1.0) if self.optimiser == "de" else super().search

    @property
    def renderer(self) -> Renderer:
        """Pixels."""
        return Pixels(self.threat)


@ATTACKS.register("one-pixel", paper="arXiv:1710.08864")
@dataclass(frozen=True)
class OnePixel(Pixel):
    """One pixel by differential evolution with the paper's budget (Su et al. 2019): 100 generations of 400 vectors."""

    queries: int = 40_000
    population: int | None = 400
