"""Towards the decision boundary: the shortest way to a plane in the box, and the search on a way that crosses it.

Projections on planes are exact in each norm (Croce & Hein 2020, section 3.1), in float64, one plane for each example. With
every value moving in the direction of its own slope, what is left is a sum over the values that grows with one number: in
Linf and L2 a level that each value follows until it meets the box, in L1 the amount spent on the steepest values first.
Sorting the places where values meet the box gives that number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Ascent
from advkit.core.goal import Goal
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand

__all__ = ["PLANES", "Way", "dot", "near", "no_way", "to_plane"]

_BEYOND = 0.05  # of the way from the crossing to the nearest found: a point short of the crossing would be no success


def to_plane(ball: Ball, point: Tensor, normal: Tensor, gap: Tensor) -> Tensor:
    """The shortest change (B, ...) of points in the box with normal . change = ``gap`` (B,) that stays in the box.

    float64. Where the box ends before the plane it goes as far as the box allows; where the normal is 0, nowhere.
    """
    slope, here = normal.double().flatten(1), point.double().flatten(1)
    scale = slope.abs().amax(1).clamp_min(torch.finfo(slope.dtype).tiny)  # a gradient of 1e-200 has a square of 0
    way = gap.double().sign()[:, None] * (slope / scale[:, None])
    room = torch.where(way > 0, 1 - here, here).clamp_min(0)
    size = PLANES[type(ball)](way.abs(), room, gap.double().abs() / scale)
    return (way.sign() * size).reshape(point.shape)


def _lowest(slope: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """Linf: sizes (B, D), each at most its ``room``, of the least maximum, with slope . size = total."""
    return torch.minimum(_level(slope, slope * room, total)[:, None], room) * (slope > 0)


def _shortest(slope: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """L2: the sizes of the least sum of squares; all values that do not meet the box move in proportion to their slopes."""
    return torch.minimum(_level(slope.square(), slope * room, total)[:, None] * slope, room)


def _fewest(slope: Tensor, room: Tensor, total: Tensor) -> Tensor:
    """L1: the sizes of the least sum: the steepest values go as far as they can, one after the other."""
    steep, order = slope.sort(dim=1, descending=True, stable=True)
    gain = steep * room.gather(1, order)
    before = gain.cumsum(1) - gain
    part = ((total[:, None] - before) / steep.clamp_min(torch.finfo(steep.dtype).tiny)).clamp_min(0)
    size = torch.minimum(part, room.gather(1, order)) * (steep > 0)
    return torch.zeros_like(size).scatter(1, order, size)


def _level(rise: Tensor, most: Tensor, total: Tensor) -> Tensor:
    """The t (B,) at which sum min(t * rise, most) is ``total``; the least t at which all stand still where it never is."""
    moves = rise > 0
    ends = torch.where(moves, most / rise.clamp_min(torch.finfo(rise.dtype).tiny), 0.0)
    ends, order = ends.sort(dim=1, stable=True)
    rise, most = rise.gather(1, order), most.where(moves, 0.0).gather(1, order)
    still_rising = (
        rise.flip(1).cumsum(1).flip(1)
    )  # each and all after it; summed from the end, so that the last is not 0
    stopped = most.cumsum(1) - most
    reached = stopped + ends * still_rising  # the sum where t is the end of each
    piece = (reached < total[:, None]).sum(1, keepdim=True)
    inside = piece.clamp_max(ends.shape[1] - 1)
    level = (total[:, None] - stopped.gather(1, inside)) / still_rising.gather(1, inside).clamp_min(
        torch.finfo(rise.dtype).tiny
    )
    return torch.minimum(level, ends[:, -1:]).squeeze(1).clamp_min(0)


PLANES: dict[type[Ball], Callable[[Tensor, Tensor, Tensor], Tensor]] = {Linf: _lowest, L2: _shortest, L1: _fewest}
"""By norm: slopes and rooms (B, D), both 0 or more, and what is to be gained (B,) to the sizes of the changes (B, D)."""


def near(ball: Ball, x: Tensor, radius: Tensor, rng: Rng) -> Tensor:
    """A point drawn uniformly from the ball's norm at a ``radius`` (B,) of each example's own, cut by the box."""
    half = 0.5  # around the middle of the box no draw of this radius meets it
    middle = torch.full_like(x, half)
    offset = (type(ball)(half).random_point(middle, rng) - middle) / half
    return (x + expand(radius.to(x.dtype), x) * offset).clamp(0, 1)


class Way(NamedTuple):
    """From the clean picture to the nearest adversarial point found, and what of it is known not to reach the goal."""

    end: Tensor  # the point; the clean picture where there is none
    distance: Tensor  # (B,) inf where there is none
    margin: Tensor  # (B,) at its end, positive
    short: Tensor  # (B,) share of the way that does not reach the goal
    short_margin: Tensor  # (B,) there, negative

    def after(self, query: Tensor, share: Tensor, at: Ascent, ball: Ball, x: Tensor, goal: Goal) -> Way:
        """The way after the answer at a query, which lies at this ``share`` (B,) of it, or, where that is 0, elsewhere."""
        hit, margin, distance = goal.reached(at.logits), goal.margin(at.logits).double(), ball.distance(query, x)
        nearer, shorter = hit & (distance < self.distance), ~hit & (share > self.short)
        short = torch.where(shorter, share, self.short)
        # A new way begins with the margin that the gradient gives it; where that makes no sense, with minus that of its end.
        rise = dot(at.grad.double(), query.double() - x.double())
        new, begins = nearer & (share == 0), torch.where(rise > margin, margin - rise, -margin)
        return Way(
            end=torch.where(expand(nearer, x), query, self.end),
            distance=torch.where(nearer, distance, self.distance),
            margin=torch.where(nearer, margin, self.margin),
            short=torch.where(new, 0.0, torch.where(nearer, short / share, short)),
            short_margin=torch.where(new, begins, torch.where(shorter, margin, self.short_margin)),
        )

    def crossing(self) -> Tensor:
        """The share (B,) of the way at which the margin, taken for a line, is 0, and a little more."""
        rise = (self.margin - self.short_margin).clamp_min(torch.finfo(self.margin.dtype).tiny)
        crossing = (-self.short_margin / rise).clamp(0, 1)
        return self.short + (1 - self.short) * (crossing + _BEYOND * (1 - crossing))

    def at(self, share: Tensor, x: Tensor) -> Tensor:
        """The point at a share (B,) of the way, float64."""
        return x.double() + expand(share, x) * (self.end.double() - x.double())


def no_way(x: Tensor) -> Way:
    """Nothing is found yet."""
    zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    return Way(x, torch.full_like(zero, torch.inf), zero, zero, zero)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B,) inner products."""
    return (a * b).flatten(1).sum(1)
