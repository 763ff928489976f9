"""ConvNeXt."""

from __future__ import annotations

from torch import nn

from advkit.backbones.fit import SMALL, published, refit_stem, register_family

__all__: list[str] = []


def _build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    net = published(name, classes)
    if size < SMALL:
        refit_stem(net, channels, kernel=2, stride=2)
    else:
        refit_stem(net, channels)
    return net


_MEMBERS = {
    f"convnext_{size}": f"ConvNeXt-{size} (Liu et al. 2022); patches of 2 instead of 4 below {SMALL} pixels."
    for size in ("tiny", "small", "base", "large")
}

register_family(
    _build, _MEMBERS, family="convnext", small="convnext_tiny", large="convnext_tiny", paper="arXiv:2201.03545"
)
