"""Dense networks on the flattened picture."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from advkit.backbones.fit import Activation, activation_layer, whole_numbers
from advkit.catalog import BACKBONES

__all__ = ["mlp"]


@BACKBONES.register("mlp", paper="Rumelhart, Hinton and Williams 1986")
def mlp(
    classes: int,
    channels: int = 3,
    size: int = 32,
    widths: str | Sequence[int] = "512,512",
    activation: Activation = "relu",
    batch_norm: bool = False,
) -> nn.Sequential:
    """Dense network (DNN) on the flattened picture, with the given widths of its hidden layers."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = channels * size * size
    for width in whole_numbers("mlp: widths", widths):
        layers += [nn.Linear(inputs, width), *([nn.BatchNorm1d(width)] if batch_norm else [])]
        layers += [activation_layer(activation)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
