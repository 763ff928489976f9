"""Threat models of the physical world: how much of a picture is covered, how far it is darkened, how bright a light it gets.

Like every ball they are measured in float64, and a projected point lies inside to the last bit.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.core.threat import BALLS, Ball, Sparse, pixels
from advkit.errors import InputError

__all__ = ["Area", "Shade", "Veil", "lightness"]

_HALVINGS = 40  # of a segment: finer than float32
_SLACK = 1e-12  # of a lightness: powers are rounded otherwise in another batch, so no point may stand on the very edge
_ROUNDING = 4  # steps back towards the clean value that rounding can ask for


def _check_share(ball: Ball, what: str) -> None:
    """Refuse a share above the whole."""
    if ball.eps > 1:
        raise InputError(
            f"eps {ball.eps.exact} is more than the whole in {type(ball).__name__}, where it is {what}; "
            "give a number in (0, 1], such as 0.05 or 5%."
        )


class Area(Sparse):
    """At most the share ``eps`` of the picture's pixels changes, by any amount: ``Area(0.05)``, ``Area("5%")``."""

    usual: ClassVar[str] = "0.05"

    def _check(self) -> None:
        _check_share(self, "a share of the picture's pixels")

    def room(self, x: Tensor) -> int:
        """The most pixels whose share is not above eps."""
        size = pixels(x[:1]).shape[1]
        count = int(self.eps * size) + 1  # the product may be rounded down
        while count / size > self.eps or count > size:
            count -= 1
        return count

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Share of the pixels that changed."""
        return super().distance(x_adv, x) / pixels(x[:1]).shape[1]

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """Every pixel towards the better end of its range, for that is what a length of 1 allows."""
        return torch.where(grad > 0, 1 - x_adv, -x_adv) * (grad != 0)

    def reach(self, x: Tensor) -> float:
        """The share itself."""
        return float(self.eps)


class Shade(Ball):
    """A shadow: no value rises, and no pixel's CIELAB lightness falls by more than the share ``eps``: ``Shade(0.57)``.

    So ``eps`` is 1 - k of Zhong et al. 2022. RGB pictures have a lightness per pixel, others one per value.
    """

    usual: ClassVar[str] = "0.57"
    of_values: ClassVar[bool] = False

    def _check(self) -> None:
        _check_share(self, "the share of its lightness that a pixel may lose")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Largest share of lightness lost; infinite where a value rose."""
        lost = _lost(x_adv, x).flatten(1).amax(1)
        return torch.where((x_adv > x).flatten(1).any(1), torch.inf, lost)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """No value above the clean one; pixels that are too dark go back towards the clean ones, as far as they must."""
        boxed = torch.minimum(x_adv.clamp_min(0), x)
        dark = _lost(boxed, x) > self.eps * (1 - _SLACK)
        if not bool(dark.any()):
            return boxed
        # The lightness rises all along the way back, so halving finds where it is high enough.
        base, far, most = x.double(), boxed.double(), self.eps * (1 - 2 * _SLACK)
        short, enough = torch.zeros_like(dark, dtype=torch.float64), torch.ones_like(dark, dtype=torch.float64)
        for _ in range(_HALVINGS):
            middle = (short + enough) / 2
            too_dark = _lost(torch.lerp(far, base, middle), base) > most
            short, enough = torch.where(too_dark, middle, short), torch.where(too_dark, enough, middle)
        back = torch.minimum(torch.lerp(far, base, enough).to(x.dtype), x)
        for _ in range(_ROUNDING):
            back = torch.where(_lost(back, x) > most, torch.nextafter(back, x), back)
        back = torch.where(_lost(back, x) > most, x, back)
        return torch.where(dark, back, boxed)

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """The sign of the gradient."""
        return grad.sign()

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """Each pixel's lightness falls by a share drawn uniformly, its chromaticity stays."""
        light = lightness(x)
        share = self.reach(x) * rng.uniform(*light.shape[1:], dtype=torch.float64)
        return self.project(darkened(x, light * (1 - share)), x)

    def reach(self, x: Tensor) -> float:
        """The share itself."""
        return float(self.eps)


