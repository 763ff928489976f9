"""The Haar wavelet transform, and soft thresholds of its details (BayesShrink), every picture and channel by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["denoised", "from_ycbcr", "shrunk", "to_ycbcr"]

_NORMAL_QUARTILE = 0.6744897501960817  # the median of |n| for a standard normal n
_ROUNDING = 1e-5  # a detail that is smaller is one of equal pixels, in float32 as in float64
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Bands(NamedTuple):
    """One level: what is coarse, and the details of rows, columns and both."""

    coarse: Tensor
    details: tuple[Tensor, Tensor, Tensor]


def denoised(x: Tensor, sigma: float | None = None) -> Tensor:
    """x with the noise shrunk, in luma and chroma where there are three channels; not cut to [0, 1].

    ``sigma`` is the standard deviation of the noise in x's channels; None estimates it.
    """
    if x.shape[1] != 3:
        return shrunk(x, None if sigma is None else torch.full_like(x[:1, :, :1, :1], sigma))
    # Independent noise of the three channels: its deviation in a sum of them is the weights' length.
    axes = to_ycbcr(torch.eye(3, dtype=x.dtype, device=x.device)[:, :, None, None])
    noise = None if sigma is None else sigma * axes.square().sum(0, keepdim=True).sqrt()
    return from_ycbcr(shrunk(to_ycbcr(x), noise))


def to_ycbcr(x: Tensor) -> Tensor:
    """Luma and the two chroma differences, which here lie around 0."""
    red, green, blue = x.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return torch.stack([luma, (blue - luma) / (2 - 2 * _LUMA[2]), (red - luma) / (2 - 2 * _LUMA[0])], 1)


def from_ycbcr(x: Tensor) -> Tensor:
    """The inverse of ``to_ycbcr``."""
    luma, towards_blue, towards_red = x.unbind(1)
    red = luma + (2 - 2 * _LUMA[0]) * towards_red
    blue = luma + (2 - 2 * _LUMA[2]) * towards_blue
    return torch.stack([red, (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1], blue], 1)


def shrunk(x: Tensor, sigma: Tensor | None = None) -> Tensor:
    """BayesShrink (Chang, Yu & Vetterli 2000) of each channel: the threshold of a band is noise variance / signal deviation.

    ``sigma`` (1, C, 1, 1) is the noise's deviation; where None, it is the median size of the finest diagonal details that
    are not 0, over 0.6745 (Donoho & Johnstone 1994). Levels: as many as halve the shorter side to 1, less three, and at
    least one.
    """
    levels = max(int(math.log2(min(x.shape[-2:]))) - 3, 1)
    sizes, details, coarse = [], [], x
    for _ in range(levels):
        sizes.append(coarse.shape[-2:])
        coarse, fine = _split(coarse)
        details.append(fine)
    noise = _noise(details[0][2]) if sigma is None else sigma
    for size, fine in zip(reversed(sizes), reversed(details), strict=True):
        soft = [_soft(band, noise.square()) for band in fine]
        coarse = _joined(coarse, soft[0], soft[1], soft[2])[..., : size[0], : size[1]]
    return coarse


def _split(x: Tensor) -> Bands:
    """One level; an odd row or column is taken twice."""
    for axis in (-2, -1):
        if x.shape[axis] % 2:
            x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)
    a, b, c, d = x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]
    top, bottom, rise, fall = a + b, c + d, a - b, c - d
    return Bands((top + bottom) / 2, ((top - bottom) / 2, (rise + fall) / 2, (rise - fall) / 2))


def _joined(coarse: Tensor, down: Tensor, right: Tensor, both: Tensor) -> Tensor:
    """The inverse of ``_split``, of even sides; ``coarse`` may be larger by an odd row or column."""
    coarse = coarse[..., : down.shape[-2], : down.shape[-1]]
    top, bottom, rise, fall = coarse + down, coarse - down, right + both, right - both
    upper = torch.stack([top + rise, top - rise], -1).flatten(-2)
    lower = torch.stack([bottom + fall, bottom - fall], -1).flatten(-2)
    return torch.stack([upper, lower], -2).flatten(-3, -2) / 2


def _noise(band: Tensor) -> Tensor:
    """(B, C, 1, 1) the noise's deviation, by the median size of what is not 0; 0 where everything is."""
    sizes = band.flatten(2).abs().sort(2).values
    zeros = (sizes < _ROUNDING).sum(2, keepdim=True)
    others = sizes.shape[2] - zeros
    last = sizes.shape[2] - 1
    middle = [(zeros + torch.div(others - i, 2, rounding_mode="floor")).clamp(max=last) for i in (1, 0)]
    median = (sizes.gather(2, middle[0]) + sizes.gather(2, middle[1])) / 2
    return median.unsqueeze(-1) / _NORMAL_QUARTILE


def _soft(band: Tensor, variance: Tensor) -> Tensor:
    """Soft thresholding by variance / sqrt(E[band^2] - variance)."""
    # The mean in two steps: one over many pixels at once may be split between threads where there is a single output.
    power = band.square().mean(-1, keepdim=True).mean(-2, keepdim=True)
    threshold = variance / (power - variance).clamp(min=torch.finfo(band.dtype).eps).sqrt()
    return band.sign() * (band.abs() - threshold).clamp(min=0)
