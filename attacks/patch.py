"""The adversarial patch: one for all pictures, at any place and angle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks._adam import Moments, adam, still
from advkit.attacks._masks import read_mask
from advkit.attacks._rectangles import GREY, check_pictures
from advkit.attacks._settings import check_least
from advkit.catalog import ATTACKS
from advkit.core.fitted import Applied, Fit, Fitted
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.regions import Area
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError

_FINEST = 4  # pixels, the least width of a patch


class _Lay(NamedTuple):
    """How a patch lies on B pictures: a row of each tensor (B,) for each."""

    half: Tensor  # of its width, in px
    angle: Tensor  # radians
    across: Tensor  # the middle, in px from the left edge
    down: Tensor  # and from the top


@ATTACKS.register("patch", paper="arXiv:1712.09665")
@dataclass(frozen=True)
class Patch(Fitted):
    """One patch for all pictures, at any place, angle and scale; fitted on training pictures (Brown et al. 2017).

    It replaces what it covers. A fit draws place, angle and scale anew for every picture in every step; scored is the full
    size, at a place and angle drawn for each picture, and with ``restarts`` the worst of so many.
    """

    threat: Ball = Area(0.05)
    steps: int = 500
    step_size: float = 0.05  # of the range of a pixel
    optimizer: Literal["adam", "sign"] = "adam"
    shape: str = "round"  # round, square, or a picture file whose light part is the patch
    rotation: float = 22.5  # degrees, to either side
    smallest: float = 0.8  # least width in a fit, as a share of the full one
    loss: Loss = CrossEntropy()
    pictures: int = 512
    batch: int = 32
    fitted_on: str = "auto"
    restarts: int = 1

    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Area):
            raise InputError(f"Patch works in Area, where eps is a share of the picture, not in {self.threat.label}.")
        check_least(self, steps=1, pictures=1, batch=1, restarts=1)
        if not 0 < self.step_size < math.inf:
            raise InputError(f"Patch: step_size is {self.step_size}; give a share of the range of a pixel above 0.")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"Patch: rotation is {self.rotation}; give degrees from 0 to 180.")
        if not 0 < self.smallest <= 1:
            raise InputError(f"Patch: smallest is {self.smallest}; give a share of the full width, in (0, 1].")
        if self.shape not in ("round", "square"):
            read_mask(self.shape, "Patch: shape", "round, square, or a picture file whose light part is the patch")

    def begin(self, x: Tensor, rng: Rng) -> Fit:
        """Uniform noise, about as fine as the pictures."""
        check_pictures(self, x)
        width = max(_FINEST, math.ceil(2 * self._half(x)))
        thing = rng.fold("patch").uniform(x.shape[1], width, width, dtype=x.dtype)[0]
        return Fit(thing, still(thing[None]))

    def worn(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """At a drawn place, angle and scale."""
        scale = self.smallest + (1 - self.smallest) * rng.fold("scale").uniform(dtype=torch.float64)
        return self._laid(thing, x, self._lay(x, scale, rng))

    def shown(self, thing: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """At a drawn place and angle, in full size."""
        full = torch.ones(len(x), dtype=torch.float64, device=x.device)
        return self._laid(thing, x, self._lay(x, full, rng)).clamp(0, 1)  # a mean of ones may be rounded to more

    def improved(self, at: Fit, grad: Tensor) -> Fit:
        """A step of Adam or of the sign, kept in [0, 1]."""
        memory: Moments = at.memory
        if self.optimizer == "sign":
            return Fit((at.thing + self.step_size * grad.sign()).clamp(0, 1), memory)
        ahead, memory = adam(grad[None], memory)
        return Fit((at.thing + self.step_size * ahead[0]).clamp(0, 1), memory)

    def blanks(self, thing: Tensor) -> tuple[tuple[str, Tensor], ...]:
        """Noise, and grey."""
        noise = Rng.of(0, torch.zeros(1, dtype=torch.long)).uniform(*thing.shape, dtype=thing.dtype)[0]
        return (("random", noise), ("grey", torch.full_like(thing, GREY)))

    def applied(self, thing: Tensor) -> Applied:
        """The patch as an attack, with as many draws."""
        return Applied(self.threat, self, thing.detach().cpu().clone(), restarts=self.restarts)

    def _room(self, x: Tensor) -> int:
        assert isinstance(self.threat, Area)
        room = self.threat.room(x)
        if room < 1:
            raise InputError(
                f"Patch: the area is less than one pixel of a picture of {x.shape[3]}x{x.shape[2]}; give a larger eps."
            )
        return room

    def _half(self, x: Tensor) -> float:
        """Half of the full width in px: that of the patch whose area is eps."""
        room = self._room(x)
        if self.shape == "square":
            return math.isqrt(room) / 2
        share = math.pi / 4 if self.shape == "round" else float(self._mask().mean())
        return math.sqrt(room / share) / 2

    def _mask(self) -> Tensor:
        """(h, w) float64 in {0, 1}: where the patch is, in its square."""
        return read_mask(self.shape, "Patch: shape", "round, square, or a picture file whose light part is the patch")

    def _lay(self, x: Tensor, scale: Tensor, rng: Rng) -> _Lay:
        """Anywhere in the picture, whole where it can be."""
        half = self._half(x) * scale
        turn = 2 * rng.fold("angle").uniform(dtype=torch.float64) - 1
        angle = turn * math.radians(self.rotation)
        extent = half if self.shape == "round" else half * (angle.cos().abs() + angle.sin().abs())

        def anywhere(purpose: str, size: int) -> Tensor:
            room = (size - 2 * extent).clamp_min(0)
            return size / 2 + room * (rng.fold(purpose).uniform(dtype=torch.float64) - 0.5)

        return _Lay(half, angle, anywhere("across", int(x.shape[3])), anywhere("down", int(x.shape[2])))

    def _laid(self, thing: Tensor, x: Tensor, lay: _Lay) -> Tensor:
        """Opaque where a pixel's centre is on the patch: no pixel is mixed, so no edge is dark and the area is as stated."""
        check_pictures(self, x)
        down, along = (torch.arange(size, device=x.device, dtype=torch.float64) + 0.5 for size in x.shape[2:])
        right = along[None, None, :] - expand(lay.across, x[:, 0])
        below = down[None, :, None] - expand(lay.down, x[:, 0])
        cos, sin, half = (expand(value, x[:, 0]) for value in (lay.angle.cos(), lay.angle.sin(), lay.half))
        u, v = (cos * right + sin * below) / half, (cos * below - sin * right) / half
        place = torch.stack([u, v], -1).to(x.dtype)
        colour = F.grid_sample(
            thing.to(x.dtype).expand(len(x), *thing.shape), place, padding_mode="border", align_corners=False
        )
        return torch.where(self._covered(u, v, self._room(x))[:, None], colour, x)

    def _covered(self, u: Tensor, v: Tensor, room: int) -> Tensor:
        """(B, H, W) bool: pixels on the patch, at most ``room``; where the raster gives more, the outermost give way."""
        if self.shape == "round":
            depth = (u.square() + v.square()).sqrt()
        elif self.shape == "square":
            depth = torch.maximum(u.abs(), v.abs())
        else:
            mask = self._mask().to(u.device)
            seen = F.grid_sample(
                mask.expand(len(u), 1, *mask.shape), torch.stack([u, v], -1), align_corners=False, padding_mode="zeros"
            )
            depth = 1.5 - seen[:, 0]
        nearest = depth.flatten(1).topk(min(room, depth[0].numel()), dim=1, largest=False).indices
        among = torch.zeros_like(depth.flatten(1), dtype=torch.bool).scatter(1, nearest, True).reshape(depth.shape)
        return among & (depth <= 1)
