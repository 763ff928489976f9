"""MobileNet v2 and v3."""

from __future__ import annotations

from advkit.backbones.fit import SMALL, mobile, register_family

__all__: list[str] = []


register_family(
    mobile,
    {"mobilenet_v2": f"MobileNetV2 (Sandler et al. 2018); its first two halvings left out below {SMALL} pixels."},
    family="mobilenet",
    small="mobilenet_v2",
    large="mobilenet_v2",
    paper="arXiv:1801.04381",
)
register_family(
    mobile,
    {
        f"mobilenet_v3_{size}": f"MobileNetV3-{size} (Howard et al. 2019); two halvings fewer below {SMALL} pixels."
        for size in ("small", "large")
    },
    paper="arXiv:1905.02244",
)
