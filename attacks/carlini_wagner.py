"""Carlini & Wagner: the margin and the distance in one objective, in a variable that cannot leave the box."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from advkit.attacks._adam import Moments, adam, still
from advkit.attacks._constant import Constant, begins, span_of
from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack, State
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.rng import Rng
from advkit.core.threat import L0, L2, Ball, Linf, pixels
from advkit.core.types import expand, tree_map
from advkit.errors import InputError

_INSIDE = 0.95  # of the range of tanh is the box: black and white lie at infinity otherwise, and hardly move
_LAST = 0.01  # of the step size is left at the end of a search
_TIGHTER = (
    0.1  # less than the largest change with which the goal is reached; half of that after a search in vain (Linf)
)
_PULL = 0.5  # of the margin at the steepest value, when an excess pulls back with 1 (Linf)
_STRIDE = 0.1  # of the limit: longer steps in w leave it all the time (Linf)
_KEPT = 0.5  # of the pixels, for the next search once the goal is reached with them (L0)


class _Variable(NamedTuple):
    """w with x = (tanh w / 0.95 + 1) / 2, and Adam's memory."""

    hidden: Tensor
    memory: Moments

    @classmethod
    def at(cls, x: Tensor) -> _Variable:
        """Where x is that."""
        hidden = torch.atanh((2 * x - 1) * _INSIDE)
        return cls(hidden, still(hidden))

    def shown(self) -> Tensor:
        """The picture."""
        return ((self.hidden.tanh() / _INSIDE + 1) / 2).clamp(0, 1)

    def down(self, grad: Tensor, lr: Tensor) -> _Variable:
        """One step of Adam down an objective with this gradient with respect to the picture; ``lr`` (B,)."""
        direction, memory = adam(grad * (1 - self.hidden.tanh().square()), self.memory)
        return _Variable(self.hidden - expand(lr.to(grad.dtype), grad) * direction, memory)


S = TypeVar("S", bound=State)


@dataclass(frozen=True)
class _Form(ABC, Generic[S]):
    """The attack in one norm."""

    attack: CarliniWagner

    @abstractmethod
    def start(self, first: Tensor, x: Tensor) -> S:
        """At the first point."""

    @abstractmethod
    def step(self, state: S, at: Ascent, x: Tensor, goal: Goal) -> S:
        """After the model's answer."""

    def counted(self, taken: Tensor) -> tuple[Tensor, Tensor]:
        """With so many steps taken (B,): whether a further search begins, and the step size within this one, which falls."""
        steps, searches = self.attack.steps, self.attack.searches
        span = span_of(steps, searches)
        return begins(taken, steps, searches), self.attack.lr * _LAST ** ((taken - 1) % span / span)


class _EuclidState(NamedTuple):
    query: Tensor
    variable: _Variable
    constant: Constant
    taken: Tensor  # (B,)


class _Euclid(_Form[_EuclidState]):
    """L2: |x' - x|^2 + c max(confidence - margin, 0), every search from the clean picture."""

    def start(self, first: Tensor, x: Tensor) -> _EuclidState:
        constant = Constant.first(len(x), self.attack.constant or 0.0, x.device)
        return _EuclidState(
            first, _Variable.at(first), constant, torch.zeros(len(x), dtype=torch.long, device=x.device)
        )

    def step(self, state: _EuclidState, at: Ascent, x: Tensor, goal: Goal) -> _EuclidState:
        taken, constant = state.taken + 1, state.constant
        short = at.loss < self.attack.confidence
        if self.attack.constant is None:
            constant = constant._replace(
                value=torch.where(state.taken == 0, _linear(at, self.attack.confidence), constant.value)
            )
        constant = constant._replace(hit=constant.hit | (goal.reached(at.logits) & ~short))
        pull = expand((constant.value * short).to(x.dtype), x) * at.grad
        starts, lr = self.counted(taken)
        variable = state.variable.down(2 * (state.query - x) - pull, lr)
        variable = _mixed(starts, _Variable.at(x), variable)
        return _EuclidState(variable.shown(), variable, constant.after(starts), taken)


