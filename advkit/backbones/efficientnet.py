"""EfficientNet and EfficientNetV2."""

from __future__ import annotations

from advkit.backbones.fit import SMALL, mobile, register_family

__all__: list[str] = []


register_family(
    mobile,
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
    mobile,
    {
        f"efficientnet_v2_{size}": f"EfficientNetV2-{size} (Tan and Le 2021); two halvings fewer below {SMALL} pixels."
        for size in "sml"
    },
    paper="arXiv:2104.00298",
)
