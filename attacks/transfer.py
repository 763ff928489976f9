"""Iterative FGSM with other directions, made to carry over to unknown models: PGD with a setting fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_least
from advkit.attacks.pgd import PGD
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent
from advkit.core.directions import Chain, Direction, Diverse, Momentum, Nesterov, Smooth
from advkit.core.goal import Goal
from advkit.core.rng import Rng
from advkit.core.threat import L2, Ball, Linf
from advkit.core.types import Tree, expand
from advkit.errors import InputError


@dataclass(frozen=True)
class _FromClean(PGD):
    steps: int = 10
    step_size: float | None = 0.1
    random_start: bool = field(default=False, init=False, repr=False)


@ATTACKS.register("mi-fgsm", paper="arXiv:1710.06081")
@dataclass(frozen=True)
class MIFGSM(_FromClean):
    """Momentum iterative FGSM (Dong et al. 2018)."""

    direction: Direction = field(default=Momentum(), init=False, repr=False)


@ATTACKS.register("ni-fgsm", paper="arXiv:1908.06281")
@dataclass(frozen=True)
class NIFGSM(_FromClean):
    """Nesterov iterative FGSM (Lin et al. 2020)."""

    direction: Direction = field(default=Nesterov(), init=False, repr=False)


@ATTACKS.register("ti-fgsm", paper="arXiv:1904.02884")
@dataclass(frozen=True)
class TIFGSM(_FromClean):
    """Translation-invariant iterative FGSM with momentum (Dong et al. 2019)."""

    direction: Direction = field(default=Chain((Smooth(), Momentum())), init=False, repr=False)


@ATTACKS.register("di-fgsm", paper="arXiv:1803.06978")
@dataclass(frozen=True)
class DIFGSM(_FromClean):
    """Diverse-input iterative FGSM with momentum (Xie et al. 2019)."""

    direction: Direction = field(default=Chain((Diverse(), Momentum())), init=False, repr=False)


@ATTACKS.register("si-fgsm", paper="arXiv:1908.06281")
@dataclass(frozen=True)
class SIFGSM(_FromClean):
    """Scale-invariant iterative FGSM with Nesterov momentum (Lin et al. 2020).

    The gradient is the mean over ``copies`` darker copies of the picture, x / 2^i.
    """

    copies: int = 5
    direction: Direction = field(default=Nesterov(), init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, copies=1)

    @property
    def views(self) -> int:  # type: ignore[override]
        """One for each copy."""
        return self.copies

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """Each copy at its own scale."""
        number = torch.arange(len(query), device=query.device) % self.copies
        return query * expand(torch.pow(0.5, number.to(query.dtype)), query)


class _Tuned(NamedTuple):
    query: Tensor  # (B, 2C, ...): where the gradient is taken, and the same again, around which neighbours are drawn
    x_adv: Tensor
    momentum: Tree
    variance: Tensor  # the neighbours' mean gradient of the step before, less the one at the point itself


@ATTACKS.register("vmi-fgsm", paper="arXiv:2103.15571")
@dataclass(frozen=True)
class VMIFGSM(_FromClean):
    """Momentum iterative FGSM with its gradient tuned by that of the neighbourhood (Wang & He 2021).

    ``neighbours`` are drawn in each step from the ball of ``beta`` times eps, cut by the box.
    """

    neighbours: int = 5
    beta: float = 1.5  # radius of the neighbourhood in eps
    direction: Direction = field(default=Momentum(), init=False, repr=False)

    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, neighbours=1)
        if not self.beta > 0:
            raise InputError(f"VMIFGSM: beta is {self.beta}; give the neighbourhood's radius in eps, above 0.")

    @property
    def views(self) -> int:  # type: ignore[override]
        """The point itself and its neighbours."""
        return 1 + self.neighbours

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Tuned:  # type: ignore[override]
        """No momentum and no variance yet."""
        return _Tuned(torch.cat([first, first], 1), first, self.direction.memory(x), torch.zeros_like(x))

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """Of a query's views the first shows its first half, the others neighbours of its second half.

        So the two gradients come back apart, each in its own half, for the price of one pass a point.
        """
        point, centre = query.chunk(2, 1)
        around = centre.detach()
        ball = type(self.threat)
        near = ball(min(self.beta * self.threat.reach(around), ball(math.inf).reach(around)))
        neighbour = centre + (near.random_point(around, rng) - around)
        own = torch.arange(len(query), device=query.device) % self.views == 0
        return torch.where(expand(own, point), point, neighbour)

    def step(self, state: _Tuned, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Tuned:  # type: ignore[override]
        """Up the momentum of the gradient plus the variance of the step before."""
        own, around = at.grad.chunk(2, 1)
        grad, mean = own * self.views, around * (self.views / self.neighbours)  # each half is a mean over all views
        ascent, momentum = self.direction.ascent(grad + state.variance, state.momentum)
        length = self.stride * self.threat.reach(x)
        x_adv = self.threat.project(state.x_adv + length * self.threat.steepest(ascent, state.x_adv), x)
        return _Tuned(torch.cat([x_adv, x_adv], 1), x_adv, momentum, mean - grad)

    def candidate(self, state: _Tuned) -> Tensor:  # type: ignore[override]
        """The iterate."""
        return state.x_adv
