"""Rectangles in pictures, each picture's own: their sides, the places for them, and what a blank one does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks._masks import fitted_mask, read_mask
from advkit.core.attack import Ascent, Attack, Point, State, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.regions import Area
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["GREY", "Blank", "check_pictures", "heaviest", "places", "rectangle", "sides"]

GREY = 0.5

Fill = Literal["grey", "noise"]


def check_pictures(attack: Attack, x: Tensor) -> None:
    """Refuse what has no height and width."""
    if x.ndim != 4:
        raise InputError(f"{type(attack).__name__} covers a part of pictures (N, C, H, W); these are {tuple(x.shape)}.")


def sides(area: int, aspect: float, x: Tensor) -> tuple[int, int]:
    """Height and width in pixels of the largest rectangle of at most ``area`` pixels in pictures x (B, C, H, W).

    ``aspect`` is width / height, kept to the nearest pixel. Raises InputError where there is no room for a pixel.
    """
    if area < 1:
        high, wide = x.shape[2:]
        raise InputError(f"the area is less than one pixel of a picture of {wide}x{high}; give a larger eps.")
    high, wide = int(x.shape[2]), int(x.shape[3])
    ideal = math.sqrt(area / aspect)
    if ideal > high:  # as high as the picture, and the rest of the area in its width
        return high, min(wide, area // high)
    if ideal * aspect > wide:
        return max(1, area // wide), min(wide, area)
    best = (0, 0, 0)
    for height in sorted({math.floor(ideal + 1e-6), math.ceil(ideal - 1e-6)}):
        height = min(max(1, height), high, area)
        width = min(max(1, math.ceil(aspect * height - 1e-6)), wide, area // height)
        best = max(best, (height * width, height, width))
    _, height, width = best
    return height, width


def places(height: int, width: int, x: Tensor) -> int:
    """How many places a rectangle has in pictures x (B, C, H, W)."""
    return (int(x.shape[2]) - height + 1) * (int(x.shape[3]) - width + 1)


def rectangle(place: Tensor, height: int, width: int, like: Tensor) -> Tensor:
    """(B, 1, H, W) bool: inside a rectangle in pictures ``like`` (B, C, H, W).

    ``place`` (B,) counts its (H - height + 1)(W - width + 1) places row by row, from the top left corner.
    """
    across = like.shape[3] - width + 1
    top, left = (place // across)[:, None], (place % across)[:, None]
    down, along = (torch.arange(extent, device=like.device) for extent in like.shape[2:])
    rows = (down >= top) & (down < top + height)
    columns = (along >= left) & (along < left + width)
    return rows[:, None, :, None] & columns[:, None, None, :]


def heaviest(grad: Tensor, height: int, width: int, count: int) -> Tensor:
    """(B, count) places with the largest sums of squared gradients (B, C, H, W), the largest first; every place competes."""
    size = grad / expand(grad.flatten(1).abs().amax(1).clamp_min(torch.finfo(grad.dtype).tiny), grad)
    sums = F.avg_pool2d(size.square().sum(1, keepdim=True), (height, width), stride=1)
    return sums.flatten(1).topk(count, dim=1).indices


@dataclass(frozen=True)
class Blank(Attack):
    """Rectangles at random places, drawn once: the control of attacks that search for their place and colours."""

    threat: Ball = Area(0.05)
    fill: Fill = "grey"
    pieces: int = 1
    aspect: float = 1.0
    mask: str = ""  # a picture file, light where it is covered; then it is no rectangles
    steps: int = 0
    loss: Loss = Margin()

    tells: ClassVar[Tells] = "scores"
    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The pictures under their rectangles."""
        check_pictures(self, x)
        assert isinstance(self.threat, Area)
        if self.mask:
            on = fitted_mask(read_mask(self.mask, "the mask", "a picture file"), self.mask, self.threat.room(x), x)
            return torch.where(on, filling(self.fill, x, rng), x)
        height, width = sides(self.threat.room(x) // self.pieces, self.aspect, x)
        draw = rng.fold("place").integers(places(height, width, x), self.pieces)
        covered = torch.zeros_like(x[:, :1], dtype=torch.bool)
        for piece in range(self.pieces):
            covered = covered | rectangle(draw[:, piece], height, width, x)
        return torch.where(covered, filling(self.fill, x, rng), x)

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        """There is none."""
        return Point(state.query)


def filling(fill: Fill, x: Tensor, rng: Rng) -> Tensor:
    """Grey, or uniform noise, for whole pictures like x."""
    if fill == "grey":
        return torch.full_like(x, GREY)
    return rng.fold("colour").uniform(*x.shape[1:], dtype=x.dtype)
