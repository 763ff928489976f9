"""Salt: a few pixels set to white (255). The oldest way to show that a picture need not change much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, Point, State, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L0, Ball
from advkit.errors import InputError


def whiten(x: Tensor, white: Tensor) -> Tensor:
    """Pictures (B, C, H, W) with the pixels ``white`` (B, H * W) bool set to 1 in every channel."""
    return torch.where(white.reshape(len(x), 1, *x.shape[2:]), 1.0, x)


@dataclass(frozen=True)
class _Salt(Attack):
    threat: Ball = L0(10)
    loss: Loss = Margin()

    tells: ClassVar[Tells] = "scores"
    balls: ClassVar[tuple[type[Ball], ...]] = (L0,)

    def __post_init__(self) -> None:
        if not isinstance(self.threat, L0):
            raise InputError(f"{type(self).__name__} works in L0, where eps counts pixels, not in {self.threat.label}.")
        if self.steps < 1 or self.probes < 1:
            raise InputError(f"{type(self).__name__}: steps and probes must be 1 or more.")

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The clean picture, which must be one."""
        if x.ndim != 4:
            raise InputError(
                f"{type(self).__name__} sets pixels of pictures (N, C, H, W) to white; these are {tuple(x.shape)}."
            )
        return x


@ATTACKS.register("salt", paper="arXiv:1612.06299")
@dataclass(frozen=True)
class Salt(_Salt):
    """White dots at random places, drawn ``steps`` times (after Narodytska & Kasiviswanathan 2017)."""

    steps: int = 100

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The first draw."""
        x = super().first(x, goal, rng)
        order = rng.uniform(x[0, 0].numel())
        chosen = order.topk(int(self.threat.reach(x)), dim=1).indices
        return whiten(x, torch.zeros_like(order, dtype=torch.bool).scatter(1, chosen, True))

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        """Another draw, whatever the model said."""
        return Point(self.first(x, goal, rng))


class _Search(NamedTuple):
    query: Tensor  # (B, P, C, H, W): one more dot at each of P places
    places: Tensor  # (B, P)
    white: Tensor  # (B, H * W)


@ATTACKS.register("salt-greedy", paper="arXiv:1612.06299")
@dataclass(frozen=True)
class GreedySalt(_Salt):
    """White dots one by one, each at the best of ``probes`` places (greedy search of Narodytska & Kasiviswanathan 2017)."""

    probes: int = 32
    steps: int = field(default=0, init=False, repr=False)  # one for each dot

    nested: ClassVar[bool] = True  # type: ignore[misc]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", max(1, int(min(self.threat.eps, 1e6))))
        super().__post_init__()

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Search:
        """No dots yet, and P places to try."""
        return self._propose(x, torch.zeros(len(x), x[0, 0].numel(), dtype=torch.bool, device=x.device), rng)

    def step(self, state: _Search, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Search:  # type: ignore[override]
        """Keep the dot that raised the loss most, and try P others."""
        chosen = state.places.gather(1, at.loss.argmax(1, keepdim=True))
        return self._propose(x, state.white.scatter(1, chosen, True), rng)

    def candidate(self, state: _Search) -> Tensor | None:  # type: ignore[override]
        """Probes are judged as they are."""
        return None

    def _propose(self, x: Tensor, white: Tensor, rng: Rng) -> _Search:
        order = rng.uniform(white.shape[1]).masked_fill(white, -1.0)
        places = order.topk(min(self.probes, white.shape[1]), dim=1).indices
        none = white[:, None].expand(-1, places.shape[1], -1)
        more = white.sum(1) < self.steps  # with all dots placed, every probe is the final picture
        masks = torch.where(more[:, None, None], none.scatter(2, places[:, :, None], True), none)
        query = torch.where(masks.reshape(*masks.shape[:2], 1, *x.shape[2:]), 1.0, x[:, None])
        return _Search(query, places, white)
