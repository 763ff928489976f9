"""Threat models: balls around the clean picture, cut by the box [0, 1].

A projected point never leaves its ball, not by one ulp, measured in float64: displacements are computed in float64 and
rounded towards the clean picture. All methods are per example, out of place, and know nothing of models.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.core.types import expand
from advkit.core.units import Eps
from advkit.errors import InputError
from advkit.registry import Checked

__all__ = ["BALLS", "L0", "L1", "L2", "Ball", "Linf", "Sparse"]

_END = 1e-6  # room that is none
_SLACK = 1e-12  # relative room for the rounding of a float64 norm of up to 10^6 terms


@dataclass(frozen=True)
class Ball(Checked, ABC):
    """All pictures in [0, 1] within ``eps`` of the clean one; ``eps`` = inf leaves the box."""

    eps: Eps

    usual: ClassVar[str]
    """The radius that people mean where they name none."""
    of_values: ClassVar[bool] = True
    """The radius is in the unit of the values, so that it may be meant in grey levels."""

    def __init__(self, eps: float | str) -> None:
        object.__setattr__(self, "eps", Eps(eps))
        self.__post_init__()
        self._check()

    def _check(self) -> None:
        """Refuse radii that make no sense in this norm."""
        return

    @property
    def norm(self) -> str:
        """The name of the norm in lower case: ``linf``."""
        return type(self).__name__.lower()

    @property
    def is_point(self) -> bool:
        """The radius is 0: the clean picture is all there is, and nothing is searched."""
        return float(self.eps) == 0

    @property
    def label(self) -> str:
        """As in a table header: ``Linf 8/255 (0.0314)``."""
        return f"{type(self).__name__} {self.eps.label}"

    @property
    def doubt(self) -> str | None:
        """A sentence where the radius is probably meant to be another."""
        return self.eps.doubt if self.of_values else None

    @abstractmethod
    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """(B,) float64 distances."""

    @abstractmethod
    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball and the box; allowed points come back as they are."""

    @abstractmethod
    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The step of length 1 that gains most on a linear loss with this gradient, seen from ``x_adv``."""

    @abstractmethod
    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """A point drawn uniformly from the ball, then projected on the box."""

    @abstractmethod
    def reach(self, x: Tensor) -> float:
        """The radius, or the box's own extent where the radius is larger: what step sizes are fractions of."""

    def contains(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """(B,) bool: inside the ball and the box, finite; measured in float64."""
        flat = x_adv.flatten(1)
        return (self.distance(x_adv, x) <= self.eps) & ((flat >= 0) & (flat <= 1)).all(1)


class Linf(Ball):
    """Each value moves by at most ``eps`` (0 to 1): ``Linf(8 / 255)``."""

    usual: ClassVar[str] = "8/255"

    def _check(self) -> None:
        if 1 < self.eps < math.inf:
            grey = f"; for {self.eps.exact} grey levels write {self.eps.exact}/255" if self.eps <= 255 else ""
            raise InputError(f"eps {self.eps.exact} is more than the whole range of a pixel, [0, 1], in Linf{grey}.")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Largest absolute change."""
        return (x_adv.double() - x.double()).abs().flatten(1).amax(1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Clamp every value."""
        base = x.double()
        point = (x_adv.double() - base).clamp_(-self.eps, self.eps).add_(base).clamp_(0, 1).to(x.dtype)
        point = _inward(point, x, base, self.eps)
        if x.dtype != torch.float64:
            return point  # a difference of two float32 numbers is exact in float64, so allowed values came back as they were
        allowed = ((x_adv - x).abs() <= self.eps) & (x_adv >= 0) & (x_adv <= 1)
        return torch.where(allowed, x_adv, point)

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The sign of the gradient."""
        return grad.sign()

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """Uniform in the cube."""
        return self.project(x + self.reach(x) * (2 * rng.uniform(*x.shape[1:], dtype=x.dtype) - 1), x)

    def reach(self, x: Tensor) -> float:
        """At most 1."""
        return min(self.eps, 1.0)


class L2(Ball):
    """The Euclidean length of the change is at most ``eps``: ``L2(0.5)``."""

    usual: ClassVar[str] = "0.5"

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Euclidean distance."""
        length: Tensor = torch.linalg.vector_norm((x_adv.double() - x.double()).flatten(1), dim=1)
        return length

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Nearest point of ball and box together, not of one after the other.

        That point is x + clip(s (x_adv - x), -x, 1 - x) for the largest s <= 1 that fits. Given which values are clipped,
        s has a closed form; each round can only clip more of them, so the rounds end after a few.
        """
        radius = min(self.eps * (1 - _SLACK), 1e150)  # it is squared below
        base = x.double().flatten(1)
        delta = x_adv.double().flatten(1) - base
        low, high = -base, 1 - base
        scale = (radius / delta.norm(dim=1).clamp_min(1e-300)).clamp_max(1)
        for _ in range(delta.shape[1]):
            moved = scale[:, None] * delta
            clipped = (moved < low) | (moved > high)
            spent = moved.clamp(low, high).where(clipped, 0.0).square().sum(1)
            free = delta.where(~clipped, 0.0).square().sum(1)
            left = (radius**2 - spent).clamp_min(0)
            larger = torch.maximum((left / free.clamp_min(1e-300)).sqrt().clamp_max(1), scale)
            growing = larger > scale * (1 + 1e-9)
            if not bool(growing.any()):
                break
            scale = torch.where(growing, larger, scale)  # a row that is done must not move on for the sake of others
        nearest = _land(x, (scale[:, None] * delta).clamp(low, high).reshape(x.shape))
        return torch.where(expand(self.contains(x_adv, x), x), x_adv, nearest)

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The gradient at length 1 (0 where it is 0)."""
        flat = grad.flatten(1)
        # Scaled first: the square of a gradient of 1e-30 is 0 in float32.
        flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
        length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return (flat / length.clamp_min(0.5)).reshape(grad.shape)

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """Uniform in the volume: a normal direction, at radius u^(1/d)."""
        size = x[0].numel()
        radius = self.reach(x) * rng.fold("length").uniform(dtype=torch.float64) ** (1 / size)
        step = self.steepest(rng.normal(*x.shape[1:], dtype=torch.float64), x)
        return self.project((x + expand(radius, x) * step).to(x.dtype), x)

    def reach(self, x: Tensor) -> float:
        """At most the diagonal of the box."""
        return min(self.eps, math.sqrt(x[0].numel()))


@dataclass(frozen=True, init=False)
class L1(Ball):
    """The absolute changes sum to at most ``eps``: ``L1(12)``."""

    usual: ClassVar[str] = "12"

    share: float | None = None
    """Of the values, how many a steepest step moves (Tramer & Boneh 2019); None: as many as it takes to spend eps.

    On a linear model of 192 values, 40 steps of PGD with a fixed hundredth reach 0.2 of the optimum at eps = 20, since each
    value soon meets the box; this reaches 0.95.
    """

    def __init__(self, eps: float | str, share: float | None = None) -> None:
        object.__setattr__(self, "share", share)
        super().__init__(eps)

    def _check(self) -> None:
        if self.share is not None and not 0 < self.share <= 1:
            raise InputError(f"L1: share is {self.share}; it is the share of the values that move, in (0, 1].")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Sum of absolute changes."""
        return (x_adv.double() - x.double()).abs().flatten(1).sum(1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Nearest point of ball and box together: soft-threshold, then clip (Duchi et al. 2008; Croce & Hein 2021).

        The length of clip(|change| - t, 0, room) falls with t along line pieces; sorting their ends gives t exactly.
        """
        radius = self.eps * (1 - _SLACK)
        base = x.double().flatten(1)
        delta = x_adv.double().flatten(1) - base
        size, room = delta.abs(), torch.where(delta > 0, 1 - base, base)
        ends, order = torch.cat([size, (size - room).clamp_min(0)], 1).sort(1, descending=True)
        # Walking t downwards, a value begins to grow at |change| and stops at |change| - room.
        slope = torch.cat([torch.ones_like(size), -torch.ones_like(size)], 1).gather(1, order).cumsum(1)
        drop = ends - torch.cat([ends[:, 1:], torch.zeros_like(ends[:, :1])], 1)
        length = (slope * drop).cumsum(1)  # of the result when t stands at the next end
        piece = (length < radius).sum(1, keepdim=True).clamp_max(ends.shape[1] - 1)
        before = length.gather(1, piece) - (slope * drop).gather(1, piece)
        threshold = ends.gather(1, piece) - (radius - before) / slope.gather(1, piece).clamp_min(1)
        threshold = torch.where(length[:, -1:] <= radius, 0.0, threshold.clamp_min(0))
        kept = torch.minimum((size - threshold).clamp_min(0), room)
        kept = kept * (radius / kept.sum(1, keepdim=True).clamp_min(1e-300)).clamp_max(1)  # the rounding of a long sum
        nearest = _land(x, (delta.sign() * kept).reshape(x.shape))
        return torch.where(expand(self.contains(x_adv, x), x), x_adv, nearest)

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The largest of the gradient's values that can still move, ``share`` of all, in proportion, at length 1."""
        flat, point = grad.flatten(1), x_adv.flatten(1)
        # Not point >= 1: whether a value is at the end of its range must not hang on the last bit of a sum.
        stuck = ((flat > 0) & (point > 1 - _END)) | ((flat < 0) & (point < _END))
        flat = flat.masked_fill(stuck, 0)
        # A value moves by a half, on the average, before it meets the box.
        count = 2 * min(self.eps, flat.shape[1] / 2) if self.share is None else self.share * flat.shape[1]
        size, index = flat.abs().topk(max(1, round(count)), dim=1)
        size = size / size.amax(1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        part = size / size.sum(1, keepdim=True).clamp_min(0.5) * flat.gather(1, index).sign()
        return torch.zeros_like(flat).scatter(1, index, part).reshape(grad.shape)

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """Uniform in the volume: exponential sizes, random signs, at radius u^(1/d)."""
        shape = x.shape[1:]
        size = -rng.fold("size").uniform(*shape, dtype=torch.float64).log()
        sign = (rng.fold("sign").uniform(*shape, dtype=torch.float64) - 0.5).sign()
        radius = self.reach(x) * rng.fold("length").uniform(dtype=torch.float64) ** (1 / x[0].numel())
        step = sign * size / expand(size.flatten(1).sum(1), x)
        return self.project((x + expand(radius, x) * step).to(x.dtype), x)

    def reach(self, x: Tensor) -> float:
        """At most the number of values."""
        return min(self.eps, float(x[0].numel()))


class Sparse(Ball):
    """Few pixels change, by any amount. A pixel is a place (H, W), whatever its channels."""

    of_values: ClassVar[bool] = False

    @abstractmethod
    def room(self, x: Tensor) -> int:
        """How many pixels of pictures like these may change."""

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Number of changed pixels."""
        return pixels((x_adv != x).double()).gt(0).sum(1).double()

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Keep the pixels whose undoing would cost most; undo the others."""
        boxed = x_adv.clamp(0, 1)
        far, base = x_adv.double(), x.double()
        change = pixels((far - base).square() - (far - boxed.double()).square())  # not what lies outside the box anyway
        kept = torch.zeros_like(change, dtype=torch.bool)
        kept = kept.scatter(1, change.topk(self.room(x), dim=1).indices, True)
        kept = kept.reshape(x.shape[0], 1, *x.shape[2:]) if x.ndim == 4 else kept.reshape(x.shape)
        return torch.where(kept, boxed, x)

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """As many pixels as may change, at random places, set to random values."""
        order = rng.fold("place").uniform(pixels(x).shape[1])
        chosen = torch.zeros_like(order, dtype=torch.bool)
        chosen = chosen.scatter(1, order.topk(self.room(x), dim=1).indices, True)
        chosen = chosen.reshape(x.shape[0], 1, *x.shape[2:]) if x.ndim == 4 else chosen.reshape(x.shape)
        return torch.where(chosen, rng.fold("value").uniform(*x.shape[1:], dtype=x.dtype), x)


class L0(Sparse):
    """At most ``eps`` pixels change, by any amount: ``L0(10)``."""

    usual: ClassVar[str] = "10"

    def _check(self) -> None:
        if self.eps != math.inf and not float(self.eps).is_integer():
            raise InputError(f"eps is {self.eps.exact} in L0, where it counts pixels; give a whole number, 1 or more.")

    def room(self, x: Tensor) -> int:
        """The radius, or all pixels."""
        return int(min(self.eps, pixels(x[:1]).shape[1]))

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The one pixel whose full change gains most, moved to the end of its range."""
        room = torch.where(grad > 0, 1 - x_adv, x_adv)
        gain = pixels(grad.abs() * room)
        first = torch.zeros_like(gain).scatter(1, gain.argmax(1, keepdim=True), 1.0)
        first = first.reshape(grad.shape[0], 1, *grad.shape[2:]) if grad.ndim == 4 else first.reshape(grad.shape)
        return first * grad.sign()

    def reach(self, x: Tensor) -> float:
        """At most the number of pixels."""
        return float(self.room(x))


BALLS: dict[str, type[Ball]] = {"linf": Linf, "l2": L2, "l1": L1, "l0": L0}
"""By name; ``advkit.core.regions`` adds those of the physical world."""


def pixels(values: Tensor) -> Tensor:
    """(B, pixels): pictures (B, C, H, W) summed over their channels, other inputs flattened."""
    return values.sum(1).flatten(1) if values.ndim == 4 else values.flatten(1)


def _land(x: Tensor, delta: Tensor) -> Tensor:
    """The point of x's dtype nearest to x + delta (float64) that is in the box and no farther from x than delta."""
    base = x.double()
    return _inward((base + delta).clamp_(0, 1).to(x.dtype), x, base, delta.abs())


def _inward(point: Tensor, x: Tensor, base: Tensor, most: Tensor | float) -> Tensor:
    """Rounding may have carried values farther from x (``base`` in float64) than ``most``: one step back towards x."""
    beyond = (point.double() - base).abs_() > most
    return torch.where(beyond, torch.nextafter(point, x), point)
