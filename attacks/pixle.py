"""Pixle: pixels of the picture itself, copied to other places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Tells
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import L0, Ball
from advkit.core.types import expand
from advkit.errors import InputError


class _Search(NamedTuple):
    query: Tensor  # (B, P, C, H, W)
    best: Tensor
    height: Tensor  # (B,) its loss
    left: Tensor  # (B,) steps


@ATTACKS.register("pixle", paper="arXiv:2202.02236")
@dataclass(frozen=True)
class Pixle(Attack):
    """Pixels of a small patch of the picture copied to random places, the best of some tries kept (Pomponi et al. 2022).

    A step tries ``probes`` patches, each with sides drawn from 1 to ``side``, and keeps the best if it is better than
    what there is. The ball bounds the pixels that change in all: once it is full, only changed ones change again. The
    paper, which has no such bound, calls steps restarts and tries iterations; its mapping is the random one.
    """

    threat: Ball = L0(50)
    steps: int = 100
    probes: int = 10
    side: int = 4  # longest side of a patch, in pixels
    loss: Loss = CrossEntropy()

    tells: ClassVar[Tells] = "scores"
    nested: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L0,)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, probes=1, side=1)

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The clean picture, which must be one."""
        if x.ndim != 4:
            raise InputError(f"Pixle moves pixels of pictures (N, C, H, W); these are {tuple(x.shape)}.")
        return x

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Search:
        """The first tries."""
        low = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        left = torch.full((len(x),), self.steps, device=x.device)
        return _Search(self._tries(first, x, rng), first, low, left)

    def step(self, state: _Search, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Search:  # type: ignore[override]
        """Keep the best try if it is better, and try again from there."""
        top, place = at.loss.max(1)
        seen = state.query[torch.arange(len(x), device=x.device), place]
        best = torch.where(expand(top > state.height, x), seen, state.best)
        left = state.left - 1
        # What stands here when the steps are spent is judged: it must not be one more draw.
        query = torch.where(expand(left <= 0, state.query), best[:, None], self._tries(best, x, rng))
        return _Search(query, best, torch.maximum(top, state.height), left)

    def _tries(self, base: Tensor, x: Tensor, rng: Rng) -> Tensor:
        """(B, P, C, H, W): ``base`` with the pixels of a patch of ``x`` at random places, drawn P times."""
        flat = base.flatten(2)
        changed = (base != x).any(1).flatten(1)
        source, valid = self._patch(x, rng)
        place = self._places(changed, x, source.shape[2], rng)

        free = (self._room(x) - changed.sum(1))[:, None, None]
        same = (place[..., :, None] == place[..., None, :]) & valid[..., None, :]
        first = valid & (same.to(torch.uint8).argmax(-1) == torch.arange(place.shape[2], device=x.device))
        fresh = first & ~changed[:, None].expand(-1, self.probes, -1).gather(2, place)
        active = first & (~fresh | (fresh.cumsum(2) <= free))
        same = (place[..., :, None] == place[..., None, :]) & active[..., None, :]
        giver = same.to(torch.uint8).argmax(-1)

        into = place[:, :, None].expand(-1, -1, x.shape[1], -1)
        shown = flat[:, None].expand(-1, self.probes, -1, -1)
        clean = x.flatten(2)[:, None].expand(-1, self.probes, -1, -1)
        given = clean.gather(3, source.gather(2, giver)[:, :, None].expand_as(into))
        # Slots of one place write one value, so that their order does not matter.
        value = torch.where(same.any(-1)[:, :, None], given, shown.gather(3, into))
        return shown.scatter(3, into, value).reshape(len(x), self.probes, *x.shape[1:])

    def _patch(self, x: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """The pixels of P patches, (B, P, slots), and which of the slots hold one."""
        begin, held = [], []
        for axis, extent in zip("yx", x.shape[2:], strict=True):
            most = min(self.side, extent)
            side = 1 + rng.fold(f"side {axis}").integers(most, self.probes)
            at = (rng.fold(f"corner {axis}").uniform(self.probes, dtype=torch.float64) * (extent - side + 1)).long()
            offset = torch.arange(most, device=x.device)
            begin.append((at[..., None] + offset).clamp_max(extent - 1))
            held.append(offset < side[..., None])
        source = begin[0][..., :, None] * x.shape[3] + begin[1][..., None, :]
        return source.flatten(2), (held[0][..., :, None] & held[1][..., None, :]).flatten(2)

    def _places(self, changed: Tensor, x: Tensor, slots: int, rng: Rng) -> Tensor:
        """Where the pixels go, (B, P, slots): anywhere, or where the ball is full among the ``changed`` (B, pixels)."""
        count = changed.sum(1)
        full = count >= self._room(x)
        number = torch.where(full, count, changed.shape[1])
        drawn = rng.fold("place").integers(number, self.probes, slots)
        order = changed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        among = order[:, None].expand(-1, self.probes, -1).gather(2, drawn)
        return torch.where(full[:, None, None], among, drawn)

    def _room(self, x: Tensor) -> int:
        return int(self.threat.reach(x))
