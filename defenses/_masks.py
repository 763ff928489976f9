"""Squares that may stand anywhere in a picture, masks that cover them, and what stands under a mask."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advkit.backbones.classifier import Classifier
from advkit.errors import DataError, InputError

__all__ = ["check_fill", "check_patch", "fill_of", "mask_places", "mask_size", "square_masks", "square_side"]


def check_patch(name: str, patch: str | int) -> None:
    """Refuse what names no square."""
    number = _number(str(patch).removesuffix("%"))
    percent = isinstance(patch, str) and patch.endswith("%")
    if not (0 < number <= 100 if percent else number >= 1 and number == int(number)):
        raise InputError(f"{name}: patch is {patch!r}; give its side in pixels, such as 5, or its area, such as 2%.")


def square_side(patch: str | int, height: int, width: int) -> int:
    """Side in pixels of the square; of one given as a share of the picture, rounded up. Raises DataError if it is larger."""
    text = str(patch)
    share = _number(text.removesuffix("%"))
    side = math.ceil(math.sqrt(share / 100 * height * width)) if text.endswith("%") else int(share)
    if side > min(height, width):
        raise DataError(f"a square of {side} pixels does not fit pictures of {height} x {width}.")
    return side


def mask_size(size: int, patch: int, k: int) -> tuple[int, int]:
    """Side of a mask and distance from one to the next, for k of them along ``size`` pixels (Xiang et al. 2022)."""
    stride = math.ceil((size - patch + 1) / k)
    return min(patch + stride - 1, size), stride


def mask_places(size: int, patch: int, k: int) -> tuple[int, ...]:
    """Where masks begin along an axis, such that every place of the patch lies within one."""
    mask, stride = mask_size(size, patch, k)
    return tuple(dict.fromkeys([*range(0, size - mask + 1, stride), size - mask]))


def square_masks(height: int, width: int, patch: int, k: int, device: torch.device | None = None) -> Tensor:
    """(M, H, W) booleans, true under a mask: every square of ``patch`` pixels lies within one of them."""

    def lines(size: int) -> Tensor:
        at = torch.tensor(mask_places(size, patch, k), device=device)[:, None]
        along = torch.arange(size, device=device)
        return (along >= at) & (along < at + mask_size(size, patch, k)[0])

    rows, columns = lines(height), lines(width)
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def check_fill(name: str, fill: str | float) -> None:
    """Refuse what names no colour."""
    if fill != "mean" and not 0 <= _number(str(fill)) <= 1:
        raise InputError(f"{name}: fill is {fill!r}; give a grey level from 0 to 1, or mean.")


def fill_of(fill: str | float, model: nn.Module, like: Tensor) -> Tensor:
    """The colour (C or 1, 1, 1) under a mask: a grey level, or the mean of the model's normalisation, 0.5 where it has none.

    It comes from the settings and the model alone: a colour taken from the picture could be changed by the patch.
    """
    if fill == "mean":
        means = [m.mean for m in model.modules() if isinstance(m, Classifier) and len(m.mean)]
        return means[0].to(like) if means else like.new_full((1, 1, 1), 0.5)
    return like.new_full((1, 1, 1), float(fill))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
