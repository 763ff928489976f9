"""A sticker that exists already: only where it goes is searched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import Canvas, Renderer, centres, nearest, turned, within
from advkit.attacks._search import Moves, Optimiser
from advkit.catalog import ATTACKS
from advkit.core.regions import Area
from advkit.core.threat import Ball, Sparse
from advkit.errors import InputError
from advkit.image_file import UnreadableImage, read_image
from advkit.paths import file_problem

_SIZE = 64  # of the built-in sticker, in pixels


@dataclass(frozen=True)
class Pasted(Renderer):
    """A picture, scaled so that what is opaque in it has the area allowed: column, row, angle."""

    picture: str | None

    def moves(self, x: Tensor) -> Moves:
        """One piece."""
        stride = torch.tensor([0.1, 0.1, 0.1], device=x.device)
        wraps = torch.tensor([False, False, True], device=x.device)
        return Moves(stride, wraps, torch.zeros_like(wraps, dtype=torch.long))

    def render(self, theta: Tensor, x: Tensor, canvas: Canvas, threat: Ball) -> Tensor:
        """Every pixel shows the sticker's pixel below its centre."""
        count = threat.room(x) if isinstance(threat, Sparse) else 0
        if not count:
            raise InputError(f"{threat.label} is less than one of {x[0, 0].numel()} pixels; give a larger --eps.")
        sticker = _scaled(_loaded(self.picture), count).to(x)
        height, width = sticker.shape[1:]
        columns, rows = centres(x)
        column, row = within(theta[..., :2], x)
        right, down = turned(theta[..., 2] * 2 * math.pi, columns - column[..., None], rows - row[..., None])
        across, along = (right + width / 2).floor().long(), (down + height / 2).floor().long()
        on = (across >= 0) & (across < width) & (along >= 0) & (along < height)
        place = along.clamp(0, height - 1) * width + across.clamp(0, width - 1)
        seen = sticker.flatten(1)[:, place].movedim(0, 2)  # (B, P, 4, H * W)
        mask = nearest(right.square() + down.square(), on & (seen[:, :, 3] > 0.5), count)
        colour = seen[:, :, :3] if x.shape[1] == 3 else seen[:, :, :3].mean(2, keepdim=True)
        shown = torch.where(mask[:, :, None], colour, x[:, None].flatten(3))
        return shown.reshape(*theta.shape[:2], *x.shape[1:])


@ATTACKS.register("fixed-sticker", paper="arXiv:2104.06728")
@dataclass(frozen=True)
class FixedSticker(Parametric):
    """Place and angle of a given sticker by differential evolution (Wei et al. 2022, adversarial sticker).

    ``picture`` is a PNG, whose transparent parts do not stick; without one it is a yellow smiling face.
    """

    threat: Ball = Area(0.05)
    optimiser: Optimiser = "de"
    picture: str | None = None

    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    def __post_init__(self) -> None:
        _loaded(self.picture)
        super().__post_init__()

    @property
    def renderer(self) -> Renderer:
        """The picture."""
        return Pasted(self.picture)


def _loaded(picture: str | None) -> Tensor:
    """RGBA (4, h, w) in [0, 1]; read anew where the file has changed. Raises InputError."""
    if picture is None:
        return _face()
    problem = file_problem(picture)
    try:
        if not problem:
            return _read(picture, Path(picture).stat().st_mtime_ns)
    except UnreadableImage as error:
        problem = error.reason
    raise InputError(f"the sticker {picture} cannot be read ({problem}); give a picture file such as a PNG.")


@lru_cache(maxsize=8)
def _read(picture: str, changed: int) -> Tensor:
    values = np.asarray(read_image(picture, lambda image: image.convert("RGBA")), np.float32) / 255
    found = torch.from_numpy(values).permute(2, 0, 1).contiguous()
    if not bool((found[3] > 0.5).any()):
        raise InputError(f"the sticker {picture} is transparent everywhere; give a picture with something on it.")
    return found


@lru_cache(maxsize=1)
def _face() -> Tensor:
    """Two eyes and a mouth on yellow, with a dark rim."""
    axis = (torch.arange(_SIZE) + 0.5) / _SIZE * 2 - 1
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    far = (right.square() + down.square()).sqrt()
    eyes = (right.abs() - 0.35).square() + (down + 0.25).square() < 0.02
    mouth = (far - 0.55).abs() < 0.07
    dark = (far > 0.88) | eyes | (mouth & (down > 0.2))
    colour = torch.where(
        dark, torch.tensor([0.1, 0.1, 0.1])[:, None, None], torch.tensor([0.95, 0.8, 0.1])[:, None, None]
    )
    return torch.cat([colour, (far <= 1).float()[None]])


@lru_cache(maxsize=32)
def _scaled(sticker: Tensor, count: int) -> Tensor:
    """The sticker at a size at which ``count`` pixels of it are opaque, its colours averaged."""
    height, width = sticker.shape[1:]
    scale = math.sqrt(count / float((sticker[3] > 0.5).sum()))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    alpha = sticker[3:]
    small = F.adaptive_avg_pool2d(torch.cat([sticker[:3] * alpha, alpha]), size)
    return torch.cat([small[:3] / small[3:].clamp_min(1e-6), small[3:]]).clamp(0, 1)
