"""JPEG compression in front of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.io import decode_image, encode_jpeg

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
        levels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
        coded = [decode_image(encode_jpeg(picture, quality=self.quality)) for picture in levels]
        return torch.stack(coded).to(x) / 255
