"""Published layouts, fitted to the number of classes, channels and pixels of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import nn

from advkit.catalog import BACKBONES
from advkit.errors import ModelError

__all__ = [
    "SMALL",
    "Activation",
    "Build",
    "activation_layer",
    "initialise",
    "member_of",
    "mobile",
    "out_of_place",
    "published",
    "refit_stem",
    "register_family",
    "residual",
    "unstride",
    "whole_numbers",
]

SMALL = 96  # pixels: below, a stem that divides the picture by 4 leaves the deep layers nothing to see

Activation = Literal["relu", "gelu", "silu", "tanh", "elu", "leaky_relu", "softplus", "sigmoid"]
Build = Callable[[str, int, int, int], nn.Module]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
}


def activation_layer(name: Activation) -> nn.Module:
    """The layer of that name, out of place."""
    return _ACTIVATIONS[name]()


def whole_numbers(what: str, value: str | Sequence[int]) -> tuple[int, ...]:
    """Read "64,128" or a sequence as positive whole numbers; "" and "none" are no numbers at all."""
    parts = [] if value in ("", "none") else value.split(",") if isinstance(value, str) else list(value)
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise ModelError(f"{what} is {value!r}; give whole numbers of at least 1, such as 64,128.")
    return numbers


def published(name: str, classes: int, **options: bool) -> nn.Module:
    """torchvision's untrained network of that name, with every activation made out of place."""
    # Importing computes a little, which torch 2.6 cannot on the meta device that callers may have set.
    with torch.device("cpu"):
        from torchvision.models import get_model

    return out_of_place(get_model(name, weights=None, num_classes=classes, **options))


def out_of_place(net: nn.Module) -> nn.Module:
    """Let no activation overwrite its input: whoever watches a layer shall see what it gave."""
    for layer in net.modules():
        if getattr(layer, "inplace", False):
            vars(layer)["inplace"] = False
    return net


def refit_stem(net: nn.Module, channels: int, kernel: int | None = None, stride: int | None = None) -> None:
    """Replace the first convolution by one that takes ``channels`` and has the given kernel and stride."""
    name, old = next((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    if kernel is None and stride is None and channels == old.in_channels:
        return
    size = kernel or old.kernel_size[0]
    padding = old.padding if kernel is None else (kernel - 1) // 2
    stem = nn.Conv2d(channels, old.out_channels, size, stride or old.stride, padding, bias=old.bias is not None)  # type: ignore[arg-type]
    nn.init.kaiming_normal_(stem.weight, nonlinearity="relu")
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, stem)


def initialise(net: nn.Module) -> None:
    """Draw every convolution for an even variance through the layers (He et al. 2015, fan in).

    Depthwise networks drawn by fan out answer with 1e-11 until batch norm has seen data: no gradient would arrive.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def unstride(net: nn.Module, count: int) -> None:
    """Let the first ``count`` convolutions of stride 2 keep the resolution."""
    halving = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)]
    for layer in halving[:count]:
        layer.stride = (1, 1)


def residual(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """A published residual network; for small pictures with a 3x3 stem of stride 1 and no pooling behind it."""
    net = published(name, classes)
    if size < SMALL:
        refit_stem(net, channels, kernel=3, stride=1)
        net.maxpool = nn.Identity()
    else:
        refit_stem(net, channels)
    return net


def mobile(name: str, classes: int, channels: int, size: int) -> nn.Module:
    """A published network of inverted residuals; for small pictures without its first two halvings."""
    net = published(name, classes)
    refit_stem(net, channels)
    if size < SMALL:
        unstride(net, 2)
    initialise(net)
    return net


def register_family(
    build: Build, members: Mapping[str, str], *, paper: str, family: str = "", small: str = "", large: str = ""
) -> None:
    """Register every member (name -> summary) made by ``build(name, classes, channels, size)``.

    The family's own name stands for ``small`` below 96 pixels and for ``large`` from there.
    """
    for name, summary in members.items():
        BACKBONES.register(name, paper=paper)(_member(build, name, name, summary))
    if family:
        summary = f"The family's usual member: {small} below {SMALL} pixels, {large} from there."
        summary = f"Same as {small}." if small == large else summary
        BACKBONES.register(family, paper=paper, small=small, large=large)(_member(build, small, large, summary))


def member_of(name: str, size: int) -> str:
    """The member that a family's name stands for at this size; any other name stands for itself."""
    return BACKBONES[name].facts.get("small" if size < SMALL else "large", name)


def _member(build: Build, small: str, large: str, summary: str) -> Callable[..., nn.Module]:
    def factory(classes: int, channels: int = 3, size: int = 32) -> nn.Module:
        return build(small if size < SMALL else large, classes, channels, size)

    factory.__doc__ = summary
    factory.__module__ = build.__module__
    return factory
