"""The network for US signs that RP2 was shown on."""

from __future__ import annotations

from torch import nn

from advkit.catalog import BACKBONES
from advkit.errors import ModelError

__all__ = ["lisa_cnn"]


@BACKBONES.register("lisa-cnn", paper="arXiv:1707.08945")
def lisa_cnn(classes: int, channels: int = 3, size: int = 32, width: int = 64) -> nn.Sequential:
    """LISA-CNN (Eykholt et al. 2018): three wide convolutions, the first two of stride 2, and one dense layer."""
    if width < 1:
        raise ModelError(f"lisa-cnn: width is {width}; give a number of channels of at least 1, the paper's is 64.")
    side = (((size - 2) // 2 + 1) - 6) // 2 + 1 - 4
    if side < 1:
        raise ModelError(f"lisa-cnn: pictures of {size} pixels shrink to nothing; give at least 28.")
    return nn.Sequential(
        nn.Conv2d(channels, width, 8, stride=2, padding=3),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 6, stride=2),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * side * side, classes),
    )
