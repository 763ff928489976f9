"""Fewer grey levels in front of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, Wrapper
from advkit.errors import InputError


@DEFENSES.register("bits", paper="arXiv:1704.01155")
@dataclass(frozen=True)
class Bits(Wrapper):
    """Bit-depth reduction to ``depth`` bits per channel: feature squeezing (Xu et al. 2018)."""

    depth: int = 4

    backward: ClassVar[Backward] = "straight-through"

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 8:
            raise InputError(f"bits: depth is {self.depth}; give a number of bits from 1 to 8.")

    def __call__(self, x: Tensor) -> Tensor:
        """The nearest of 2^depth levels."""
        levels = 2**self.depth - 1
        coarse: Tensor = (x * levels).round() / levels
        return coarse
