"""Detection by feature squeezing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.core.detector import Detector
from advkit.errors import InputError

# Xu et al. 2018, their joint detectors; non-local means as window-patch-strength, so 13-3-2 is h = 2/255.
_PUBLISHED = {
    "mnist": "bits:1;median:2",
    "cifar": "bits:5;median:2;nlm:2/255,3,13",
    "imagenet": "bits:5;median:2;nlm:4/255,3,11",
}
_SMALL = 64  # pixels: up to here the settings for CIFAR, beyond those for ImageNet


@DEFENSES.register("feature-squeezing", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class FeatureSqueezing(Detector):
    """Detects pictures whose answer changes when they are squeezed: the largest L1 distance of the softmax (Xu et al. 2018).

    ``squeezers`` are wrappers, joined by semicolons (``bits:5;median:2``), or those published for ``mnist``, ``cifar`` or
    ``imagenet``; ``auto`` takes the first for grey pictures, else by size (the last above 64 pixels). An attack that counts
    the distance in its loss gets past it (He et al. 2017): ``advkit detect`` shows both.
    """

    squeezers: str = "auto"

    def __post_init__(self) -> None:
        if self.squeezers != "auto":
            _made(self.squeezers)

    def score(self, model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """From 0, the same answer, to 2, another one for certain."""
        answer = model(x).softmax(1)
        apart = [(answer - model(_through(squeezer, x)).softmax(1)).abs().sum(1) for squeezer in self.wrappers(x)]
        return torch.stack(apart).amax(0)

    def wrappers(self, x: Tensor) -> tuple[Wrapper, ...]:
        """The squeezers for pictures such as these."""
        if self.squeezers != "auto":
            return _made(self.squeezers)
        if x.shape[1] == 1:
            return _made("mnist")
        return _made("cifar" if max(x.shape[2:]) <= _SMALL else "imagenet")


@lru_cache(maxsize=64)
def _made(text: str) -> tuple[Wrapper, ...]:
    made = []
    for part in _PUBLISHED.get(text, text).split(";"):
        squeezer = DEFENSES.build(part.strip())
        if not isinstance(squeezer, Wrapper):
            raise InputError(
                f"feature-squeezing: {part.strip()} does not stand in front of a model; give wrappers, such as "
                "bits:5;median:2, or one of auto, mnist, cifar, imagenet."
            )
        made.append(squeezer)
    return tuple(made)


def _through(squeezer: Wrapper, x: Tensor) -> Tensor:
    """The squeezed pictures, with the gradient that the squeezer declares."""
    if squeezer.backward == "exact":
        return squeezer(x)
    with torch.no_grad():
        squeezed = squeezer(x)
    if not x.requires_grad:
        return squeezed
    smooth = squeezer.surrogate(x) if squeezer.backward == "surrogate" else x
    return squeezed + (smooth - smooth.detach())
