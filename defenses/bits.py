"""Fewer grey levels in front of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, Wrapper
from advkit.errors import InputError


@DEFENSES.register("bits", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class Bits(Wrapper):
    """Bit-depth reduction to ``depth`` bits per channel: feature squeezing (Xu et al. 2018).

    ``rounding=nearest`` is Xu's, levels spread over [0, 1]; ``floor`` drops the low bits of the byte, as the code of
    Athalye et al. 2018 does for Guo et al. 2018 (there at depth 3), and darkens: white becomes 224/255. Guo's
    transformations stood at 0 % on ImageNet under Athalye's attacks (L2 0.05, normalised).
    """

    depth: int = 4
    rounding: Literal["nearest", "floor"] = "nearest"

    backward: ClassVar[Backward] = "straight-through"

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 8:
            raise InputError(f"bits: depth is {self.depth}; give a number of bits from 1 to 8.")

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest of 2^depth levels, or the byte without its last 8 - depth bits."""
        if self.rounding == "floor":
            width = 2 ** (8 - self.depth)
            cut: Tensor = ((x * 255).round() / width).floor() * width / 255
            return cut
        levels = 2**self.depth - 1
        coarse: Tensor = (x * levels).round() / levels
        return coarse
