"""LeNet-5."""

from __future__ import annotations

from typing import Literal

from torch import nn

from advkit.backbones.fit import Activation, activation_layer
from advkit.catalog import BACKBONES

__all__ = ["lenet"]


@BACKBONES.register("lenet", paper="LeCun et al. 1998")
def lenet(
    classes: int,
    channels: int = 3,
    size: int = 32,
    activation: Activation = "relu",
    pooling: Literal["max", "average"] = "max",
) -> nn.Sequential:
    """LeNet-5 (LeCun et al. 1998), today's way; activation=tanh with pooling=average is nearer to the original.

    Pictures below 32 pixels are padded by 2, as the digits of the paper are.
    """
    pool = nn.MaxPool2d if pooling == "max" else nn.AvgPool2d
    padding = 2 if size < 32 else 0
    side = ((size + 2 * padding - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=padding),
        activation_layer(activation),
        pool(2),
        nn.Conv2d(6, 16, 5),
        activation_layer(activation),
        pool(2),
        nn.Flatten(),
        nn.Linear(16 * side * side, 120),
        activation_layer(activation),
        nn.Linear(120, 84),
        activation_layer(activation),
        nn.Linear(84, classes),
    )
