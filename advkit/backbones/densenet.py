"""Densely connected networks."""

from __future__ import annotations

from torch import nn

from advkit.backbones.fit import SMALL, published, refit_stem, register_family

__all__: list[str] = []


def _build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    net = published(name, classes)
    if size < SMALL:
        refit_stem(net, channels, kernel=3, stride=1)
        net.get_submodule("features").pool0 = nn.Identity()
    else:
        refit_stem(net, channels)
    return net


_MEMBERS = {
    f"densenet{depth}": f"DenseNet-{depth} (Huang et al. 2017); 3x3 stem without pooling below {SMALL} pixels."
    for depth in (121, 161, 169, 201)
}

register_family(_build, _MEMBERS, family="densenet", small="densenet121", large="densenet121", paper="arXiv:1608.06993")
