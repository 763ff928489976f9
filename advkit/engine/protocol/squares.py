"""A search that asks for scores only: what it beats and a gradient does not, the gradient hid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Ascent, Attack, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand

__all__ = ["RandomSquares"]

_SHARE = 0.3  # of the picture that the first square covers; it falls to a pixel along the search


class _Climb(NamedTuple):
    query: Tensor
    best: Tensor
    best_loss: Tensor  # (B,)
    taken: Tensor  # (B,)


@dataclass(frozen=True)
class RandomSquares(Attack):
    """Random search over squares of one colour, kept where they raise the loss (after Andriushchenko et al. 2020).

    A probe of the checks, small on purpose: not a benchmark's Square attack.
    """

    threat: Ball = Linf(8 / 255)
    steps: int = 150
    loss: Loss = Margin()

    tells: ClassVar[Tells] = "scores"
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1)

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """Vertical stripes of random colours, each at the end of the ball."""
        stripes = rng.fold("stripes").uniform(x.shape[1], 1, x.shape[3], dtype=x.dtype) - 0.5
        return self.threat.project(x + self.threat.reach(x) * self.threat.steepest(stripes.expand_as(x), x), x)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Climb:
        """The stripes are asked about first; anything is better than nothing."""
        none = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        return _Climb(first, x, none, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def step(self, state: _Climb, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Climb:  # type: ignore[override]
        """Keep the better of the two, and paint another square on it."""
        better = at.loss > state.best_loss
        best = torch.where(expand(better, x), state.query, state.best)
        loss = torch.where(better, at.loss, state.best_loss)
        square = self._square(x, state.taken, rng)
        # Twice the radius: from one end of the ball to the other.
        query = self.threat.project(best + 2 * self.threat.reach(x) * self.threat.steepest(square, best), x)
        return _Climb(query, best, loss, state.taken + 1)

    def _square(self, x: Tensor, taken: Tensor, rng: Rng) -> Tensor:
        """(B, C, H, W): a random sign for each channel inside a square, 0 outside."""
        height, width = x.shape[2:]
        share = _SHARE * (1 - taken.double() / self.steps).clamp_min(0) ** 2
        side = (share * height * width).sqrt().round().clamp(1, min(height, width))
        place = rng.fold("place").uniform(2, dtype=torch.float64)
        top, left = ((place[:, axis] * (size - side + 1)).floor() for axis, size in enumerate((height, width)))
        rows = torch.arange(height, device=x.device)
        columns = torch.arange(width, device=x.device)
        inside = (rows >= top[:, None]) & (rows < (top + side)[:, None])
        across = (columns >= left[:, None]) & (columns < (left + side)[:, None])
        signs = (rng.fold("sign").uniform(x.shape[1], dtype=x.dtype) - 0.5).sign()
        return signs[:, :, None, None] * (inside[:, None, :, None] & across[:, None, None, :])
