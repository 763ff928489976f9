"""Photos of US stop signs, with the masks and the perturbations that RP2 published for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advkit.arrays import read_arrays
from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles
from advkit.data._listing import is_picture
from advkit.errors import DataError
from advkit.image_file import UnreadableImage, read_image
from advkit.paths import expanded

__all__ = ["LISA_CLASSES", "StopSigns"]

LISA_CLASSES = (
    "unused",  # the authors' network counts its classes from 1
    "added lane",
    "keep right",
    "lane ends",
    "merge",
    "pedestrian crossing",
    "school",
    "school speed limit 25",
    "signal ahead",
    "speed limit 25",
    "speed limit 30",
    "speed limit 35",
    "speed limit 45",
    "speed limit unreadable",
    "stop",
    "stop ahead",
    "turn right",
    "yield",
)
_STOP = LISA_CLASSES.index("stop")
_SHARP = 256  # pixels of the larger photos


@DATASETS.register("stop-signs", paper="arXiv:1707.08945")
class StopSigns(PictureFiles):
    """Photos of US stop signs (Eykholt et al. 2018), all of class 14 of the 18 that their LISA-CNN knows.

    ``path`` is the folder that holds 32/ and 256/; without one it is stop_signs/ in the folder that the environment variable
    ADVKIT_DATA names. At 32 pixels the photos are the authors' own small ones, at any other size the large ones, scaled.
    """

    def __init__(self, path: str | Path | None = None, size: int = 32) -> None:
        self.path = _folder(path)
        photos = self.path / str(32 if size == 32 else _SHARP)
        files = [file for file in photos.iterdir() if is_picture(file)] if photos.is_dir() else []
        if not files:
            raise DataError(f"stop-signs: there are no photos in {photos}; put the pictures of stop signs there.")
        files.sort(key=lambda file: (len(file.stem), file.stem))  # 2 before 10
        super().__init__("stop-signs", files, [_STOP] * len(files), LISA_CLASSES, size=size, crop=1.0)
        self.size = size

    def mask(self, name: Literal["octagon", "rectangles"]) -> Tensor:
        """Where something may stick, (size, size) bool: on the whole sign, or in the two bars of the paper's stickers.

        At 32 pixels they are the masks of the published perturbations.
        """
        source = self.path / f"mask_{name}_32.png"
        if self.size != 32 and (self.path / f"mask_{name}_{_SHARP}.png").is_file():
            source = source.with_name(f"mask_{name}_{_SHARP}.png")
        if name not in ("octagon", "rectangles"):
            raise DataError(f"stop-signs: there is no mask {name!r}; there are octagon and rectangles.")
        try:
            shown = read_image(source, lambda image: image.convert("L"))
        except UnreadableImage as error:
            raise DataError(f"stop-signs: the mask {source} cannot be read: {error.reason}.") from error
        scaled = shown.resize((self.size, self.size), Image.Resampling.NEAREST)
        return torch.from_numpy(np.array(scaled) > 127)

    def perturbation(self, name: Literal["poster", "sticker"]) -> Tensor:
        """What the authors published, (3, 32, 32) float32: added to photos of 32 pixels inside a mask, then clipped to [0, 1].

        The poster's mask is the octagon, the sticker's the rectangles; the sticker is far outside of [0, 1].
        """
        if name not in ("poster", "sticker"):
            raise DataError(f"stop-signs: there is no perturbation {name!r}; there are poster and sticker.")
        source = self.path / "eykholt_noise.npz"
        stored, held = read_arrays(source, [name], "perturbations in")
        if name not in stored or stored[name].shape != (32, 32, 3):
            raise DataError(
                f"stop-signs: the perturbations in {source} cannot be read: there is no {name} of 32 x 32 x 3 among "
                f"{', '.join(held) or 'none'}."
            )
        noise: NDArray[np.float32] = stored[name].astype(np.float32)
        return torch.from_numpy(noise).permute(2, 0, 1).contiguous()


def _folder(path: str | Path | None) -> Path:
    if path is not None:
        folder = expanded(path)
        if not folder.is_dir():
            raise DataError(f"stop-signs: the folder {folder} does not exist; give the one that holds 32/ and 256/.")
        return folder
    home = os.environ.get("ADVKIT_DATA")
    if not home:
        raise DataError(
            "stop-signs: advkit does not ship these photos; give their folder as the setting path, or set the environment "
            "variable ADVKIT_DATA to the folder that holds stop_signs/."
        )
    folder = expanded(home) / "stop_signs"
    if not folder.is_dir():
        raise DataError(
            f"stop-signs: there is no folder {folder}; ADVKIT_DATA is to name the folder that holds stop_signs/, "
            "or give the setting path."
        )
    return folder
