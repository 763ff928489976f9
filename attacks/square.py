"""Square Attack: random search by scores, one window of the picture at a time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
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
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["Square"]

# Of 10,000 queries, after how many the window has half the pixels (Andriushchenko et al. 2020, section 3.1 and their code).
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_OF = 10_000
_GROWTH = 1.5  # of the queries, between two looks at how a search goes
_BACK = 3  # looks: the pace is that since then
_PACE = 1.5  # times that is what is hoped for
_TILES = 5  # of the first point of the windows with a relief, in each direction


class _Searching(NamedTuple):
    query: Tensor
    best: Tensor
    best_loss: Tensor
    asked: Tensor  # (B,) queries, of which the first had no window
    looked: Tensor  # (B, looks back) the best loss when it was looked at how the search goes
    hopeless: Tensor  # (B,) bool: then it was too slow
    ends: tuple[Tensor, ...]  # what the painter keeps of the ball


class _Window(NamedTuple):
    """A rectangle of the planes (B, C, H, W) for each example, (B,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    @classmethod
    def drawn(cls, height: Tensor, width: Tensor, planes: Tensor, rng: Rng) -> _Window:
        """Anywhere in the picture."""
        rows, columns = planes.shape[2:]
        share = rng.uniform(2, dtype=torch.float64)
        return cls(
            (share[:, 0] * (rows - height + 1)).long(), (share[:, 1] * (columns - width + 1)).long(), height, width
        )

    def within(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Each row (B, H) and column (B, W) counted from the window's corner."""
        down, along = (torch.arange(size, device=planes.device) for size in planes.shape[2:])
        return down - self.top[:, None], along - self.left[:, None]

    def holds(self, planes: Tensor) -> Tensor:
        """(B, 1, H, W) bool: the pixels inside."""
        down, along = self.within(planes)
        rows = (down >= 0) & (down < self.height[:, None])
        columns = (along >= 0) & (along < self.width[:, None])
        return (rows[:, :, None] & columns[:, None, :])[:, None]


class _Painter(ABC):
    """What stands in a window in one norm. Pictures are planes (B, C, H, W)."""

    least: int = 1
    """The side of the smallest window."""
    odd: ClassVar[bool] = False
    """The sides of windows are odd numbers."""

    def ends(self, x: Tensor, threat: Ball) -> tuple[Tensor, ...]:
        """What is needed of the ball in every step, shaped like ``x``."""
        return ()

    @abstractmethod
    def first(self, x: Tensor, threat: Ball, rng: Rng) -> Tensor:
        """The first point."""

    @abstractmethod
    def paint(
        self, best: Tensor, x: Tensor, ends: tuple[Tensor, ...], threat: Ball, size: tuple[Tensor, Tensor], rng: Rng
    ) -> Tensor:
        """The best point with a window of this height and width changed, (B,) each; in ball and box."""


@dataclass(frozen=True)
class _Stripes(_Painter):
    """Linf: every value stands at one end of the ball, one end for each channel of a window."""

    def ends(self, x: Tensor, threat: Ball) -> tuple[Tensor, ...]:
        """The lower and the upper one."""
        eps = threat.reach(x)
        return threat.project(x - eps, x), threat.project(x + eps, x)

    def first(self, x: Tensor, threat: Ball, rng: Rng) -> Tensor:
        """Vertical stripes, a pixel wide."""
        low, high = self.ends(x, threat)
        return torch.where(rng.uniform(x.shape[1], 1, x.shape[3]) < 0.5, high, low)

    def paint(
        self, best: Tensor, x: Tensor, ends: tuple[Tensor, ...], threat: Ball, size: tuple[Tensor, Tensor], rng: Rng
    ) -> Tensor:
        """One window."""
        low, high = ends
        inside = _Window.drawn(*size, best, rng.fold("place")).holds(best)
        up = rng.fold("colour").uniform(best.shape[1], 1, 1) < 0.5
        painted = torch.where(inside, torch.where(up, high, low), best)
        # A small window often has the colour that is drawn, which would be a query for nothing: so another is drawn.
        same = (painted == best).flatten(1).all(1).nonzero().squeeze(1)
        if len(same):
            turned = rng.fold("turn").uniform(best.shape[1], 1, 1)[same]
            up = up[same] ^ ((turned < 0.5) | (turned == turned.amin(1, keepdim=True)))
            other = torch.where(inside[same], torch.where(up, high[same], low[same]), best[same])
            painted = painted.index_put((same,), other)
        return painted


@dataclass(frozen=True)
class _Reliefs(_Painter):
    """L2 and L1, in which the powers of the changes sum up: a window takes what another one had, and what nobody has yet."""

    power: int
    gathers: bool = False
    """Each channel of the window takes what all channels had, and the whole is scaled down: in L1 changes must be few."""
    least: int = 3

    odd: ClassVar[bool] = True

    def first(self, x: Tensor, threat: Ball, rng: Rng) -> Tensor:
        """Five times five tiles, a relief on each, of a random sign in each channel."""
        (down, rows), (along, columns) = (_tiled(size, x.device) for size in x.shape[2:])
        upright = rng.fold("upright").uniform() < 0.5
        tiles = rng.fold("sign").uniform(x.shape[1], _TILES * _TILES, dtype=x.dtype)
        index = (_tile(x.shape[2], x.device)[:, None] * _TILES + _tile(x.shape[3], x.device)).flatten()
        sign = (tiles[:, :, index] - 0.5).sign().reshape(x.shape)
        relief = sign * _relief(down[None], rows[None], along[None], columns[None], upright)[:, None].to(x.dtype)
        size = (relief.abs() ** self.power).sum((1, 2, 3), keepdim=True) ** (1 / self.power)
        return threat.project(x + threat.reach(x) * relief / size, x)

    def paint(
        self, best: Tensor, x: Tensor, ends: tuple[Tensor, ...], threat: Ball, size: tuple[Tensor, Tensor], rng: Rng
    ) -> Tensor:
        """What one window had goes to another, which keeps some of its form and gets a relief (algorithm 3)."""
        change, radius = best - x, threat.reach(x) * (1 - 8 * torch.finfo(x.dtype).eps)
        taker, giver = (_Window.drawn(*size, best, rng.fold(name)) for name in ("taker", "giver"))
        takes, gives = taker.holds(best), giver.holds(best)
        upright = rng.fold("upright").uniform() < 0.5
        down, along = taker.within(best)
        relief = _relief(down, taker.height[:, None], along, taker.width[:, None], upright)[:, None].to(x.dtype)
        sign = (rng.fold("sign").uniform(best.shape[1], 1, 1, dtype=x.dtype) - 0.5).sign()
        powers = change.abs() ** self.power
        unused = (radius**self.power - powers.sum((1, 2, 3), keepdim=True)).clamp_min(0)
        had = powers.where(takes | gives, 0.0).sum((1, 2, 3) if self.gathers else (2, 3), keepdim=True)
        room = (had + unused / best.shape[1]) ** (1 / self.power)
        form = self._unit(change.where(takes, 0.0)) + sign * self._unit(relief.where(takes, 0.0))
        change = torch.where(takes, room * self._unit(form), change.where(~gives, 0.0))
        if self.gathers:
            change = radius * self._unit(change.flatten(1)[:, None, None]).reshape(change.shape)
        return _settled((x + change).clamp(0, 1), x, threat)

    def _unit(self, values: Tensor) -> Tensor:
        """Each plane at length 1, or 0."""
        length = (values.abs() ** self.power).sum((2, 3), keepdim=True) ** (1 / self.power)
        return values / length.clamp_min(1e-12)


_PAINTERS: dict[type[Ball], _Painter] = {Linf: _Stripes(), L2: _Reliefs(2), L1: _Reliefs(1, gathers=True)}


@ATTACKS.register("square", paper="arXiv:1912.00049")
@dataclass(frozen=True)
class Square(Attack):
    """Square Attack (Andriushchenko et al. 2020): random search by scores, one square of the picture at a time.

    A query changes one window of the best point so far; what raises the loss is kept. The windows shrink from ``p_init`` of
    the pixels by the paper's schedule, scaled to ``queries``. In L1 as in L2, with the absolute changes in place of their
    squares (Croce & Hein 2021). A picture that is no square has windows no higher and no wider than itself; an input without
    height (B, F) is one row, and its windows are stretches of it.
    """

    threat: Ball = Linf(8 / 255)
    queries: int = 5000
    p_init: float = 0.8
    loss: Loss = Margin()
    restarts: int = 1
    resumes: bool = False
    patience: int = 0
    """After so many queries, and whenever they have grown by half, an example is given up that would not fall in the rest if
    it went on gaining at half again its late pace; 0: none is."""
    steps: int = field(default=1, init=False, repr=False)  # one for each query

    tells: ClassVar[Tells] = "scores"
    nested: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, queries=1, restarts=1, patience=0)
        if not 0 < self.p_init <= 1:
            raise InputError(
                f"Square: p_init is {self.p_init}; give the share of the pixels in the first window, in (0, 1]."
            )
        object.__setattr__(self, "steps", self.queries)

    @property
    def _painter(self) -> _Painter:
        return _PAINTERS[type(self.threat)]

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The painter's."""
        return self._painter.first(_planes(x), self.threat, rng).reshape(x.shape)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Searching:
        """Nothing is known of the first point yet."""
        none = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        ends = self._painter.ends(_planes(x), self.threat)
        zero = torch.zeros_like(none, dtype=torch.long)
        return _Searching(first, first, none, zero, none[:, None].repeat(1, _BACK), zero > 0, ends)

    def step(self, state: _Searching, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Searching:  # type: ignore[override]
        """Keep what is better, and change a window of it."""
        better = at.loss > state.best_loss
        best = torch.where(expand(better, x), state.query, state.best)
        planes = _planes(x)
        query = self._painter.paint(
            _planes(best), planes, state.ends, self.threat, self._size(planes, state.asked), rng
        )
        best_loss, asked = torch.where(better, at.loss, state.best_loss), state.asked + 1
        looked, hopeless = torch.where((asked == 1)[:, None], best_loss[:, None], state.looked), state.hopeless
        if self.patience:
            now, ready = self._due(asked)
            # The windows shrink, and the gain with them: about as much for each growth of the queries by half.
            grown = (self.queries / asked.double()).log() / math.log(_GROWTH)
            ahead = _PACE * (best_loss - looked[:, 0]) / _BACK * grown.to(best_loss.dtype)
            hopeless = now & ready & (best_loss + ahead < 0)
            looked = torch.where(now[:, None], torch.cat([looked[:, 1:], best_loss[:, None]], 1), looked)
        return _Searching(query.reshape(x.shape), best, best_loss, asked, looked, hopeless, state.ends)

    def _due(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) bool: it is looked at after so many queries; and patience is over."""
        look = ((asked.double() / self.patience).log() / math.log(_GROWTH)).round()
        at = (self.patience * _GROWTH**look + 1e-6).floor()
        return (asked == at) & (look >= -_BACK), look >= 0

    def gives_up(self, state: _Searching) -> Tensor:  # type: ignore[override]
        """Who was found too slow."""
        return state.hopeless

    def _size(self, planes: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Height and width of the window when so many were tried, (B,) each."""
        height, width = planes.shape[2:]
        shares = [self.p_init / 2**times for times in range(len(_HALVINGS) + 1)]
        sizes = [_fitted(share, self._painter, height, width) for share in shares]
        times = (torch.tensor(_HALVINGS, device=asked.device) * self.queries < (asked * _OF)[:, None]).sum(1)
        rows, columns = torch.tensor(sizes, device=asked.device)[times].unbind(1)
        return rows, columns


def _planes(values: Tensor) -> Tensor:
    """Inputs of any shape as (B, C, H, W): (B, F) is one row, further axes are channels."""
    if values.ndim == 2:
        return values[:, None, None]
    if values.ndim == 3:
        return values[:, :, None]
    return values.flatten(1, -3)


def _fitted(share: float, painter: _Painter, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a window of this share of the pixels: a square, as far as it fits."""
    area = share * height * width
    side = max(painter.least, round(area**0.5))
    side += painter.odd and side % 2 == 0
    rows, columns = min(side, height), min(side, width)
    if rows < side:
        columns = min(width, max(columns, round(area / rows)))
    elif columns < side:
        rows = min(height, max(rows, round(area / columns)))
    return rows, columns


def _tile(size: int, device: torch.device) -> Tensor:
    """(size,) which of the tiles along an axis each place belongs to."""
    return torch.arange(size, device=device) * _TILES // size


def _tiled(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(size,) each: the place within the tile, and the tile's own size."""
    tile = _tile(size, device)
    sizes = tile.bincount(minlength=_TILES)
    return torch.arange(size, device=device) - (sizes.cumsum(0) - sizes)[tile], sizes[tile]


def _relief(down: Tensor, rows: Tensor, along: Tensor, columns: Tensor, upright: Tensor) -> Tensor:
    """Two opposite bumps beside each other, or above each other where it is not ``upright`` (B,): (B, H, W).

    A bump falls in square rings, by 1 / d**2 at the d-th (Andriushchenko et al. 2020, equations 2 and 3). ``down`` and
    ``rows`` are the place in the window and its size along H, ``along`` and ``columns`` those along W.
    """
    upright = upright[:, None]
    row, column = _cut(down, rows, ~upright), _cut(along, columns, upright)
    rings = torch.arange(1, max(down.shape[-1], along.shape[-1]) + 2, device=down.device, dtype=torch.float64)
    heights = torch.cat([rings.new_zeros(1), (1 / rings.square()).cumsum(0)])
    ring = torch.maximum(row.ring[:, :, None], column.ring[:, None, :]).clamp_max(len(rings))
    reach = torch.maximum(row.reach[:, :, None], column.reach[:, None, :])
    return (heights[reach + 1] - heights[ring]) * row.sign[:, :, None] * column.sign[:, None, :]


class _Axis(NamedTuple):
    ring: Tensor  # (B, size): how far from the middle of its bump
    reach: Tensor  # how far the bump reaches
    sign: Tensor


def _cut(place: Tensor, size: Tensor, halves: Tensor) -> _Axis:
    """One axis of a relief, cut into halves where ``halves`` (B, 1): the second has the other sign."""
    half = torch.where(halves, size // 2, 0)
    second = halves & (place >= half)
    part = torch.where(second, size - half, torch.where(halves, half, size))
    ring = (torch.where(second, place - half, place) - part // 2).abs()
    return _Axis(ring, part // 2, torch.where(second, -1, 1))


def _settled(point: Tensor, x: Tensor, threat: Ball) -> Tensor:
    """Points that are in the ball but for rounding; a projection of all of them costs more than a small network."""
    outside = (threat.distance(point, x) > threat.eps).nonzero().squeeze(1)
    if not len(outside):
        return point
    return point.index_put((outside,), threat.project(point[outside], x[outside]))
