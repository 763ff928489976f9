"""From light to numbers: pixels that integrate, exposure, noise, 8 bits, and the camera's JPEG."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.rng import Rng
from advkit.core.types import expand
from advkit.scene.light import srgb

__all__ = ["compress", "enlarge", "integrate", "noisy", "raster", "record", "rounded"]


def raster(pixels: Tensor, size: int) -> Tensor:
    """How many columns and rows a picture is taken in, (B, 2): the sensor's own ``pixels``, but no more than ``size``."""
    return pixels.round().clamp(min=1, max=size).long()


def record(
    light: Tensor, pixels: Tensor, *, shot: Tensor, noise: Tensor, jpeg: Tensor, key: Tensor, eight_bit: bool
) -> Tensor:
    """The picture (B, 3, size, size) in [0, 1] that the sensor takes of light of the same shape.

    ``pixels`` (B, 2): how many pixels the sensor has across and down in that field. Where they are more than ``size``, a
    pixel of the picture is the mean of several, and its noise is less by the root of their number. Where they are fewer, the
    light stands in the first ``raster`` columns and rows, and their picture is enlarged.
    """
    size = light.shape[-1]
    merged = (pixels / size).clamp(min=1).prod(1)
    taken = noisy(srgb(light), shot / merged, noise / merged.sqrt(), key)
    taken = compress(rounded(taken) if eight_bit else taken, jpeg)
    count = raster(pixels, size)
    coarse = (count < size).any(1).nonzero().flatten()
    return taken.index_copy(0, coarse, enlarge(taken[coarse], count[coarse])) if len(coarse) else taken


def integrate(light: Tensor, count: Tensor) -> Tensor:
    """Means of light (B, C, size, size) over ``count`` (B, 2) equal parts across and down, at most ``size``.

    They stand in the first rows and columns; the rest repeats the last of them.
    """
    across, down = (_parts(count[:, axis], light.shape[-1 - axis]).to(light.dtype) for axis in (0, 1))
    return down[:, None] @ light @ across[:, None].mT


def _parts(count: Tensor, size: int) -> Tensor:
    """Weights (B, size, size) by which row i takes the mean over part min(i, count - 1) of ``count``, (B,)."""
    part = torch.arange(size, device=count.device).minimum(count[:, None] - 1)[..., None].double()
    width = size / count[:, None, None].double()
    cell = torch.arange(size, device=count.device).double()
    overlap = torch.minimum((part + 1) * width, cell + 1) - torch.maximum(part * width, cell)
    return overlap.clamp(min=0.0) / width


def enlarge(picture: Tensor, count: Tensor) -> Tensor:
    """The first ``count`` (B, 2) columns and rows of pictures (B, C, size, size), drawn bilinearly over the whole."""
    across, down = (_tents(count[:, axis], picture.shape[-1 - axis]).to(picture.dtype) for axis in (0, 1))
    return down[:, None] @ picture @ across[:, None].mT


def _tents(count: Tensor, size: int) -> Tensor:
    """Weights (B, size, size) of the bilinear enlargement from ``count`` (B,) to ``size`` values."""
    centres = (torch.arange(size, device=count.device).double() + 0.5) * count[:, None].double() / size - 0.5
    centres = centres.clamp(min=0.0).minimum(count[:, None] - 1.0)
    return (1 - (centres[..., None] - torch.arange(size, device=count.device)).abs()).clamp(min=0.0)


def noisy(picture: Tensor, shot: Tensor, noise: Tensor, key: Tensor) -> Tensor:
    """sRGB values (B, C, H, W) with read noise of standard deviation ``noise`` and shot noise of variance ``shot`` times
    the value, (B,) each, cut to [0, 1]. The draws belong to ``key`` (B,): the same key gets the same ones."""
    if not bool(((shot > 0) | (noise > 0)).any()):
        return picture
    grain = Rng(key).fold("sensor").normal(*picture.shape[1:], dtype=picture.dtype)
    variance = expand(noise.to(picture.dtype) ** 2, picture) + expand(shot.to(picture.dtype), picture) * picture
    deviation = variance.clamp(min=1e-12).sqrt() * (variance > 0)
    return (picture + deviation * grain).clamp(0.0, 1.0)


def rounded(picture: Tensor) -> Tensor:
    """Values in steps of 1/255; the gradient passes unchanged."""
    steps = (picture.detach() * 255).round() / 255
    return steps + (picture - picture.detach())


def compress(picture: Tensor, quality: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) through JPEG 4:2:0 of ``quality`` (B,), 1 to 100, by a differentiable codec; 0: as they are."""
    index = (quality > 0).nonzero().flatten()
    if not len(index):
        return picture
    from kornia.enhance import jpeg_codec_differentiable

    right, below = -picture.shape[-1] % 16, -picture.shape[-2] % 16
    padded = F.pad(picture[index], (0, right, 0, below), mode="replicate")
    coded = jpeg_codec_differentiable(padded, quality[index].to(picture.dtype))
    coded = coded[..., : picture.shape[-2], : picture.shape[-1]].clamp(0.0, 1.0)
    return coded if len(index) == len(picture) else picture.index_copy(0, index, coded)
