"""Pictures for what filters them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from helpers import SHAPE, pictures
from torch import Tensor


def photos(
    count: int,
    shape: tuple[int, ...] = SHAPE,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    margin: float = 0.1,
) -> Tensor:
    """Smooth pictures with a little noise in [margin, 1 - margin]: a filter that looks for likeness finds it in them."""
    coarse = pictures(count, (shape[0], 4, 4), seed=seed)
    smooth = F.interpolate(coarse, shape[1:], mode="bilinear", align_corners=True)
    noise = pictures(count, shape, seed=seed + 100)
    return (margin + (1 - 2 * margin) * (0.97 * smooth + 0.03 * noise)).to(dtype)
