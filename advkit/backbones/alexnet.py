"""AlexNet."""

from __future__ import annotations

from torch import nn

from advkit.backbones.fit import SMALL, published, refit_stem
from advkit.catalog import BACKBONES

__all__ = ["alexnet"]


@BACKBONES.register("alexnet", paper="arXiv:1404.5997")
def alexnet(classes: int, channels: int = 3, size: int = 32, dropout: float = 0.5) -> nn.Module:
    """AlexNet (Krizhevsky et al. 2012, 2014); below 96 pixels a 3x3 stem and dense layers of 1024."""
    net = published("alexnet", classes)
    if size >= SMALL:
        refit_stem(net, channels)
        return _with_dropout(net, dropout)
    refit_stem(net, channels, kernel=3, stride=1)
    net.avgpool = nn.AdaptiveAvgPool2d(2)
    net.classifier = nn.Sequential(
        nn.Dropout(),
        nn.Linear(256 * 4, 1024),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(1024, 1024),
        nn.ReLU(),
        nn.Linear(1024, classes),
    )
    return _with_dropout(net, dropout)


def _with_dropout(net: nn.Module, share: float) -> nn.Module:
    for layer in net.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = share
    return net
