"""Adam's memory as a state, one row for each example (Kingma & Ba 2015)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.types import expand

__all__ = ["Moments", "adam", "still"]

_MEAN, _SQUARE = 0.9, 0.999


class Moments(NamedTuple):
    """Running means of the gradient and of its square (B, ...), and how many were seen (B,)."""

    mean: Tensor
    square: Tensor
    seen: Tensor


def still(like: Tensor) -> Moments:
    """The memory before the first gradient."""
    return Moments(
        torch.zeros_like(like), torch.zeros_like(like), torch.zeros(len(like), dtype=torch.long, device=like.device)
    )


def adam(grad: Tensor, memory: Moments) -> tuple[Tensor, Moments]:
    """The direction of the next step, of length 1 or so in every value, and the memory after it."""
    seen = memory.seen + 1
    mean = _MEAN * memory.mean + (1 - _MEAN) * grad
    square = _SQUARE * memory.square + (1 - _SQUARE) * grad.square()
    centred = mean / expand(1 - _MEAN ** seen.to(grad.dtype), grad)
    size = (square / expand(1 - _SQUARE ** seen.to(grad.dtype), grad)).sqrt()
    # A constant beside gradients of 1e-9, which sure models give, would be a step size of its own.
    return centred / size.clamp_min(torch.finfo(grad.dtype).tiny), Moments(mean, square, seen)
