"""Balls whose radius is each example's own, as attacks need them that look for the nearest adversarial picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.threat import L0, L1, L2, Ball, Linf, pixels
from advkit.core.types import expand

__all__ = ["annealed", "box_reach", "clip_within", "estimate", "free", "width"]

_TINY = 1e-30
_END = 1e-6  # room that is none


def annealed(first: float, last: float, taken: Tensor, steps: int) -> Tensor:
    """(B,) from ``first`` to ``last`` along half a cosine (Loshchilov & Hutter 2017), after ``taken`` (B,) of ``steps``."""
    turn = (taken.double() / max(1, steps)).clamp_max(1) * math.pi
    return last + (first - last) * (1 + turn.cos()) / 2


def free(grad: Tensor, x_adv: Tensor) -> Tensor:
    """The gradient without the values that stand at the end of the box to which it points: they cannot follow it."""
    stuck = ((grad > 0) & (x_adv > 1 - _END)) | ((grad < 0) & (x_adv < _END))
    return grad.masked_fill(stuck, 0)


def box_reach(ball: Ball, x: Tensor) -> float:
    """The extent of the box [0, 1] in the ball's norm, whatever its radius."""
    return type(ball)(math.inf).reach(x)


def clip_within(ball: Ball, x_adv: Tensor, x: Tensor, radius: Tensor, grad: Tensor | None = None) -> Tensor:
    """The nearest point of the ball of each example's own ``radius`` (B,), then cut by the box [0, 1].

    Points inside stay where they are. In L0 the radius counts pixels: those are kept that change most or, given the
    gradient, have the largest product of change and what it gains.
    """
    return _geometry(ball).shrunk(x_adv, x, radius, grad).clamp(0, 1)


def estimate(ball: Ball, gap: Tensor, grad: Tensor, x_adv: Tensor) -> Tensor:
    """How far from ``x_adv`` a linear loss with this gradient has risen by ``gap`` (B,): (B,) distances in the ball's norm.

    The gap over the gradient's dual norm; in L0 the number of pixels that it takes at the ends of their range.
    """
    return _geometry(ball).away(gap, grad, x_adv)


def width(ball: Ball, radius: Tensor, x: Tensor) -> Tensor:
    """(B,) how long, in L2, a step is that crosses the ball of each ``radius`` (B,).

    In L0 and L1 the box sets the length: as many pixels moved from end to end as the ball allows, and one value. (On
    CIFAR-10, steps in L1 as long as the radius end three times as far away.)
    """
    return _geometry(ball).width(radius, x)


class _Geometry(NamedTuple):
    shrunk: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]  # x_adv, x, radius, grad
    away: Callable[[Tensor, Tensor, Tensor], Tensor]  # gap, grad, x_adv
    width: Callable[[Tensor, Tensor], Tensor]  # radius, x


def _geometry(ball: Ball) -> _Geometry:
    return next(geometry for kind, geometry in _GEOMETRIES.items() if isinstance(ball, kind))


def _clamped(x_adv: Tensor, x: Tensor, radius: Tensor, grad: Tensor | None) -> Tensor:
    most = expand(radius.to(x.dtype), x)
    return x + torch.clamp(x_adv - x, -most, most)


def _scaled(x_adv: Tensor, x: Tensor, radius: Tensor, grad: Tensor | None) -> Tensor:
    delta = x_adv - x
    length = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return x + expand((radius.to(x.dtype) / length.clamp_min(_TINY)).clamp_max(1), x) * delta


def _thresholded(x_adv: Tensor, x: Tensor, radius: Tensor, grad: Tensor | None) -> Tensor:
    """Soft-threshold by the value at which the sizes sum to the radius (Duchi et al. 2008), found by sorting."""
    delta = (x_adv - x).flatten(1)
    size = delta.abs()
    order = size.sort(dim=1, descending=True).values
    excess = order.cumsum(1) - radius.to(x.dtype)[:, None]
    count = torch.arange(1, size.shape[1] + 1, device=x.device, dtype=x.dtype)
    kept = (order * count > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = (excess.gather(1, kept - 1) / kept).clamp_min(0)
    return x + (delta.sign() * (size - threshold).clamp_min(0)).reshape(x.shape)


def _sparse(x_adv: Tensor, x: Tensor, radius: Tensor, grad: Tensor | None) -> Tensor:
    change = x_adv.clamp(0, 1) - x
    worth = pixels(change.square())
    if grad is not None:
        # By the change alone, a network's idle pixels stay; by the gain alone, those that have only begun to move.
        largest = grad.abs().flatten(1).amax(1).clamp_min(_TINY)  # a product of three small numbers may vanish
        worth = worth * pixels((grad / expand(largest, x) * change).abs())
    rank = worth.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = rank < radius[:, None]
    kept = kept.reshape(len(x), 1, *x.shape[2:]) if x.ndim == 4 else kept.reshape(x.shape)
    return torch.where(kept, x_adv, x)


def _round(radius: Tensor, x: Tensor) -> Tensor:
    return radius


def _diagonal(radius: Tensor, x: Tensor) -> Tensor:
    return radius * math.sqrt(x[0].numel())


def _one_value(radius: Tensor, x: Tensor) -> Tensor:
    return torch.ones_like(radius)


def _of_pixels(radius: Tensor, x: Tensor) -> Tensor:
    return (radius * (x.shape[1] if x.ndim == 4 else 1)).sqrt()


def _by_dual(order: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def away(gap: Tensor, grad: Tensor, x_adv: Tensor) -> Tensor:
        slope: Tensor = torch.linalg.vector_norm(grad.flatten(1), order, dim=1)
        return gap / slope.clamp_min(_TINY)

    return away


def _pixels_needed(gap: Tensor, grad: Tensor, x_adv: Tensor) -> Tensor:
    gain = pixels(grad.abs() * torch.where(grad > 0, 1 - x_adv, x_adv))
    reached = gain.sort(dim=1, descending=True).values.cumsum(1)
    return (reached < gap[:, None]).sum(1).to(gap.dtype) + 1


_GEOMETRIES: dict[type[Ball], _Geometry] = {
    Linf: _Geometry(_clamped, _by_dual(1), _diagonal),
    L2: _Geometry(_scaled, _by_dual(2), _round),
    L1: _Geometry(_thresholded, _by_dual(math.inf), _one_value),
    L0: _Geometry(_sparse, _pixels_needed, _of_pixels),
}
