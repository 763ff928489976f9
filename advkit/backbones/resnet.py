"""Residual networks: the layout for small pictures of section 4.2, and the ImageNet ones."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from advkit.backbones.fit import SMALL, register_family, residual

__all__ = ["SmallResNet"]


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without parameters (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.stride = stride
        self.added = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(residual + self._shortcut(x))
        return out

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.added == 0:
            return x
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))


class SmallResNet(nn.Module):
    """ResNet of depth 6n + 2 with 16, 32 and 64 channels (He et al. 2016, section 4.2)."""

    def __init__(self, depth: int, classes: int, channels: int = 3) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        features = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, stride: int, blocks: int) -> nn.Sequential:
    first = _Block(inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def _small(name: str, classes: int, channels: int, size: int) -> nn.Module:
    return SmallResNet(int(name.removeprefix("resnet")), classes, channels)


_SMALL_MEMBERS = {
    f"resnet{depth}": f"ResNet-{depth} for small pictures (He et al. 2016, section 4.2)."
    for depth in (20, 32, 44, 56, 110)
}
_LARGE_MEMBERS = {
    f"resnet{depth}": f"ResNet-{depth} (He et al. 2016); 3x3 stem without pooling below {SMALL} pixels."
    for depth in (18, 34, 50, 101, 152)
}


def _either(name: str, classes: int, channels: int, size: int) -> nn.Module:
    return (_small if name in _SMALL_MEMBERS else residual)(name, classes, channels, size)


register_family(
    _either,
    _SMALL_MEMBERS | _LARGE_MEMBERS,
    family="resnet",
    small="resnet20",
    large="resnet18",
    paper="arXiv:1512.03385",
)
