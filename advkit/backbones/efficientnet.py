"""EfficientNet and EfficientNetV2."""

from __future__ import annotations

from torch import nn

from advkit.backbones.fit import SMALL, initialise, published, refit_stem, register_family, unstride

__all__: list[str] = []


def _build(name: str, classes: int, channels: int, size: int) -> nn.Module:
    net = published(name, classes)
    refit_stem(net, channels)
    if size < SMALL:
        unstride(net, 2)
    initialise(net)
    return net


register_family(
    _build,
    {
        f"efficientnet_b{scale}": f"EfficientNet-B{scale} (Tan and Le 2019); two halvings fewer below {SMALL} pixels."
        for scale in range(8)
    },
    family="efficientnet",
    small="efficientnet_b0",
    large="efficientnet_b0",
    paper="arXiv:1905.11946",
)
register_family(
    _build,
    {
        f"efficientnet_v2_{size}": f"EfficientNetV2-{size} (Tan and Le 2021); two halvings fewer below {SMALL} pixels."
        for size in "sml"
    },
    paper="arXiv:2104.00298",
)
