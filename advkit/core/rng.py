"""Randomness that belongs to the example, never to the batch.

A draw is a pure function of (seed, example, purpose, step): a counter is hashed, in vectorised 64-bit integer operations,
so the same example gets the same noise alone or among 512, in any order, on any number of workers and any device. Torch's
global generator is neither read nor written.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advkit.core.types import expand

__all__ = ["Rng", "identify"]

# The finaliser of SplitMix64 (Steele, Lea & Flood 2014): golden-ratio increments, then two multiply-xorshift rounds.
# int64 arithmetic wraps modulo 2**64, which is what is wanted; the constants are written as signed numbers.
_GOLDEN = -7046029254386353131
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def _mix(z: Tensor) -> Tensor:
    z = (z ^ (z >> 30 & 0x3FFFFFFFF)) * _MIX_1
    z = (z ^ (z >> 27 & 0x1FFFFFFFFF)) * _MIX_2
    return z ^ (z >> 31 & 0x1FFFFFFFF)


def identify(x: Tensor) -> Tensor:
    """A number (B,) for each picture made from its pixels alone.

    Pixels are rounded to 16 bits first, so float32 and float64 copies of a picture are the same example.
    """
    levels = (x.detach().flatten(1).double() * 65535).round().long()
    places = torch.arange(1, levels.shape[1] + 1, device=x.device) * _GOLDEN
    return _mix(_mix(levels + places).sum(1))


@dataclass(frozen=True)
class Rng:
    """The streams of B examples: ``keys`` (B,) int64. ``fold`` gives independent ones, for a purpose or a step."""

    keys: Tensor

    @classmethod
    def of(cls, seed: int, ids: Tensor) -> Rng:
        """The streams of the examples ``ids`` (B,) under a seed."""
        return cls(_mix(_mix(ids * _GOLDEN) + _mix(torch.full_like(ids, seed) + 1)))

    def fold(self, purpose: str | int | Tensor) -> Rng:
        """Independent streams for a purpose: a word, a number or a number per example."""
        number = zlib.crc32(purpose.encode()) + (1 << 33) if isinstance(purpose, str) else purpose
        return replace(self, keys=_mix(self.keys * _GOLDEN + (number + 1)))

    def take(self, index: Tensor | slice) -> Rng:
        """The streams of some of the examples."""
        return replace(self, keys=self.keys[index])

    def bits(self, *shape: int) -> Tensor:
        """(B, *shape) hashed 64-bit integers."""
        counters = torch.arange(1, math.prod(shape) + 1, device=self.keys.device).reshape(1, *shape) * _GOLDEN
        return _mix(expand(self.keys, counters) + counters)

    def uniform(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape) uniform in the open interval (0, 1): 23 bits and a half, which float32 and float64 hold alike."""
        return ((self.bits(*shape) >> 41 & 0x7FFFFF).to(torch.float64) + 0.5).div(1 << 23).to(dtype)

    def normal(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """(B, *shape) standard normal (Box & Muller 1958)."""
        radius = (-2 * self.fold("radius").uniform(*shape, dtype=torch.float64).log()).sqrt()
        angle = self.fold("angle").uniform(*shape, dtype=torch.float64) * (2 * math.pi)
        return (radius * angle.cos()).to(dtype)

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """(B, *shape) uniform whole numbers from 0 to ``high`` - 1 (a number, or one per example)."""
        u = self.uniform(*shape, dtype=torch.float64)
        limit = high if isinstance(high, int) else expand(high, u)
        return (u * limit).floor().long()
