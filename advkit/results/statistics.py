"""Intervals and tests. Written out over scipy.special, for scipy.stats takes a second to import; tests hold them to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, ndtri

__all__ = [
    "Difference",
    "Share",
    "holm",
    "mcnemar",
    "paired",
    "share",
    "short",
    "stars",
]


class Share(NamedTuple):
    """A fraction with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def percent(self) -> str:
        """As in a table: ``53.4 [49.0, 57.7]``."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


@lru_cache(maxsize=1 << 16)
def share(count: float, total: int, confidence: float = 0.95) -> Share:
    """``count`` of ``total`` with its Wilson (1927) score interval; a mean count of several trials may be no whole number.

    Kept, for a table of 10,000 rows asks for the same again and again.
    """
    value = count / total
    z = float(ndtri((1 + confidence) / 2))
    centre = (value + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(value * (1 - value) / total + z * z / (4 * total * total))
    return Share(value, 0.0 if count == 0 else centre - half, 1.0 if count == total else centre + half)


class Difference(NamedTuple):
    """How much more often one is right than the other on the same ``n`` examples, with its 95 % interval and p-value."""

    value: float
    low: float
    high: float
    p: float
    n: int
    gained: int  # examples that only the one has right
    lost: int  # examples that only the other has right

    @property
    def percent(self) -> str:
        """In points of accuracy: ``+3.2 [+1.0, +5.4]``."""
        return f"{100 * self.value:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@lru_cache(maxsize=1 << 16)
def paired(n: int, gained: int, lost: int) -> Difference:
    """The difference of two shares on the same examples: McNemar's exact test and a paired bootstrap (Efron 1979).

    The interval is that of the percentiles which endless resampling would come to: an example drawn again adds 1, 0 or -1,
    so the distribution of the sum is their distribution n times convolved with itself. No seed, no noise.
    """
    size = 1 << (2 * n).bit_length()
    one = np.zeros(size)
    one[1], one[0], one[-1] = gained / n, (n - gained - lost) / n, lost / n
    odds = np.fft.irfft(np.fft.rfft(one) ** n, size)
    sums = np.cumsum(np.roll(odds, size // 2))  # from -size/2
    low, high = (int(np.searchsorted(sums, level)) - size // 2 for level in (0.025, 0.975))
    return Difference((gained - lost) / n, low / n, high / n, mcnemar(gained, lost), n, gained, lost)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided test (McNemar 1947): were either equally likely, how rare is a split as uneven as this?"""
    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def holm(p: Sequence[float]) -> npt.NDArray[np.float64]:
    """p-values for many tests at once (Holm 1979): below 0.05 all that are, with 95 %, none of them by chance."""
    found = np.asarray(p, np.float64)
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def stars(p: float) -> str:
    """The habit of tables: ``*`` below 0.05, ``**`` below 0.01, ``***`` below 0.001."""
    return "*" * sum(p < bound for bound in (0.05, 0.01, 0.001))


def short(count: float) -> str:
    """A few digits: 999, 8.1k, 12k, 4.5M."""
    for size, letter in ((10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.{0 if count >= 9.95 * size else 1}f}{letter}"
    return f"{count:.0f}"
