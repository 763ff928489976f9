"""Intervals and tests, by scipy."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

from scipy.special import ndtri

__all__ = ["Share", "share"]


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
def share(count: int, total: int, confidence: float = 0.95) -> Share:
    """``count`` of ``total`` with its Wilson (1927) score interval.

    Written out, for scipy.stats takes a second to import and a table of 10,000 rows asks this often.
    """
    value = count / total
    z = float(ndtri((1 + confidence) / 2))
    centre = (value + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(value * (1 - value) / total + z * z / (4 * total * total))
    return Share(value, 0.0 if count == 0 else centre - half, 1.0 if count == total else centre + half)
