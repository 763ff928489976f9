"""Shortest ways to a plane inside the box [0, 1], exact in each norm (Croce & Hein 2020, section 3.1).

All in float64, out of place, one plane for each example. With every value moving in the direction of its own slope, what is
left is a sum over the values that grows with one number: in Linf and L2 a level that each value follows until it meets the box,
in L1 the amount spent on the steepest values first. Sorting the places where values meet the box gives that number.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import expand

__all__ = ["PLANES", "near", "to_plane"]


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
