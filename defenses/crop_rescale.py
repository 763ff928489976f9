"""Random crops, rescaled, in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import RandomWrapper
from advkit.core.rng import Rng
from advkit.defenses._pixels import check_draws, check_share, taken


@DEFENSES.register("crop-rescale", paper="arXiv:1711.00117")
@dataclass(frozen=True)
class CropRescale(RandomWrapper):
    """Random crops of ``crop`` of the side, enlarged; answers of 30 are averaged (Guo et al. 2018: 90 of 224 pixels).

    Small pictures want a larger ``crop``: a CIFAR-10 network keeps 19 % of 91 % at the published one, 85 % at 0.9.
    Claimed 60 to 70 % on ImageNet (L2 0.05, normalised): 0 % under EOT (Athalye et al. 2018).
    """

    draws: int = 30
    crop: float = 90 / 224  # of the side

    def __post_init__(self) -> None:
        check_draws("crop-rescale", self.draws, self.eot)
        check_share("crop-rescale", "crop", self.crop)

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """One crop of each picture, every place as likely; bilinear."""
        rows, columns = (
            _window(size, max(1, round(self.crop * size)), rng.fold(purpose))
            for size, purpose in zip(x.shape[-2:], ("row", "column"), strict=True)
        )
        cut = taken(x, rows, columns)
        return F.interpolate(cut, x.shape[-2:], mode="bilinear", align_corners=False).clamp(0, 1)


def _window(size: int, side: int, rng: Rng) -> Tensor:
    """(B, side) the pixels of a window in a row of ``size``."""
    start = rng.integers(size - side + 1)
    return start[:, None] + torch.arange(side, device=start.device)
