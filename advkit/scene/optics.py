"""What a lens and a moving camera do to a point: a disk, and a line."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blur", "disk", "line"]


def blur(light: Tensor, defocus: Tensor, motion: Tensor, angle: Tensor) -> Tensor:
    """Linear light (B, C, H, W), out of focus by disks of radius ``defocus`` and moved along lines of length ``motion`` px.

    ``angle`` in degrees, 0 along x; all (B,). What lies beyond the picture is taken to go on as its edge. Rows of radius 0
    and of length 0 come back exactly.
    """
    for kernels in (disk(defocus), line(motion, angle)):
        if kernels.shape[-1] > 1:
            light = _filtered(light, kernels.to(light.dtype))
    return light


def disk(radius: Tensor) -> Tensor:
    """Filters (B, k, k) that spread a point over a disk (B,) px, each pixel by its share of it; they sum to 1."""
    reach = math.ceil(float(radius.max()) - 0.5) if len(radius) else 0
    off = torch.arange(-max(reach, 0), max(reach, 0) + 1, device=radius.device).double()
    far = (off[:, None] ** 2 + off**2).sqrt()
    weight = (radius.double()[:, None, None] + 0.5 - far).clamp(0.0, 1.0)
    return weight / weight.sum((1, 2), keepdim=True)


def line(length: Tensor, angle: Tensor) -> Tensor:
    """Filters (B, k, k) that spread a point along a line of ``length`` px at ``angle`` degrees, (B,) each; they sum to 1.

    kornia's motion filters have whole lengths, one for the batch; here every row has its own, of any length.
    """
    half = length.double()[:, None, None] / 2
    reach = max(math.ceil(float(half.max()) - 0.5), 0) if len(length) else 0
    off = torch.arange(-reach, reach + 1, device=length.device).double()
    turn = torch.deg2rad(angle.double())[:, None, None]
    x, y = off.expand(1, len(off), -1), off[:, None].expand(1, -1, len(off))
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    weight = (half + 0.5 - along.abs()).clamp(0.0, 1.0) * (1 - across.abs()).clamp(min=0.0)
    still = (half <= 0.5).double() * ((x == 0) & (y == 0))
    weight = torch.where(half <= 0.5, still, weight)
    return weight / weight.sum((1, 2), keepdim=True)


def _filtered(light: Tensor, kernels: Tensor) -> Tensor:
    """Each row with its own filter (B, k, k)."""
    reach = kernels.shape[-1] // 2
    count, channels = light.shape[:2]
    padded = F.pad(light, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)[None]
    filters = kernels.repeat_interleave(channels, 0)[:, None]
    return F.conv2d(padded, filters, groups=count * channels).reshape(light.shape)