class _TallState(NamedTuple):
    query: Tensor
    variable: _Variable
    best: Tensor
    tallest: Tensor  # (B,) the largest change of the best
    tighter: Tensor  # (B,) by how much less of it costs nothing
    constant: Tensor  # (B,)
    progress: Tensor  # (B,) bool: the limit fell in this search
    taken: Tensor


class _Tall(_Form[_TallState]):
    """Linf: c max(confidence - margin, 0) + sum max(|change| - tau, 0), with tau falling behind what is found."""

    def start(self, first: Tensor, x: Tensor) -> _TallState:
        one = torch.ones(len(x), dtype=torch.float64, device=x.device)
        constant = one * (self.attack.constant or 0.0)
        no = torch.zeros_like(one, dtype=torch.bool)
        return _TallState(first, _Variable.at(first), x, one, _TIGHTER * one, constant, no, no.long())

    def step(self, state: _TallState, at: Ascent, x: Tensor, goal: Goal) -> _TallState:
        taken, change = state.taken + 1, state.query - x
        tallest = self.attack.threat.distance(state.query, x)
        short = at.loss < self.attack.confidence
        hit = goal.reached(at.logits) & ~short & (tallest < state.tallest)
        best, progress = torch.where(expand(hit, x), state.query, state.best), state.progress | hit
        tallest = torch.where(hit, tallest, state.tallest)
        starts, lr = self.counted(taken)
        vain = starts & ~progress
        tighter = torch.where(vain, state.tighter / 2, state.tighter)
        constant = state.constant
        if self.attack.constant is None:
            # Where the margin pulls at a value far less than an excess does, Adam remembers the excess and hardly moves it.
            steepest = at.grad.double().flatten(1).abs().amax(1).clamp_min(1e-30)
            constant = torch.where(state.taken == 0, _PULL / steepest, constant)
        constant = torch.where(vain, 2 * constant, constant)
        limit = (1 - tighter) * tallest
        over = change.sign() * (change.abs() > expand(limit.to(x.dtype), x))
        pull = expand((constant * short).to(x.dtype), x) * at.grad
        variable = state.variable.down(over - pull, torch.minimum(lr, _STRIDE * limit))
        variable = _mixed(starts, _Variable.at(best), variable)
        return _TallState(variable.shown(), variable, best, tallest, tighter, constant, progress & ~starts, taken)


class _SparseState(NamedTuple):
    query: Tensor
    variable: _Variable
    best: Tensor  # the nearest success in L2 among those with the fewest pixels
    length: Tensor  # (B,) its
    worth: Tensor  # (B, pixels) what each pixel gained there
    kept: Tensor  # (B,) how many pixels moved there
    share: Tensor  # (B,) how many of them are to move next
    moves: Tensor  # (B, pixels) bool: may move in this search
    constant: Tensor  # (B,)
    hit: Tensor  # (B,) bool: this search has reached the goal
    taken: Tensor  # (B,)


