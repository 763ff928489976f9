"""Masks from picture files."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.errors import InputError
from advkit.image_file import UnreadableImage, read_image
from advkit.paths import expanded, file_problem

__all__ = ["fitted_mask", "read_mask"]

_LIGHT = 128


def read_mask(path: str, what: str, allowed: str) -> Tensor:
    """(h, w) float64 in {0, 1}: 1 where a picture file is light, and not transparent.

    ``what`` was given and ``allowed`` is allowed, for errors. Raises InputError for a file that is none or is all dark.
    """
    file = expanded(path)
    if problem := file_problem(file):
        raise InputError(f"{what} is {path!r}, and {problem}; give {allowed}.")
    return _read(str(file), file.stat().st_mtime_ns, what, allowed)


@lru_cache(maxsize=16)
def _read(path: str, _: int, what: str, allowed: str) -> Tensor:
    try:
        light = np.asarray(read_image(path, lambda image: image.convert("LA")))
    except UnreadableImage as error:
        raise InputError(f"{what} is {path!r}, which is no picture file ({error.reason}); give {allowed}.") from None
    mask = torch.from_numpy((light[..., 0] >= _LIGHT) & (light[..., 1] >= _LIGHT)).double()
    if not bool(mask.any()):
        raise InputError(f"{what} is {path!r}, which has no light pixel: nothing would be covered. Give {allowed}.")
    return mask


def fitted_mask(mask: Tensor, path: str, room: int, x: Tensor) -> Tensor:
    """(1, 1, H, W) bool: a mask (h, w) on the raster of pictures x (B, C, H, W).

    Raises InputError where it covers more than ``room`` pixels, or none, and where it would be stretched.
    """
    height, width = int(x.shape[2]), int(x.shape[3])
    if abs(mask.shape[0] * width - mask.shape[1] * height) >= mask.shape[1]:  # by a row or more of the pictures
        raise InputError(
            f"the mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels and the pictures are {width} x {height}, so it would "
            "be stretched; give one of their proportions, of any size."
        )
    on = F.interpolate(mask[None, None].to(x.device), (height, width), mode="area") > 0.5
    covered = int(on.sum())
    if not 0 < covered <= room:
        raise InputError(
            f"the mask {path} covers {covered} of the {height * width} pixels of a picture, and eps allows {room}; "
            + (f"give an eps of {covered / (height * width):.4f} or more." if covered else "give a larger mask.")
        )
    return on
