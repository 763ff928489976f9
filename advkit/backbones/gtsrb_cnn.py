"""The multi-scale network for German signs that RP2 was shown on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.catalog import BACKBONES
from advkit.errors import ModelError

__all__ = ["GtsrbCnn"]

_WIDTHS = (32, 64, 128)
_HIDDEN = 1024


class GtsrbCnn(nn.Module):
    """A 1x1 convolution of the colours, three blocks of two 5x5 convolutions, and dense layers that see all three blocks."""

    def __init__(self, classes: int, channels: int, size: int, dropout: float) -> None:
        super().__init__()
        mixing = nn.Conv2d(channels, 3, 1)
        # Pictures are positive: behind weights drawn negative the ReLU would let no colour through, and learn nothing.
        nn.init.uniform_(mixing.weight, 0, channels**-0.5)
        mixing.bias = nn.Parameter(torch.zeros(3))
        self.colours = nn.Sequential(mixing, nn.ReLU())
        inputs = (3, *_WIDTHS)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(after, after, 5, padding=2),
                nn.MaxPool2d(2),
                nn.ReLU(),
                nn.Dropout(dropout),
            )
            for before, after in zip(inputs, _WIDTHS, strict=False)
        )
        seen = sum(width * (size >> block) ** 2 for block, width in enumerate(_WIDTHS, 1))
        self.dense = nn.Sequential(
            nn.Linear(seen, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(_HIDDEN, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        x = self.colours(x)
        scales = []
        for block in self.blocks:
            x = block(x)
            scales.append(x.flatten(1))
        logits: Tensor = self.dense(torch.cat(scales, 1))
        return logits


@BACKBONES.register("gtsrb-cnn", paper="arXiv:1707.08945")
def gtsrb_cnn(classes: int, channels: int = 3, size: int = 32, dropout: float = 0.5) -> GtsrbCnn:
    """GTSRB-CNN (Yadav; Eykholt et al. 2018): three scales of 5x5 convolutions seen together by the dense layers."""
    if size < 8:
        raise ModelError(f"gtsrb-cnn: pictures of {size} pixels shrink to nothing; give at least 8.")
    if not 0 <= dropout < 1:
        raise ModelError(
            f"gtsrb-cnn: dropout is {dropout}; give the share of features to leave out, 0 or more, below 1."
        )
    return GtsrbCnn(classes, channels, size, dropout)
