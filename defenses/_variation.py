"""Differences between neighbouring pixels, and the transpose of that map, for total variation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["differences", "divergence", "length"]


def differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """To the pixel below and to the one at the right; 0 at the last row and column."""
    return F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1)), F.pad(x[..., 1:] - x[..., :-1], (0, 1))


def divergence(down: Tensor, right: Tensor) -> Tensor:
    """Minus the transpose of ``differences``."""
    below, after = F.pad(down[..., :-1, :], (0, 0, 1, 1)), F.pad(right[..., :-1], (1, 1))
    return below[..., 1:, :] - below[..., :-1, :] + after[..., 1:] - after[..., :-1]


def length(down: Tensor, right: Tensor) -> Tensor:
    """The length of each pixel's difference; its gradient at 0 is 0."""
    return (down.square() + right.square() + torch.finfo(down.dtype).tiny).sqrt()
