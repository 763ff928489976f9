"""Projected gradient ascent, and the single-step and plain iterative methods that are settings of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.directions import Direction, Plain
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.core.types import Tree
from advkit.errors import InputError

# Length of the whole walk in eps. What a random start in an L2 ball has across the gradient dies like exp(-walk): after 2.5,
# the habit since Madry et al. 2018, PGD is 1.5 % short of the optimum of a linear model; after 4, a tenth of that.
_PATH = 4.0


class _Walk(NamedTuple):
    query: Tensor
    x_adv: Tensor
    memory: Tree


@ATTACKS.register("pgd", paper="arXiv:1706.06083")
@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent from a random point of the ball (Madry et al. 2018)."""

    threat: Ball = Linf(8 / 255)
    steps: int = 40
    step_size: float | None = None  # fraction of eps; None is 4 / steps
    loss: Loss = CrossEntropy()
    direction: Direction = Plain()
    random_start: bool = True
    restarts: int = 1
    targets: int = 0

    balls: ClassVar[tuple[type[Ball], ...]] = (Linf, L2, L1)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, restarts=1, targets=0)
        if self.step_size is not None and not self.step_size > 0:
            raise InputError(
                f"{type(self).__name__}: step_size is {self.step_size}; give a fraction of eps above 0, for example 0.1."
            )

    @property
    def nested(self) -> bool:  # type: ignore[override]
        """Several steps search, a single one does not."""
        return self.steps > 1

    @property
    def stride(self) -> float:
        """Length of a step as a fraction of eps."""
        return _PATH / self.steps if self.step_size is None else self.step_size

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """A random point of the ball, or the clean picture."""
        return self.threat.random_point(x, rng) if self.random_start else x

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        """The walk begins at the first point."""
        return _Walk(first, first, self.direction.memory(x))

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:  # type: ignore[override]
        """Up the direction by one stride, back into the ball."""
        length = self.stride * self.threat.reach(x)
        ascent, memory = self.direction.ascent(at.grad, state.memory)
        x_adv = self.threat.project(state.x_adv + length * self.threat.steepest(ascent, state.x_adv), x)
        return _Walk(self.direction.ahead(x_adv, memory, length), x_adv, memory)

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """As the direction has it."""
        return self.direction.view(query, rng)

    def candidate(self, state: _Walk) -> Tensor | None:  # type: ignore[override]
        """The iterate, where the direction asks elsewhere."""
        return state.x_adv if self.direction.judged_apart else None


@ATTACKS.register("fgsm", paper="arXiv:1412.6572")
@dataclass(frozen=True)
class FGSM(PGD):
    """Fast gradient sign method (Goodfellow et al. 2015): one step of length eps from the clean picture."""

    steps: int = field(default=1, init=False, repr=False)
    step_size: float | None = field(default=1.0, init=False, repr=False)
    random_start: bool = field(default=False, init=False, repr=False)


@ATTACKS.register("rs-fgsm", paper="arXiv:2001.03994")
@dataclass(frozen=True)
class RandomStartFGSM(PGD):
    """Random-start FGSM (Wong et al. 2020): one step of length 1.25 eps from a random point of the ball."""

    steps: int = field(default=1, init=False, repr=False)
    step_size: float | None = field(default=1.25, init=False, repr=False)
    random_start: bool = field(default=True, init=False, repr=False)


@ATTACKS.register("bim", paper="arXiv:1607.02533")
@dataclass(frozen=True)
class BIM(PGD):
    """Basic iterative method (Kurakin et al. 2017): PGD from the clean picture."""

    steps: int = 10
    step_size: float | None = 0.2
    random_start: bool = field(default=False, init=False, repr=False)
