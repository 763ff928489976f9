"""Wide residual networks."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from advkit.backbones.fit import SMALL, register_family, residual

__all__ = ["WideResNet"]


class _Block(nn.Module):
    """Batch norm, ReLU and a 3x3 convolution, twice, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.relu = nn.ReLU()
        # the name that published checkpoints use
        self.convShortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.relu(self.bn1(x))
        residual: Tensor = self.conv2(self.relu(self.bn2(self.conv1(activated))))
        return residual + (x if self.convShortcut is None else self.convShortcut(activated))


class WideResNet(nn.Module):
    """WRN-depth-factor for small pictures, depth 6n + 4 (Zagoruyko and Komodakis 2016)."""

    def __init__(self, depth: int, factor: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = _stage(16, 16 * factor, 1, blocks)
        self.block2 = _stage(16 * factor, 32 * factor, 2, blocks)
        self.block3 = _stage(32 * factor, 64 * factor, 2, blocks)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64 * factor, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        features = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(self.relu(self.bn1(features)).mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    layers = [_Block(inputs, outputs, stride), *(_Block(outputs, outputs, 1) for _ in range(blocks - 1))]
    return nn.Sequential(OrderedDict(layer=nn.Sequential(*layers)))


def _build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    if name in _SMALL_MEMBERS:
        depth, factor = map(int, name.removeprefix("wide_resnet").split("_"))
        return WideResNet(depth, factor, classes, channels)
    return residual(name, classes, channels, size)


_SMALL_MEMBERS = {
    f"wide_resnet{depth}_{factor}": f"WRN-{depth}-{factor} for small pictures (Zagoruyko and Komodakis 2016)."
    for depth, factor in ((16, 4), (16, 8), (22, 8), (28, 4), (28, 10), (34, 10), (34, 20), (40, 2), (40, 4), (70, 16))
}
_LARGE_MEMBERS = {
    f"wide_resnet{depth}_2": f"WRN-{depth}-2 for large pictures; 3x3 stem without pooling below {SMALL} pixels."
    for depth in (50, 101)
}

register_family(
    _build,
    _SMALL_MEMBERS | _LARGE_MEMBERS,
    family="wide_resnet",
    small="wide_resnet28_10",
    large="wide_resnet50_2",
    paper="arXiv:1605.07146",
)
