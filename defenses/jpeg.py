"""JPEG compression in front of a model."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, Wrapper
from advkit.errors import InputError


@DEFENSES.register("jpeg", paper="arXiv:1608.00853")
@dataclass(frozen=True)
class Jpeg(Wrapper):
    """JPEG of a quality from 1 to 100 (Dziugaite et al. 2016)."""

    quality: int = 75

    backward: ClassVar[Backward] = "straight-through"

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"jpeg: quality is {self.quality}; give a number from 1 to 100.")

    def __call__(self, x: Tensor) -> Tensor:
        """Every picture through the encoder and back."""
        levels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
        if levels.shape[3] not in (1, 3):
            raise InputError(f"jpeg: pictures have {levels.shape[3]} channels; JPEG knows 1 or 3.")
        coded = np.stack([self._through(picture) for picture in levels])
        return torch.from_numpy(coded).reshape(levels.shape).permute(0, 3, 1, 2).to(x) / 255

    def _through(self, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A picture (H, W, C), encoded and decoded by Pillow."""
        file = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file, "JPEG", quality=self.quality)
        return np.asarray(Image.open(file))
