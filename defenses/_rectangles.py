"""Rectangles in pictures, each picture's own."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["rectangle"]


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
