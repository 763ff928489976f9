"""Square Attack: random search by scores, one window of the picture at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import Ball, Linf
from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["Square"]

# Of 10,000 queries, after how many the window has half the pixels (Andriushchenko et al. 2020, section 3.1 and their code).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_OF = 10_000


class _Searching(NamedTuple):
    query: Tensor
    best: Tensor
    best_loss: Tensor
    asked: Tensor  # (B,) queries
    low: Tensor  # the lower and the upper end of the ball and the box
    high: Tensor


class _Window(NamedTuple):
    """Rectangles of the planes (B, C, H, W), one per example: (B,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def holds(self, like: Tensor) -> Tensor:
        """(B, 1, H, W) bool: the pixels inside."""
        down, along = (torch.arange(size, device=like.device) for size in like.shape[2:])
        rows = (down >= self.top[:, None]) & (down < (self.top + self.height)[:, None])
        columns = (along >= self.left[:, None]) & (along < (self.left + self.width)[:, None])
        return (rows[:, :, None] & columns[:, None, :])[:, None]


@ATTACKS.register("square", paper="arXiv:1912.00049")
@dataclass(frozen=True)
class Square(Attack):
    """Square Attack (Andriushchenko et al. 2020): random search by scores, one square of the picture at a time.

    A query changes one window of the best point so far; what raises the loss is kept. The windows shrink from ``p_init`` of
    the pixels by the paper's schedule, scaled to ``queries``. A picture that is no square has windows no higher and no wider
    than itself; an input without height (B, F) is one row, and its windows are stretches of it.
    """

    threat: Ball = Linf(8 / 255)
    queries: int = 5000
    p_init: float = 0.8
    loss: Loss = Margin()
    restarts: int = 1
    steps: int = field(default=1, init=False, repr=False)  # one for each query

    tells: ClassVar[Tells] = "scores"
    nested: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf,)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, queries=1, restarts=1)
        if not 0 < self.p_init <= 1:
            raise InputError(
                f"Square: p_init is {self.p_init}; give the share of the pixels in the first window, in (0, 1]."
            )
        object.__setattr__(self, "steps", self.queries)

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """Vertical stripes, each column and channel at one end of the ball."""
        low, high = self._ends(x)
        up = rng.uniform(_planes(x).shape[1], 1, _planes(x).shape[3]) < 0.5
        return torch.where(up, _planes(high), _planes(low)).reshape(x.shape)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Searching:
        """Nothing is known of the first point yet."""
        none = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        return _Searching(first, first, none, torch.zeros_like(none, dtype=torch.long), *self._ends(x))

    def step(self, state: _Searching, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Searching:  # type: ignore[override]
        """Keep what is better, and change a window of it."""
        better = at.loss > state.best_loss
        best = torch.where(expand(better, x), state.query, state.best)
        asked = state.asked + 1
        window = self._window(_planes(x), asked, rng.fold("place"))
        query = self._painted(_planes(best), _planes(state.low), _planes(state.high), window, rng.fold("colour"))
        best_loss = torch.where(better, at.loss, state.best_loss)
        return state._replace(query=query.reshape(x.shape), best=best, best_loss=best_loss, asked=asked)

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eps = self.threat.reach(x)
        return self.threat.project(x - eps, x), self.threat.project(x + eps, x)

    def _window(self, planes: Tensor, asked: Tensor, rng: Rng) -> _Window:
        """Of the size for the number of queries, anywhere in the picture."""
        height, width = planes.shape[2:]
        done = torch.tensor(_HALVINGS, device=asked.device) * self.queries < (asked * _OF)[:, None]
        sizes = [_size(self.p_init / 2**times, height, width) for times in range(len(_HALVINGS) + 1)]
        rows, columns = torch.tensor(sizes, device=asked.device)[done.sum(1)].unbind(1)
        drawn = rng.uniform(2, dtype=torch.float64)
        top, left = (drawn[:, 0] * (height - rows + 1)).long(), (drawn[:, 1] * (width - columns + 1)).long()
        return _Window(top, left, rows, columns)

    def _painted(self, best: Tensor, low: Tensor, high: Tensor, window: _Window, rng: Rng) -> Tensor:
        """The window at one end of the ball in each channel."""
        inside, channels = window.holds(best), best.shape[1]
        up = rng.uniform(channels, 1, 1) < 0.5
        painted = torch.where(inside, torch.where(up, high, low), best)
        # A small window often has the colour that is drawn: a query for nothing, so that another is drawn.
        same = (painted == best).flatten(1).all(1)
        turned = rng.fold("turn").uniform(channels, 1, 1)
        turned = (turned < 0.5) | (turned == turned.amin(1, keepdim=True))
        again = torch.where(inside, torch.where(up ^ turned, high, low), best)
        return torch.where(expand(same, best), again, painted)


def _planes(values: Tensor) -> Tensor:
    """Inputs of any shape as (B, C, H, W): (B, F) is one row, further axes are channels."""
    if values.ndim == 2:
        return values[:, None, None]
    if values.ndim == 3:
        return values[:, :, None]
    return values.flatten(1, -3)


def _size(share: float, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a window of this share of the pixels: a square, as far as it fits."""
    area = share * height * width
    side = max(1, round(area**0.5))
    rows, columns = min(side, height), min(side, width)
    if rows < side:
        columns = max(1, min(width, round(area / rows)))
    elif columns < side:
        rows = max(1, min(height, round(area / columns)))
    return rows, columns