class Veil(Ball):
    """A light over the picture: each value may be blended, with an opacity of at most ``eps``, with any other: ``Veil(0.5)``.

    x' = (1 - a) x + a c for some a <= eps and some c in [0, 1].
    """

    usual: ClassVar[str] = "0.5"
    of_values: ClassVar[bool] = False

    def _check(self) -> None:
        _check_share(self, "the opacity of a light")

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Largest opacity that a value needs."""
        return _opacity(x_adv, x).flatten(1).amax(1)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Clamp every value."""
        base = x.double()
        point = torch.clamp(x_adv.double(), base - self.eps * base, base + self.eps * (1 - base)).to(x.dtype)
        for _ in range(_ROUNDING):
            point = torch.where(_opacity(point, x) > self.eps, torch.nextafter(point, x), point)
        point = torch.where(_opacity(point, x) > self.eps, x, point)
        allowed = (_opacity(x_adv, x) <= self.eps) & (x_adv >= 0) & (x_adv <= 1)
        return torch.where(allowed, x_adv, point)

    def steepest(self, grad: Tensor, x_adv: Tensor) -> Tensor:
        """Each value to the better end of its range, which a light of opacity 1 does."""
        return torch.where(grad > 0, 1 - x_adv, -x_adv) * (grad != 0)

    def random_point(self, x: Tensor, rng: Rng) -> Tensor:
        """Blended with a light of random colours at the full opacity."""
        return self.project(torch.lerp(x, rng.uniform(*x.shape[1:], dtype=x.dtype), self.reach(x)), x)

    def reach(self, x: Tensor) -> float:
        """The opacity itself."""
        return float(self.eps)


BALLS.update({"area": Area, "shade": Shade, "veil": Veil})


def lightness(x: Tensor) -> Tensor:
    """CIELAB lightness L* in [0, 100], float64: (B, 1, H, W) of RGB pictures, like x of anything else (grey values)."""
    return _lightness_of(_luminance(_linear(x.double())))


def darkened(x: Tensor, light: Tensor) -> Tensor:
    """The same chromaticity at the lightness ``light`` (as ``lightness`` has it, nowhere above that of x)."""
    linear = _linear(x.double())
    factor = _luminance_of(light) / _luminance(linear).clamp_min(1e-300)
    return _encoded(linear * factor.clamp(0, 1)).to(x.dtype)


def _lost(x_adv: Tensor, x: Tensor) -> Tensor:
    """The share of lightness that is gone, per pixel; what is black has none to lose."""
    before, after = lightness(x), lightness(x_adv.clamp(0, 1))
    return torch.where(before > 0, 1 - after / before.clamp_min(1e-300), 0.0)


def _opacity(x_adv: Tensor, x: Tensor) -> Tensor:
    """The opacity that each value needs, in float64; 0 where nothing moved."""
    base = x.double()
    change = x_adv.double() - base
    room = torch.where(change > 0, 1 - base, base)
    return torch.where(change == 0, 0.0, change.abs() / room)


def _luminance(linear: Tensor) -> Tensor:
    """CIE Y of linear light: of an RGB picture per pixel (ITU-R BT.709), else per value."""
    if linear.ndim != 4 or linear.shape[1] != 3:
        return linear
    red, green, blue = linear[:, :1], linear[:, 1:2], linear[:, 2:]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(x: Tensor) -> Tensor:
    """Linear light of sRGB values (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _encoded(linear: Tensor) -> Tensor:
    """The sRGB values of linear light."""
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-12) ** (1 / 2.4) - 0.055)


def _lightness_of(luminance: Tensor) -> Tensor:
    """L* of Y (CIE 1976)."""
    return torch.where(
        luminance <= 216 / 24389, luminance * (24389 / 27), 116 * luminance.clamp_min(1e-12) ** (1 / 3) - 16
    )


def _luminance_of(light: Tensor) -> Tensor:
    """Y of L*."""
    return torch.where(light <= 8, light * (27 / 24389), ((light + 16) / 116) ** 3)
