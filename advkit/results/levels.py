"""Pictures in 8 bits: which grey levels may stand for an adversarial picture, inside the ball around the clean one.

Levels are whole numbers from 0 to 255, and so are their differences: the distance of two such pictures is exact.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.threat import Ball
from advkit.core.types import expand, rows

__all__ = ["Bracket", "bracket", "in_8_bits", "level_distance", "levels_of", "pictures_of", "steered"]

_HALVINGS = 30  # of a price
_ROUNDING = 1e-4  # levels: 8/255 in float32 is not 8 levels to the last bit


def levels_of(x: Tensor) -> Tensor:
    """The nearest grey levels (uint8) of pictures in [0, 1]."""
    return (x.double() * 255).round().clamp(0, 255).to(torch.uint8)


def pictures_of(levels: Tensor) -> Tensor:
    """Pictures (float32) in [0, 1] of grey levels, as every data set of 8 bits gives them."""
    return levels.to(torch.uint8).float() / 255


def in_8_bits(x: Tensor) -> Tensor:
    """(B,) bool: every value of a picture (B, ...) is a grey level."""
    exact = x.double().flatten(1) * 255
    return (exact - exact.round()).abs().amax(1) < _ROUNDING


def level_distance(levels: Tensor, clean: Tensor, threat: Ball) -> Tensor:
    """(B,) float64 distances of grey levels from clean ones; 8 levels are 8/255 to the last bit."""
    if threat.of_values:
        return threat.distance(levels.double(), clean.double()) / 255
    return threat.distance(levels.double() / 255, clean.double() / 255)


class Bracket(NamedTuple):
    """For each value of a picture (B, ...) the two levels that may stand for it, float64.

    ``near`` is rounded towards the clean level, ``far`` away from it, as far as the ball lets a single value go; ``share``
    says where between them the value lies. All of ``near`` is inside the ball.
    """

    near: Tensor
    far: Tensor
    share: Tensor
    clean: Tensor

    def take(self, index: Tensor) -> Bracket:
        """Some of the examples."""
        return Bracket(*(rows(part, index) for part in self))


def bracket(x_adv: Tensor, x: Tensor, threat: Ball) -> Bracket:
    """The levels about adversarial pictures (B, ...); of clean ones that are not in 8 bits, the same change of the nearest."""
    clean = levels_of(x).double()
    change = (x_adv.double() - x.double()) * 255
    size, way = change.abs(), change.sign()
    most = math.floor(255 * min(float(threat.eps), 1.0) + 1e-9) if threat.of_values else 255
    whole = (size + _ROUNDING).floor().clamp_max(most)
    near = (clean + way * whole).clamp(0, 255)
    outside = level_distance(near, clean, threat) > threat.eps
    near = torch.where(expand(outside, near), (clean + way * size.floor()).clamp(0, 255), near)
    # A ball that is not one about the clean levels, as where no value may rise, may end between the two.
    outside = level_distance(near, clean, threat) > threat.eps
    near = torch.where(expand(outside, near), clean, near)
    share = (size - (near - clean).abs()).clamp(0, 1)
    further = (near + way).clamp(0, 255)
    free = (share > _ROUNDING) & ((further - clean).abs() <= most)
    return Bracket(near, torch.where(free, further, near), torch.where(free, share, 0.0), clean)


def steered(found: Bracket, gradient: Tensor, threat: Ball) -> Tensor:
    """The levels at which most is gained by a linear ``gradient`` (B, ...), of those that the ball takes.

    Each value is at ``near`` or ``far``; where the ball does not take all that gain, whatever gains least for its size gives
    way, and values of ``near`` go one level back to make room for others. The price of size is found by halving.
    """
    near, far, clean = found.near, found.far, found.clean
    back = near - (near - clean).sign()
    # What goes back only makes room: it is not to gain by itself.
    gains = torch.stack([(gradient * (back - near)).clamp_max(0), torch.zeros_like(near), gradient * (far - near)])
    sizes = torch.stack([(level - clean).square() for level in (back, near, far)])
    levels = torch.stack([back, near, far])

    def at(price: Tensor) -> Tensor:
        # Of what is worth the same, that which is nearest to the attack's own: near before back.
        worth = gains - expand(price, near) * (sizes - sizes[1])
        best = torch.where(worth[2] > worth[1], 2, torch.where(worth[0] > worth[1], 0, 1))
        return levels.gather(0, best[None])[0]

    def inside(price: Tensor) -> Tensor:
        return level_distance(at(price), clean, threat) <= threat.eps

    dear = 2 * gradient.abs().flatten(1).amax(1).clamp_min(1e-300)
    cheap = torch.zeros_like(dear)
    dear = torch.where(inside(cheap), cheap, dear)
    for _ in range(_HALVINGS if bool((dear > 0).any()) else 0):
        middle = (cheap + dear) / 2
        fits = inside(middle)
        cheap, dear = torch.where(fits, cheap, middle), torch.where(fits, middle, dear)
    chosen = at(dear)
    return torch.where(expand(inside(dear), near), chosen, near)