class _Sparse(_Form[_SparseState]):
    """L0: the search in L2, again and again, with the pixels that gained least frozen."""

    def start(self, first: Tensor, x: Tensor) -> _SparseState:
        worth = torch.zeros_like(pixels(x))
        one = torch.ones(len(x), dtype=torch.float64, device=x.device)
        no = torch.zeros_like(one, dtype=torch.bool)
        every = torch.ones_like(worth, dtype=torch.bool)
        return _SparseState(
            query=first,
            variable=_Variable.at(first),
            best=x,
            length=torch.inf * one,
            worth=worth,
            kept=every.sum(1),
            share=_KEPT * one,
            moves=every,
            constant=(self.attack.constant or 0.0) * one,
            hit=no,
            taken=no.long(),
        )

    def step(self, state: _SparseState, at: Ascent, x: Tensor, goal: Goal) -> _SparseState:
        taken, change = state.taken + 1, state.query - x
        short = at.loss < self.attack.confidence
        reached = goal.reached(at.logits) & ~short
        constant = state.constant
        if self.attack.constant is None:
            constant = torch.where(state.taken == 0, _linear(at, self.attack.confidence), constant)
        length = change.double().flatten(1).norm(dim=1)
        nearer = reached & (~state.hit | (length < state.length))
        best = torch.where(expand(nearer, x), state.query, state.best)
        length = torch.where(nearer, length, state.length)
        worth = torch.where(nearer[:, None], pixels(at.grad * change), state.worth)
        kept = torch.where(nearer, state.moves.sum(1), state.kept)
        hit = state.hit | reached

        starts, lr = self.counted(taken)
        vain = starts & ~hit
        # With too few pixels the goal was not reached: some more of those that gained most, and more weight on the goal.
        share = torch.where(vain, state.share.sqrt(), state.share)
        constant = torch.where(vain, 10 * constant, constant)
        fewer = _highest(worth, (share * kept).long().clamp_min(1)) & (length < torch.inf)[:, None]
        moves = torch.where(starts[:, None] & fewer.any(1, keepdim=True), fewer, state.moves)
        free = moves.reshape(len(x), 1, *x.shape[2:]) if x.ndim == 4 else moves.reshape(x.shape)

        pull = expand((constant * short).to(x.dtype), x) * at.grad
        variable = state.variable.down((2 * change - pull) * free, lr)
        # Where nothing is found yet it goes on from where it is.
        variable = _mixed(starts & (length < torch.inf), _Variable.at(torch.where(free, best, x)), variable)
        query = torch.where(free, variable.shown(), x)
        return _SparseState(query, variable, best, length, worth, kept, share, moves, constant, hit & ~starts, taken)


def _highest(values: Tensor, count: Tensor) -> Tensor:
    """(B, D) bool: the ``count`` (B,) highest of each row."""
    rank = values.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < count[:, None]


def _linear(at: Ascent, confidence: float) -> Tensor:
    """Twice the constant (B,) from which on the objective in L2 has its minimum on the boundary of a linear model."""
    lack = (confidence - at.loss).double().clamp_min(1e-6)
    return 4 * lack / at.grad.double().flatten(1).square().sum(1).clamp_min(1e-30)


def _mixed(where: Tensor, new: _Variable, old: _Variable) -> _Variable:
    mixed: _Variable = tree_map(lambda a, b: torch.where(expand(where, a), a, b), new, old)
    return mixed


@ATTACKS.register("cw", paper="arXiv:1608.04644")
@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Carlini & Wagner (2017) in L2, Linf and L0: Adam on distance and margin, weighed by a searched constant.

    ``steps`` are all steps, shared among the ``searches``. In L2 every search starts at the clean picture with another
    constant, between the largest that failed and the smallest that did not. In Linf it starts at the best point, with twice the
    constant if the last one gained nothing. In L0 it has fewer pixels. Within a search the step size falls to a hundredth,
    which the paper leaves as it is.
    """

    threat: Ball = field(default=L2(math.inf))
    steps: int = 500
    searches: int = 5
    constant: float | None = None  # the first; None: by the gradient at the clean picture
    confidence: float = 0.0  # how far the margin is to be overreached
    lr: float = 0.1  # in w; it falls to a hundredth within a search
    loss: Loss = field(default=Margin(), init=False, repr=False)

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L2, Linf, L0)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, searches=1)
        if self.constant is not None and not 0 < self.constant < math.inf:
            raise InputError(
                f"CarliniWagner: constant is {self.constant}; give a number above 0, or None to estimate it."
            )
        if not 0 <= self.confidence < math.inf:
            raise InputError(f"CarliniWagner: confidence is {self.confidence}; give a margin of 0 or more.")
        if not 0 < self.lr < math.inf:
            raise InputError(f"CarliniWagner: lr is {self.lr}; give a step size above 0, for example 0.01.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> State:
        """As the norm has it."""
        state: State = _FORMS[type(self.threat)](self).start(first, x)
        return state

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """As the norm has it."""
        following: State = _FORMS[type(self.threat)](self).step(state, at, x, goal)
        return following


_FORMS: dict[type[Ball], type[_Form]] = {L2: _Euclid, Linf: _Tall, L0: _Sparse}  # type: ignore[type-arg]
