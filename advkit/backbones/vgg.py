"""VGG: stacks of 3x3 convolutions."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from advkit.backbones.fit import SMALL, published, refit_stem, register_family

__all__: list[str] = []

_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


def _build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    if size >= SMALL:
        net = published(name, classes)
        refit_stem(net, channels)
        return net
    depth, batch_norm = int(name[3:5]), name.endswith("_bn")
    layers: list[nn.Module] = []
    inputs = channels
    for width, count in zip(_WIDTHS, _CONVOLUTIONS[depth], strict=True):
        for _ in range(count):
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, *([nn.BatchNorm2d(width)] if batch_norm else []), nn.ReLU()]
            inputs = width
        layers.append(nn.MaxPool2d(2, ceil_mode=True))  # 28 pixels, halved five times, must not vanish
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(*layers),
            avgpool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(inputs, classes),
        )
    )


_MEMBERS = {
    f"vgg{depth}{suffix}": f"VGG-{depth}{words} (Simonyan and Zisserman 2015); one dense layer below {SMALL} pixels."
    for depth in _CONVOLUTIONS
    for suffix, words in (("", ""), ("_bn", " with batch norm"))
}

register_family(_build, _MEMBERS, family="vgg", small="vgg16_bn", large="vgg16_bn", paper="arXiv:1409.1556")
