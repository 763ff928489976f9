"""Operations on pictures (B, C, H, W) in [0, 1], each picture with a strength (B,) of its own.

Sums of shifted pictures rather than convolutions: a picture comes out the same to the bit in any batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.types import expand

__all__ = ["affine", "blurred", "chosen", "contrasted", "equalised", "pixelated", "smeared", "solarised", "stretched"]


def chosen(operations: Sequence[Callable[[Tensor, Tensor], Tensor]], choice: Tensor, x: Tensor) -> Tensor:
    """Each picture under the operation of its number ``choice`` (B,); operations take pictures and their indices (b,)."""
    result = x
    for number, operation in enumerate(operations):
        (index,) = (choice == number).nonzero(as_tuple=True)
        if len(index):
            result = result.index_copy(0, index, operation(x[index], index).to(x.dtype))
    return result


def contrasted(x: Tensor, factor: Tensor) -> Tensor:
    """Towards the mean of each channel: factor 1 leaves the picture, 0 its mean."""
    mean = x.mean((2, 3), keepdim=True)
    return ((x - mean) * expand(factor, x) + mean).clamp(0, 1)


def blurred(x: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, cut off at ``reach`` pixels, the border repeated."""
    offset = torch.arange(-reach, reach + 1, device=x.device, dtype=torch.float64)
    weights = torch.exp(-offset.square() / (2 * sigma.double()[:, None].square()))
    weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
    for axis, padding in ((2, [0, 0, reach, reach]), (3, [reach, reach, 0, 0])):
        wide, extent = F.pad(x, padding, mode="replicate"), x.shape[axis]
        x = _sum(expand(weights[:, i], x) * wide.narrow(axis, i, extent) for i in range(2 * reach + 1))
    return x.clamp(0, 1)


def smeared(x: Tensor, length: Tensor, angle: Tensor) -> Tensor:
    """Motion blur: the mean of 9 copies along ``length`` pixels at an ``angle`` in radians, the border repeated."""
    shifts = torch.linspace(-0.5, 0.5, 9).tolist()
    across, down = length * angle.cos() / x.shape[3] * 2, length * angle.sin() / x.shape[2] * 2
    one, zero = torch.ones_like(length), torch.zeros_like(length)
    copies = (_warped(x, [one, zero, s * across, zero, one, s * down], "border") for s in shifts)
    return _sum(copies) / len(shifts)


def pixelated(x: Tensor, share: Tensor) -> Tensor:
    """Every pixel that of a grid with a ``share`` of the rows and columns."""
    for axis in (2, 3):
        extent = x.shape[axis]
        cells = (share.double() * extent).round().clamp(1, extent)[:, None]
        place = torch.arange(extent, device=x.device)
        cell = (place * cells / extent).floor()
        source = ((cell + 0.5) * extent / cells).floor().long().clamp(0, extent - 1)
        shape = (len(x), 1, extent, 1) if axis == 2 else (len(x), 1, 1, extent)
        x = x.gather(axis, source.reshape(shape).expand(x.shape))
    return x


def affine(x: Tensor, angle: Tensor, shear: tuple[Tensor, Tensor], shift: tuple[Tensor, Tensor]) -> Tensor:
    """Turned by an angle in radians, sheared, and shifted by shares of the picture; black comes in at the border."""
    ratio = x.shape[2] / x.shape[3]
    cos, sin = angle.cos(), angle.sin()
    across = [cos, -sin * ratio + shear[0] * ratio, 2 * shift[0]]
    down = [sin / ratio + shear[1] / ratio, cos, 2 * shift[1]]
    return _warped(x, [*across, *down], "zeros")


def stretched(x: Tensor) -> Tensor:
    """Each channel's darkest value at 0 and brightest at 1 (autocontrast); flat channels as they are."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, x, (x - low) / torch.where(flat, 1.0, high - low))


def equalised(x: Tensor) -> Tensor:
    """Each channel's values spread evenly: the share of pixels that are darker, of 256 levels; flat channels as they are."""
    levels = (x * 255).round().flatten(2).long()
    counts = torch.zeros(*levels.shape[:2], 256, dtype=x.dtype, device=x.device)
    counts = counts.scatter_add(2, levels, torch.ones_like(levels, dtype=x.dtype))
    darker = counts.cumsum(2) - counts
    brightest = darker.gather(2, levels.amax(2, keepdim=True))
    spread = (darker / brightest.clamp_min(1)).gather(2, levels).reshape(x.shape)
    return torch.where((brightest == 0)[..., None], x, spread)


def solarised(x: Tensor, threshold: Tensor) -> Tensor:
    """Values of at least the threshold inverted."""
    return torch.where(x < expand(threshold, x), x, 1 - x)


def _sum(parts: Iterable[Tensor]) -> Tensor:
    return functools.reduce(torch.add, parts)


def _warped(x: Tensor, entries: Sequence[Tensor], border: str) -> Tensor:
    """The picture under the six numbers (B,) of an affine map of the output's places to those read, bilinear."""
    down, along = ((torch.arange(n, device=x.device, dtype=x.dtype) * 2 + 1) / n - 1 for n in x.shape[2:])
    down, along = down[:, None], along[None, :]
    a, b, c, d, e, f = (entry.to(x.dtype)[:, None, None] for entry in entries)
    grid = torch.stack([a * along + b * down + c, d * along + e * down + f], 3)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=border, align_corners=False).clamp(0, 1)
