"""What the margin weighs against the distance, searched for each example (Carlini & Wagner 2017, section V.B)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Constant", "begins", "span_of"]

_GROWTH = 10.0  # while no constant has sufficed
_LEAST = 10  # steps of a search, fewer find nothing


def span_of(steps: int, searches: int) -> int:
    """Steps of each search where so many in all are shared: 10 at the least, though that leaves room for fewer."""
    return max(_LEAST, steps // searches)


def begins(taken: Tensor, steps: int, searches: int) -> Tensor:
    """(B,) bool: after so many steps of all, a further search begins."""
    span = span_of(steps, searches)
    return (taken % span == 0) & (taken < min(steps, span * searches))


class Constant(NamedTuple):
    """A constant of each example's own, (B,) each, float64, between one that did not suffice and one that did."""

    value: Tensor
    low: Tensor
    high: Tensor
    hit: Tensor  # bool: this search has reached the goal

    @classmethod
    def first(cls, count: int, value: float, device: torch.device) -> Constant:
        """Before the first search."""
        value_of_each = torch.full((count,), value, dtype=torch.float64, device=device)
        none = torch.zeros(count, dtype=torch.bool, device=device)
        return cls(value_of_each, torch.zeros_like(value_of_each), torch.full_like(value_of_each, torch.inf), none)

    def after(self, ends: Tensor) -> Constant:
        """The constants of the next search where one ``ends`` (B,): the middle, or ten times as much."""
        low, high = torch.where(self.hit, self.low, self.value), torch.where(self.hit, self.value, self.high)
        middle = torch.where(high.isfinite(), (low + high) / 2, _GROWTH * self.value)
        following = Constant(middle, low, high, torch.zeros_like(self.hit))
        return Constant(*(torch.where(ends, new, old) for new, old in zip(following, self, strict=True)))
