"""Gaussian blur in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._pixels import averaged, check_inside, check_odd, reflected
from advkit.errors import InputError


@DEFENSES.register("gaussian-blur", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class GaussianBlur(Wrapper):
    """Gaussian blur of standard deviation ``sigma`` in a window of ``size`` pixels (local smoothing, Xu et al. 2018).

    A linear map with an exact gradient: on traffic signs it gained nothing against an attack that goes through it. A CIFAR-10
    network that was not trained behind it keeps 38 % of 91 %; at sigma 0.5 in 3 x 3 pixels, 90 %.
    """

    sigma: float = 1.0  # pixels
    size: int = 5  # pixels, odd

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError(f"gaussian-blur: sigma is {self.sigma}; give a number of pixels above 0.")
        check_odd("gaussian-blur", "size", self.size)

    def __call__(self, x: Tensor) -> Tensor:
        """The blurred picture, borders reflected."""
        check_inside("gaussian-blur", "size", self.size, x)
        half = self.size // 2
        places = torch.arange(-half, half + 1, dtype=torch.float64)
        window = torch.exp(-0.5 * (places / self.sigma).square())
        weights = (window / window.sum()).tolist()
        wide, sizes = reflected(x, half, half), x.shape
        for axis in (-2, -1):
            shifted = [wide.narrow(axis, place, sizes[axis]) for place in range(self.size)]
            wide = sum(
                (weight * seen for weight, seen in zip(weights[1:], shifted[1:], strict=True)), weights[0] * shifted[0]
            )
        return averaged(wide)
