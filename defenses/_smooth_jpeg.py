"""JPEG with smooth rounding, whose gradient stands for that of the real encoder."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.defenses._haar import from_ycbcr, to_ycbcr

__all__ = ["quantisation", "smooth_jpeg"]

# ITU-T T.81, annex K: the tables of quality 50.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)


def smooth_jpeg(x: Tensor, quality: int) -> Tensor:
    """x (B, 1 or 3, H, W) through JPEG, 4:2:0, with a cubic in place of rounding (Shin & Song 2017)."""
    luma, chroma = (quantisation(quality, channel).to(x) for channel in (0, 1))
    height, width = x.shape[-2:]
    if x.shape[1] == 1:
        wide = _filled(x * 255 - 128, 8)
        return ((_coded(wide, luma)[..., :height, :width] + 128) / 255).clamp(0, 1)
    wide = to_ycbcr(_filled(x * 255 - 128, 16))
    bright = _coded(wide[:, :1], luma)
    colours = _coded(F.avg_pool2d(wide[:, 1:], 2), chroma)
    # libjpeg enlarges the colours by a triangle filter.
    colours = F.interpolate(colours, bright.shape[-2:], mode="bilinear", align_corners=False)
    coded = from_ycbcr(torch.cat([bright, colours], 1))[..., :height, :width]
    return ((coded + 128) / 255).clamp(0, 1)


def quantisation(quality: int, channel: int) -> Tensor:
    """(8, 8) the steps of the cosine coefficients of luma (0) or chroma (1), as libjpeg scales them."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor(_CHROMA if channel else _LUMA)
    return ((base * scale + 50) // 100).clamp(1, 255)


def _filled(x: Tensor, side: int) -> Tensor:
    """x with its last row and column repeated up to a multiple of ``side``."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % side, 0, -height % side), mode="replicate")


def _coded(planes: Tensor, steps: Tensor) -> Tensor:
    """Blocks of 8 x 8 as cosine coefficients, these rounded to whole steps, and back."""
    count, channels, height, width = planes.shape
    cosines = _cosines().to(planes)
    blocks = planes.reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = cosines @ blocks @ cosines.T / steps
    nearest = coefficients.detach().round()
    rounded = nearest + (coefficients - nearest) ** 3
    return (cosines.T @ (rounded * steps) @ cosines).transpose(3, 4).reshape(planes.shape)


def _cosines() -> Tensor:
    """(8, 8) the orthonormal discrete cosine transform, a row for each frequency."""
    frequency, place = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    waves = torch.cos(math.pi * frequency * (2 * place + 1) / 16) / 2
    return torch.where(frequency == 0, waves / math.sqrt(2), waves)
