"""A convolutional network whose every part can be set, for studies of one part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from advkit.backbones.fit import Activation, activation_layer, whole_numbers
from advkit.catalog import BACKBONES
from advkit.errors import ModelError

__all__ = ["MinPool2d", "cnn"]

Pooling = Literal["max", "average", "min", "none"]


class MinPool2d(nn.Module):
    """Smallest value of each window."""

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        return -F.max_pool2d(-x, self.kernel_size)


_POOLS: dict[str, type[nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d, "min": MinPool2d}


@BACKBONES.register("cnn", paper="LeCun et al. 1998")
def cnn(
    classes: int,
    channels: int = 3,
    size: int = 32,
    widths: str | Sequence[int] = "32,64,128",
    kernel: int = 3,
    stride: int = 1,
    padding: Literal["same", "valid"] = "same",
    pooling: Pooling = "max",
    pool_every: int = 1,
    activation: Activation = "relu",
    batch_norm: bool = False,
    dense: str | Sequence[int] = "128",
) -> nn.Sequential:
    """Blocks of convolution, batch norm, activation and pooling, then dense layers; every part can be set."""
    for name, value in (("kernel", kernel), ("stride", stride), ("pool_every", pool_every)):
        if value < 1:
            raise ModelError(f"cnn: {name} is {value}; give a whole number of at least 1.")
    layers: list[nn.Module] = []
    inputs, side = channels, size
    for block, width in enumerate(whole_numbers("cnn: widths", widths), 1):
        before = kernel - 1 if padding == "same" else 0
        # an even kernel needs one pixel more on one side, which Conv2d's own padding cannot do
        even = before % 2 == 1
        pad = [nn.ZeroPad2d((before // 2, before - before // 2) * 2)] if even else []
        layers += [*pad, nn.Conv2d(inputs, width, kernel, stride, 0 if even else before // 2, bias=not batch_norm)]
        layers += [*([nn.BatchNorm2d(width)] if batch_norm else []), activation_layer(activation)]
        side = (side + before - kernel) // stride + 1
        if pooling != "none" and block % pool_every == 0:
            layers.append(_POOLS[pooling](2))
            side //= 2
        if side < 1:
            raise ModelError(
                f"cnn: pictures of {size} pixels have shrunk to nothing after block {block}; "
                "give fewer widths, a smaller kernel or stride, padding=same, or a larger pool_every."
            )
        inputs = width
    inputs *= side * side
    layers.append(nn.Flatten())
    for width in whole_numbers("cnn: dense", dense):
        layers += [nn.Linear(inputs, width), activation_layer(activation)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))
