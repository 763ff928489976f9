"""An attack is a value: it says where to look next, and the engine answers with what the model says there.

Nothing in an attack calls the model or writes a loop. A state is a NamedTuple of tensors whose first axis is the example;
``query`` is where the model is asked next. Every row belongs to one example, so the engine may drop rows, add rows and mix
rows that stand at different steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from advkit.core.goal import Goal, Untargeted, labels_of
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.errors import InputError
from advkit.registry import Checked

__all__ = ["Ascent", "Attack", "Ensemble", "Point", "Ranking", "State", "Tells", "check_bounded"]

Tells = Literal["gradient", "scores", "decisions"]
"""What an attack must be told about the model: the knowledge column of the attack table."""

Ranking = Literal["logits", "malt"]
"""The order in which rival classes are tried."""


class State(Protocol):
    """Any NamedTuple of trees with a ``query``."""

    @property
    def query(self) -> Tensor:
        """Where the model is asked next: (B, ...) or, for several probes at once, (B, P, ...)."""


class Point(NamedTuple):
    """The smallest state: a query and nothing to remember."""

    query: Tensor


class Ascent(NamedTuple):
    """What the model says at a query: loss (B,), logits (B, K) and, where the attack asked for it, grad like x.

    For a query with probes: loss (B, P), logits (B, P, K), no gradient.
    """

    loss: Tensor
    logits: Tensor
    grad: Tensor


class Attack(Checked, ABC):
    """A frozen value with ``first``, ``start`` and ``step``; calling it runs the engine's loop on tensors.

    Subclasses are frozen dataclasses with at least the fields ``threat`` and ``steps``.
    """

    threat: Ball
    steps: int
    loss: Loss = CrossEntropy()

    tells: ClassVar[Tells] = "gradient"
    balls: ClassVar[tuple[type[Ball], ...]] = (Ball,)
    """The threat models that the attack can work in."""
    probes: int = 1
    """Points asked at once for one example; the first probe of the last state is the one that is judged at the end."""
    views: int = 1
    """How often ``view`` is drawn for a query; loss and gradient are the mean over the views (EOT, Athalye et al. 2018)."""
    restarts: int = 1
    """Independent runs per example; a success ends them."""
    nested: bool = False
    """It searches the ball: what it leaves standing at a radius may be taken to stand at every smaller one. A single step
    does not search, and may miss at a large radius what it hits at a small one."""
    strays: bool = False
    """On its way it asks outside the ball, anywhere in the box: such a query is no violation and no success."""
    minimal: bool = False
    """It looks for the nearest adversarial picture, wherever in the box that leads it: queries outside the ball are no
    violation and no success; of those inside that reach the goal, the nearest counts. Its usual radius is infinite."""
    resumes: bool = False
    """As a stage of an ensemble it begins where the stages before it came nearest to a success, not at its own first point."""
    targets: int = 0
    """Rival classes tried in turn by losses that pull towards one, in the order of ``ranking``."""
    ranking: Ranking = "logits"
    """Which rivals come first: those of the highest clean ``logits``, or those that a linear model of the network reaches
    first: ``malt`` (Melamed et al. 2024)."""

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The first point, which a caller may replace by one of their own; here: the clean picture."""
        return x

    def again(self, best: Tensor, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The first point of a further restart, ``best`` being the best point so far; here: another ``first``."""
        return self.first(x, goal, rng)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> State:
        """The first state, given the first point."""
        return Point(first)

    @abstractmethod
    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """Where to go after the model's answer; ``rng`` is the step's own."""

    def gives_up(self, state: State) -> Tensor | None:
        """(B,) bool: this run of an example ends here, since its further steps would be for nothing; None: it never does."""
        return None

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """What the model is shown for a query: a differentiable map of it (input diversity, EOT). Here: the query.

        With ``views`` > 1 every query comes so many times, one after the other, each with a stream of its own.
        """
        return query

    def candidate(self, state: State) -> Tensor | None:
        """The point to be judged where it is not the query itself; None means that queries are judged."""
        return None

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        """What stands beside it in a table, by name, run once on the same examples; the first is the one that is shown.

        Whoever attacks with things (tape, shadows) owes the same thing at a random place: it says how much is the search's.
        """
        return ()

    def __call__(
        self,
        model: nn.Module | Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor | Sequence[int] | Goal,
        *,
        seed: int = 0,
        keep: Literal["first", "best", "last"] = "best",
        start: Tensor | None = None,
        batch_size: int | None = None,
        mode: Literal["eval", "train"] = "eval",
    ) -> Tensor:
        """Adversarial pictures for ``x`` (N, ...) in [0, 1] and labels ``y`` (N,), or a goal.

        ``keep`` says which iterate comes back: the ``best`` (all steps; highest loss among successes, else among all), the
        ``first`` success (an example stops there: the fast way, and that of ``evaluate``; one that is never beaten comes
        back at its highest loss), or the ``last`` (all steps, as other libraries do). ``start`` (N, ...) replaces the
        attack's own first point.
        ``mode`` is the model's while it is attacked: ``eval``, or ``train`` for the flags as the caller left them.
        The same example gets the same result alone and in any batch. Everything of the caller's stays as it was.
        Raises InputError where pictures, labels or ``start`` do not fit, ThreatViolation where the attack leaves its ball.
        """
        # The loop belongs to the engine, a layer above; a value that is also a function has to reach up for it once.
        from advkit.engine.call import attack_tensors

        goal = y if isinstance(y, Goal) else Untargeted(labels_of(y))
        return attack_tensors(self, model, x, goal, seed=seed, keep=keep, start=start, batch_size=batch_size, mode=mode)


@dataclass(frozen=True)
class Ensemble:
    """Attacks in a fixed order, each run on what the former left standing: one attack of many stages."""

    stages: tuple[tuple[str, Attack], ...]

    @property
    def threat(self) -> Ball:
        """The ball that all stages share."""
        return self.stages[0][1].threat


def check_bounded(attack: Attack | Ensemble) -> None:
    """Raise InputError where the radius is infinite and nothing looks for the nearest picture: that bounds nothing."""
    stages = [stage for _, stage in attack.stages] if isinstance(attack, Ensemble) else [attack]
    if attack.threat.eps == math.inf and not all(stage.minimal for stage in stages):
        raise InputError(
            "eps is inf, which bounds nothing; give a finite radius. Only attacks that look for the nearest adversarial "
            "picture, such as ddn, work without one."
        )


def no_gradient(like: Tensor) -> Tensor:
    """What stands in ``Ascent.grad`` for an attack that did not ask for gradients."""
    return torch.empty(0, dtype=like.dtype, device=like.device)
