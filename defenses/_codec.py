"""Pictures through an encoder of Pillow's and back."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from advkit.errors import InputError

__all__ = ["coded"]


def coded(name: str, x: Tensor, form: str, quality: int) -> Tensor:
    """Every picture of x (B, C, H, W) in 8 bits through the encoder ``form`` and back. Raises InputError unless C is 1 or 3."""
    if x.shape[1] not in (1, 3):
        raise InputError(f"{name}: pictures have {x.shape[1]} channels; {form} knows 1 or 3.")
    levels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
    back = np.stack([_through(picture, form, quality) for picture in levels])
    return torch.from_numpy(back).reshape(levels.shape).permute(0, 3, 1, 2).to(x) / 255


def _through(picture: npt.NDArray[np.uint8], form: str, quality: int) -> npt.NDArray[np.uint8]:
    """A picture (H, W, C), encoded and decoded."""
    grey = picture.shape[2] == 1
    file = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if grey else picture).save(file, form, quality=quality)
    with Image.open(file, formats=[form]) as decoded:
        return np.asarray(decoded.convert("L" if grey else "RGB"))  # WebP knows no grey pictures
