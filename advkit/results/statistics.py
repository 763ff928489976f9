"""Intervals and tests, by scipy."""

from __future__ import annotations

from typing import NamedTuple

from scipy.stats import binomtest

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


def share(count: int, total: int, confidence: float = 0.95) -> Share:
    """``count`` of ``total`` with its Wilson (1927) score interval."""
    interval = binomtest(count, total).proportion_ci(confidence, method="wilson")
    return Share(count / total, float(interval.low), float(interval.high))
