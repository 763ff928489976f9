"""Random numbers that belong to an example: a counter-based stream for every (seed, split, index, purpose)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Philox
from numpy.typing import NDArray

from advkit.data._shapes import Array

__all__ = ["Draws", "lattice_noise"]


class Draws:
    """One stream. Only Philox's raw words are used: numpy promises those, not the distributions made of them."""

    def __init__(self, seed: int, split: int, index: int, purpose: int) -> None:
        self._words = Philox(key=seed, counter=np.array([0, purpose, index, split], dtype=np.uint64))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number between ``low`` and ``high``."""
        return low + (high - low) * float(int(self._words.random_raw()) >> 11) * 2.0**-53

    def middle(self, low: float, high: float) -> float:
        """One number between ``low`` and ``high``, more often near the middle (the mean of two)."""
        return (self.uniform(low, high) + self.uniform(low, high)) / 2

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def below(self, count: int) -> int:
        """A whole number from 0 to ``count`` - 1."""
        return int(self.uniform() * count)

    def colour(self, low: tuple[float, float, float], high: tuple[float, float, float]) -> Array:
        """A colour of the straight line between two, give or take a little in each channel; linear light."""
        along = self.uniform()
        mixed = [a + along * (b - a) + self.uniform(-0.04, 0.04) for a, b in zip(low, high, strict=True)]
        return np.asarray(np.clip(np.array(mixed), 0.0, 1.0) ** 2)

    def grid(self, *shape: int) -> Array:
        """Independent uniform numbers in [0, 1)."""
        words = np.asarray(self._words.random_raw(int(np.prod(shape))))
        return np.asarray((words >> np.uint64(11)) * 2.0**-53, dtype=np.float64).reshape(shape)

    def bell(self, *shape: int) -> Array:
        """Independent numbers of mean 0 and variance 1, nearly normal: four 16-bit uniforms summed."""
        words = np.asarray(self._words.random_raw(int(np.prod(shape)))).view(np.uint16).reshape(-1, 4)
        total = words.sum(axis=1, dtype=np.int64) * (3**0.5 / 65536) - 2 * 3**0.5
        return np.asarray(total, dtype=np.float64).reshape(shape)


def lattice_noise(lattice: Array, size: int) -> Array:
    """A coarse (n, n) lattice of numbers, blended smoothly to (size, size)."""
    low, weight = _corners_and_weights(len(lattice), size)
    rows = lattice[low] + weight[:, None] * (lattice[low + 1] - lattice[low])
    return np.asarray(rows[:, low] + weight * (rows[:, low + 1] - rows[:, low]))


@lru_cache(maxsize=64)
def _corners_and_weights(count: int, size: int) -> tuple[NDArray[np.int64], Array]:
    place = (np.arange(size) + 0.5) / size * (count - 1)
    low = np.minimum(place.astype(np.int64), count - 2)
    t = place - low
    return low, t * t * (3 - 2 * t)
