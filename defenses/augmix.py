"""Mixtures of chains of simple operations, and one answer to all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.core.types import expand
from advkit.defenses._logits import wide
from advkit.defenses._pictures import affine, chosen, equalised, solarised, stretched
from advkit.defenses._settings import at_least
from advkit.errors import InputError

_OPERATIONS = 9
_DEPTH = 3  # operations in a chain: one to three
_TINY = 1e-7  # of the paper's code: below this a mean probability counts as this


@DEFENSES.register("augmix", paper="arXiv:1912.02781")
@dataclass(frozen=True)
class AugMix(Objective):
    """Clean cross-entropy plus ``weight`` times the Jensen-Shannon divergence of three views (Hendrycks et al. 2020).

    A view mixes ``width`` chains of one to three operations by weights uniform on the simplex, and the picture itself by a
    uniform share. None of the operations is among the common corruptions.
    """

    weight: float = 12.0
    width: int = 3
    severity: float = 3.0  # of 10

    def __post_init__(self) -> None:
        at_least("augmix", 0, weight=self.weight)
        at_least("augmix", 1, width=self.width)
        if not 0 < self.severity <= 10:
            raise InputError(f"augmix: severity is {self.severity}; give a number above 0, up to 10.")

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """(B, 2, C, H, W): two mixed views of each picture, in [0, 1]."""
        rng = Rng.of(seed, identify(x)).fold("view")
        views = [rng.fold(number) for number in range(2)]
        # All chains of both views at once: they are of the same operations.
        streams = [view.fold("chain").fold(number).keys for view in views for number in range(self.width)]
        chains = self._chain(x.repeat(len(streams), 1, 1, 1), Rng(torch.cat(streams)))
        parts = chains.reshape(2, self.width, *x.shape)
        return torch.stack([self._mixed(x, made, view) for made, view in zip(parts, views, strict=True)], 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """CE(x) + weight * JS of the answers to x and both views, all three in one pass."""
        logits = wide(model(torch.cat([x, *shown.unbind(1)])))
        clean = logits[: len(x)]
        log_probs = logits.log_softmax(1).reshape(1 + shown.shape[1], len(x), -1)
        mean = log_probs.exp().mean(0).clamp(_TINY, 1).log()
        divergence = (log_probs.exp() * (log_probs - mean)).sum(2).mean()
        return F.cross_entropy(clean, y) + self.weight * divergence

    def _mixed(self, x: Tensor, chains: Tensor, rng: Rng) -> Tensor:
        """The picture and its chains (width, B, C, H, W) in shares that are drawn."""
        # Exponential variates divided by their sum are uniform on the simplex: Dirichlet(1, ..., 1).
        parts = -rng.fold("parts").uniform(self.width, dtype=torch.float64).log()
        parts = (parts / parts.sum(1, keepdim=True)).to(x.dtype)
        mixed = functools.reduce(torch.add, (expand(parts[:, i], x) * chain for i, chain in enumerate(chains)))
        share = expand(rng.fold("share").uniform(dtype=x.dtype), x)
        view: Tensor = (1 - share) * x + share * mixed
        return view.clamp(0, 1)

    def _chain(self, x: Tensor, rng: Rng) -> Tensor:
        depth = 1 + rng.fold("depth").integers(_DEPTH)
        for place in range(_DEPTH):
            draw = rng.fold("operation").fold(place)
            # From the published 0.1 upwards, as a share of the full strength.
            level = (0.1 + (self.severity - 0.1) * draw.fold("level").uniform(dtype=x.dtype)) / 10
            sign = 2 * draw.fold("sign").integers(2).to(x.dtype) - 1
            choice = torch.where(place < depth, draw.fold("choice").integers(_OPERATIONS), -1)
            x = _operate(x, choice, level, sign)
        return x


def _operate(x: Tensor, choice: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Each picture under one of the operations, at a level (B,) from 0 to 1; a choice of -1 leaves it."""

    def turned(part: Tensor, index: Tensor, *, angle: float = 0, shear: int = -1, shift: int = -1) -> Tensor:
        strength = level[index] * sign[index]
        zero = torch.zeros_like(strength)
        shears = tuple(0.3 * strength if axis == shear else zero for axis in (0, 1))
        shifts = tuple(strength / 3 if axis == shift else zero for axis in (0, 1))
        return affine(part, angle * strength, (shears[0], shears[1]), (shifts[0], shifts[1]))

    operations: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda part, index: stretched(part),
        lambda part, index: equalised(part),
        lambda part, index: _posterised(part, level[index]),
        lambda part, index: solarised(part, 1 - level[index]),
        functools.partial(turned, angle=torch.pi / 6),
        functools.partial(turned, shear=0),
        functools.partial(turned, shear=1),
        functools.partial(turned, shift=0),
        functools.partial(turned, shift=1),
    ]
    return chosen(operations, choice, x)


def _posterised(x: Tensor, level: Tensor) -> Tensor:
    """Four bits less, at most: values rounded down to 2^(4 - 4 level) steps of 16 per unit."""
    step = expand(2 ** (4 + (4 * level).floor()), x)
    return ((x * 255).round() / step).floor() * step / 255
