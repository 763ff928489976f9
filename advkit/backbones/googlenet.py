"""GoogLeNet and Inception v3, without their auxiliary heads."""

from __future__ import annotations

from torch import nn

from advkit.backbones.fit import SMALL, initialise, published, refit_stem
from advkit.catalog import BACKBONES

__all__ = ["googlenet", "inception_v3"]


@BACKBONES.register("googlenet", paper="arXiv:1409.4842")
def googlenet(classes: int, channels: int = 3, size: int = 32) -> nn.Module:
    """GoogLeNet with batch norm (Szegedy et al. 2015); 3x3 stem without its first pooling below 96 pixels."""
    net = published("googlenet", classes, aux_logits=False, transform_input=False, init_weights=False)
    if size < SMALL:
        refit_stem(net, channels, kernel=3, stride=1)
        net.maxpool1 = nn.Identity()
    else:
        refit_stem(net, channels)
    initialise(net)
    return net


@BACKBONES.register("inception_v3", paper="arXiv:1512.00567")
def inception_v3(classes: int, channels: int = 3, size: int = 32) -> nn.Module:
    """Inception v3 (Szegedy et al. 2016); a padded stem that halves once instead of thrice below 96 pixels."""
    net = published("inception_v3", classes, aux_logits=False, transform_input=False, init_weights=False)
    if size < SMALL:
        refit_stem(net, channels, kernel=3, stride=1)
        net.maxpool1 = nn.Identity()
        for name in ("Conv2d_2a_3x3.conv", "Conv2d_4a_3x3.conv"):
            layer = net.get_submodule(name)
            layer.padding = (1, 1)  # type: ignore[assignment]
    else:
        refit_stem(net, channels)
    initialise(net)
    return net
