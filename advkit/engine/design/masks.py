"""Where a sticker may stick: named shapes, polygons, pictures, all as a raster of the face square."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.errors import InputError, nearest
from advkit.image_file import UnreadableImage, read_image
from advkit.paths import file_problem

__all__ = ["SHAPES", "mask_of", "salient"]

SHAPES = ("bars", "poster", "auto")
_BARS = ((0.2, 0.14, 0.8, 0.28), (0.2, 0.72, 0.8, 0.86))  # above and below the lettering of a stop sign
_RATIOS = (1.0, 1.5, 2.5, 4.0)


def mask_of(text: str, cover: Tensor, sign_mm: float, filled: float = 1.0) -> Tensor:
    """The mask (n, n) of 0 and 1 that a text names, on a sign that covers ``cover`` (n, n).

    The sign is ``sign_mm`` wide, which is the share ``filled`` of the raster.

    ``poster`` is the whole sign, ``bars`` two graffiti bars; ``x,y;x,y;x,y`` a polygon in mm, or in shares of the sign's width
    where no number is above 1, from the upper left corner of the square around the sign; else a picture file, whose bright
    (or opaque) half sticks. What would stand over the sign's edge is cut off. Raises InputError where nothing is left.
    """
    size = len(cover)
    if text == "poster":
        wanted = torch.ones(size, size)
    elif text == "bars":
        wanted = sum((_rectangle(size, *bar) for bar in _BARS), torch.zeros(size, size))
    elif ";" in text:
        wanted = _polygon(text, size, sign_mm, filled)
    else:
        wanted = _picture(text, size)
    if not bool((wanted > 0).any()):
        raise InputError(f"the mask {text} is empty; mark at least one place where the sticker may stick.")
    mask = (wanted.to(cover) > 0.5).to(cover) * (cover > 0.5)
    if not bool((mask > 0).any()):
        raise InputError(f"the mask {text} lies outside the sign; give one that covers a part of it.")
    return mask


def _rectangle(size: int, left: float, top: float, right: float, bottom: float) -> Tensor:
    centres = (torch.arange(size) + 0.5) / size
    across, along = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
    return (along[:, None] & across[None]).float()


def _polygon(text: str, size: int, sign_mm: float, filled: float) -> Tensor:
    """The pixels whose centres lie in a polygon (even-odd rule)."""
    try:
        corners = [tuple(float(part) for part in corner.split(",")) for corner in text.strip(";").split(";")]
    except ValueError:
        corners = []
    if len(corners) < 3 or any(len(corner) != 2 for corner in corners):
        raise InputError(
            f"the polygon {text!r} cannot be read; write x,y;x,y;x,y in mm or in shares of the sign's width."
        )
    points = torch.tensor(corners, dtype=torch.float64)
    if float(points.max()) > 1:
        points = points / sign_mm
    if bool((points < 0).any()) or bool((points > 1).any()):
        raise InputError(
            f"the polygon {text} leaves the sign's square, which is {sign_mm:g} mm wide; give points from 0 to {sign_mm:g} mm, "
            "or from 0 to 1 as shares of it."
        )
    points = filled * points + (1 - filled) / 2  # the sign stands in the middle of the raster
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    y, x = centres[:, None], centres[None]
    inside = torch.zeros(size, size, dtype=torch.bool)
    for (x1, y1), (x2, y2) in zip(points.tolist(), points.roll(-1, 0).tolist(), strict=True):
        if y1 != y2:
            crosses = ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
            inside = inside ^ crosses
    return inside.float()


def _picture(text: str, size: int) -> Tensor:
    import numpy as np

    path = Path(text)
    if file_problem(path):
        raise InputError(
            f"there is no mask {text!r}.{nearest(text, SHAPES)} Give {', '.join(SHAPES)}, a polygon x,y;x,y;x,y, or a "
            "picture file of the sign's face."
        )
    try:
        picture = read_image(
            path, lambda image: image.getchannel("A") if "A" in image.getbands() else image.convert("L")
        )
    except UnreadableImage as error:
        raise InputError(f"the mask {path} cannot be read ({error.reason}); give a PNG of the sign's face.") from error
    levels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
    if levels.shape[0] != levels.shape[1]:
        raise InputError(f"the mask {path} is {levels.shape[1]} x {levels.shape[0]} pixels; it must be square.")
    return F.adaptive_avg_pool2d(levels[None, None], size)[0, 0]


def salient(strength: Tensor, cover: Tensor, area: float, pieces: int = 3) -> Tensor:
    """The mask (n, n) of upright rectangles that hold most of ``strength`` (n, n), together at most ``area`` of the sign.

    One after the other, each of an equal share of the area and the best of several proportions, wholly on the sign.
    """
    size = len(cover)
    budget = area * float(cover.sum()) / pieces
    mask = torch.zeros_like(cover)
    for _ in range(pieces):
        free = (cover > 0.5) & (mask == 0)
        best, chosen = -1.0, mask
        for ratio in (*_RATIOS, *(1 / r for r in _RATIOS[1:])):
            height = max(1, int((budget / ratio) ** 0.5))
            width = max(1, int(budget / height))
            if max(height, width) > size:
                continue
            box = torch.stack([strength * free, free.to(strength)])[:, None]
            held, room = (F.avg_pool2d(box, (height, width), 1) * (height * width))[:, 0]
            held = held.where(room > height * width - 0.5, -1.0)
            place = int(held.argmax())
            if float(held.max()) > best:
                top, left = divmod(place, held.shape[1])
                best, chosen = float(held.max()), mask.clone()
                chosen[top : top + height, left : left + width] = 1
        mask = chosen
    if not bool((mask > 0).any()):
        raise InputError(
            f"an area of {100 * area:g} % leaves no room for {pieces} pieces on the sign; give another area."
        )
    return mask
