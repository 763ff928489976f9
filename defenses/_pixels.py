"""What the pixel filters share: borders, windows, the box [0, 1], and how a wrapper is told to declare its gradient.

Sums run over shifted copies of the picture, in a fixed order, and never over the batch: a convolution may choose another
order for another number of pictures, and a picture would then not be cleaned to the same bits alone and among others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.defense import Backward, Wrapper
from advkit.errors import InputError

__all__ = [
    "Choice",
    "averaged",
    "check_draws",
    "check_inside",
    "check_odd",
    "check_share",
    "declare",
    "mirrored",
    "reflected",
    "taken",
    "windows",
]

Choice = Literal["exact", "straight-through"]
"""The gradient of a filter that is flat or kinked in places; an honest attack tries both and keeps the worse answer."""


def declare(wrapper: Wrapper, gradient: Backward) -> None:
    """Let the value's own ``backward`` be what its setting ``gradient`` says."""
    object.__setattr__(wrapper, "backward", gradient)


def check_odd(name: str, setting: str, value: int) -> None:
    """Raises InputError unless a window's side is odd and 3 or more."""
    if value < 3 or value % 2 == 0:
        raise InputError(f"{name}: {setting} is {value}; give an odd number of pixels, 3 or more.")


def check_share(name: str, setting: str, value: float, *, most: float = 1.0) -> None:
    """Raises InputError unless 0 < value <= most."""
    if not 0 < value <= most:
        raise InputError(f"{name}: {setting} is {value}; give a number above 0, up to {most:g}.")


def check_draws(name: str, draws: int, eot: int) -> None:
    """Raises InputError for a random wrapper that never draws."""
    if draws < 1:
        raise InputError(f"{name}: draws is {draws}; give 1 or more.")
    if eot < 0:
        raise InputError(f"{name}: eot is {eot}; give 1 or more, or 0 for as many as draws.")


def check_inside(name: str, setting: str, value: int, x: Tensor) -> None:
    """Raises InputError where a window of this side is larger than the pictures."""
    height, width = x.shape[-2:]
    if value > min(height, width):
        raise InputError(
            f"{name}: {setting} is {value} and pictures have {height} x {width} pixels; give {min(height, width)} or fewer."
        )


def reflected(x: Tensor, before: int, after: int) -> Tensor:
    """The picture with borders mirrored at the edge pixels, which are not repeated: c b | a b c."""
    return F.pad(x, (before, after, before, after), mode="reflect")


def mirrored(x: Tensor, before: int, after: int) -> Tensor:
    """The picture with borders mirrored at its edges, edge pixels repeated: b a | a b c (``reflect`` of SciPy)."""
    for axis in (-2, -1):
        size = x.shape[axis]
        parts = [x]
        if before:
            parts.insert(0, x.narrow(axis, 0, before).flip(axis))
        if after:
            parts.append(x.narrow(axis, size - after, after).flip(axis))
        x = torch.cat(parts, axis)
    return x


def windows(wide: Tensor, side: int, height: int, width: int) -> Iterator[Tensor]:
    """The side x side shifted views (B, C, height, width) of a picture with its borders on."""
    for row in range(side):
        for column in range(side):
            yield wide[..., row : row + height, column : column + width]


def averaged(x: Tensor) -> Tensor:
    """What is an average of pixels leaves [0, 1] by rounding only: cut there, with the gradient of the average."""
    return x + (x.clamp(0, 1) - x).detach()


def taken(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels (B, C, R, Q) of each picture at its own rows (B, R) and columns (B, Q)."""
    channels, width = x.shape[1], x.shape[3]
    lines = x.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return lines.gather(3, columns[:, None, None, :].expand(-1, channels, rows.shape[1], -1))
