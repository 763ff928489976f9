"""One attack for all renderers: parameters are searched by their scores, or climbed by the gradient of the soft picture."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._controls import background
from advkit.attacks._renderer import Canvas, Renderer
from advkit.attacks._search import SEARCHES, Memory, Optimiser, Search
from advkit.attacks._settings import check_ball, check_least
from advkit.core.attack import Ascent, Attack, State, Tells
from advkit.core.goal import Goal
from advkit.core.losses import Loss, Margin
from advkit.core.regions import Area
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["Parametric"]

_RATE = 0.03  # Adam's, in shares of the range of a parameter
_CLIMB = 20  # steps of it
_MEAN, _SPREAD = 0.9, 0.99  # Adam's decays


class _Quest(NamedTuple):
    query: Tensor  # (B, P, C, H, W)
    memory: Memory
    canvas: Canvas
    best: Tensor
    height: Tensor
    left: Tensor  # (B,) generations


class _Climb(NamedTuple):
    query: Tensor  # theta, the clean picture and the canvas, one below the other
    shown: Tensor
    canvas: Canvas
    theta: Tensor  # (B, D)
    mean: Tensor
    spread: Tensor
    age: Tensor  # (B,)


@dataclass(frozen=True)
class Parametric(Attack):
    """Searches the parameters of a renderer with ``queries`` forward passes per example, each run's verdict apart.

    Scores are enough, but for the optimiser ``gradient``, whose steps take two forward passes and a backward pass each.
    """

    threat: Ball = Area(0.05)
    queries: int = 300
    optimiser: Optimiser = "hill-climb"
    population: int | None = None  # vectors of a generation; None is what is usual for the optimiser
    restarts: int = 1
    loss: Loss = Margin()
    probes: int = field(default=1, init=False, repr=False)
    steps: int = field(default=1, init=False, repr=False)

    tells: ClassVar[Tells] = "scores"
    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    @property
    @abstractmethod
    def renderer(self) -> Renderer:
        """What draws."""

    @property
    def search(self) -> Search:
        """What searches."""
        return SEARCHES[self.optimiser]

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_ball(self)
        if self.optimiser != "gradient" and self.optimiser not in SEARCHES:
            raise InputError(f"{name}: optimiser is {self.optimiser!r}; allowed: {', '.join(SEARCHES)}, gradient.")
        check_least(self, queries=1, restarts=1)
        climbing = self.optimiser == "gradient"
        if climbing and not self.renderer.differentiable:
            raise InputError(f"{name} has no gradient; give another optimiser: {', '.join(SEARCHES)}.")
        least = 1 if climbing else self.search.least
        many = self.population if self.population is not None else 1 if climbing else self.search.usual
        if many < least or (climbing and many != 1):
            allowed = "1" if climbing else f"{least} or more"
            raise InputError(f"{name}: population is {many}; the optimiser {self.optimiser} takes {allowed}.")
        cost = 2 if climbing else many
        if cost > self.queries:
            raise InputError(
                f"{name}: queries is {self.queries}, and one generation of {self.optimiser} takes {cost}; "
                "give more queries or a smaller population."
            )
        object.__setattr__(self, "probes", many)
        object.__setattr__(self, "steps", self.queries // cost)
        if climbing:
            object.__setattr__(self, "tells", "gradient")

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        """The same thing drawn once at random, and what says nothing but that something is there."""
        once: Attack = replace(self, optimiser="random", queries=1, population=1, restarts=1)
        return (("random", once), background(self.threat))

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        """The clean picture, which must be one; parameters are drawn at the start."""
        if x.ndim != 4:
            raise InputError(f"{type(self).__name__} draws on pictures (N, C, H, W); these are {tuple(x.shape)}.")
        return x

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> State:
        """Parameters drawn uniformly."""
        canvas, moves = self.renderer.canvas(x, self.threat), self.renderer.moves(x)
        drawn = rng.fold("theta").uniform(self.probes, len(moves.stride), dtype=x.dtype)
        if self.optimiser == "gradient":
            theta = drawn[:, 0]
            zero = torch.zeros_like(theta)
            return _Climb(
                _packed(theta, x, canvas), self._shown(theta, x, canvas), canvas, theta, zero, zero, zero[:, 0]
            )
        memory = self.search.begin(drawn, moves, self.steps, rng.fold("search"))
        query = self.renderer.render(memory.theta, x, canvas, self.threat)
        left = torch.full((len(x),), self.steps, device=x.device)
        return _Quest(query, memory, canvas, x, torch.full_like(x[:, 0, 0, 0], -torch.inf), left)

    def step(self, state: Any, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:
        """One generation, or one step up the gradient."""
        if isinstance(state, _Climb):
            return self._climbed(state, at, x, rng)
        top, place = at.loss.max(1)
        better = top > state.height
        seen = state.query[torch.arange(len(x), device=x.device), place]
        best = torch.where(expand(better, x), seen, state.best)
        memory = self.search.tell(state.memory, at.loss, self.renderer.moves(x), rng)
        query = self.renderer.render(memory.theta, x, state.canvas, self.threat)
        left = state.left - 1
        # What stands here when the queries are spent is judged: it must not be one more draw.
        query = torch.where((left <= 0)[:, None, None, None, None], best[:, None], query)
        return _Quest(query, memory, state.canvas, best, torch.maximum(top, state.height), left)

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """The soft picture of the parameters in the query."""
        if self.optimiser != "gradient":
            return query
        theta, below = _unpacked(query, len(self.renderer.moves(query).stride))
        clean, *canvas = below.detach().chunk(1 + self.renderer.layers, 2)
        return self.renderer.soft(theta[:, None], clean, tuple(canvas), self.threat)[:, 0]

    def candidate(self, state: Any) -> Tensor | None:
        """Of the climb, the picture with its hard edges."""
        return state.shown if isinstance(state, _Climb) else None

    def _climbed(self, state: _Climb, at: Ascent, x: Tensor, rng: Rng) -> _Climb:
        """A step of Adam (Kingma & Ba 2015) in the parameters; after a while a new climb from other parameters."""
        size = state.theta.shape[1]
        grad = _unpacked(at.grad, size)[0]
        grad = grad / grad.abs().amax(1, keepdim=True).clamp_min(torch.finfo(grad.dtype).tiny)
        age = state.age + 1
        mean = _MEAN * state.mean + (1 - _MEAN) * grad
        spread = _SPREAD * state.spread + (1 - _SPREAD) * grad.square()
        direct = mean / (1 - _MEAN**age)[:, None]
        theta = state.theta + _RATE * direct / ((spread / (1 - _SPREAD**age)[:, None]).sqrt() + 1e-8)
        theta = torch.where(self.renderer.moves(x).wraps, theta % 1, theta.clamp(0, 1))
        over = (age >= _CLIMB)[:, None]  # most hills of a hard-edged thing are low
        theta = torch.where(over, rng.fold("theta").uniform(size, dtype=x.dtype), theta)
        mean, spread = mean.masked_fill(over, 0), spread.masked_fill(over, 0)
        age = age.masked_fill(over[:, 0], 0)
        shown = self._shown(theta, x, state.canvas)
        return _Climb(_packed(theta, x, state.canvas), shown, state.canvas, theta, mean, spread, age)

    def _shown(self, theta: Tensor, x: Tensor, canvas: Canvas) -> Tensor:
        return self.renderer.render(theta[:, None], x, canvas, self.threat)[:, 0]


def _packed(theta: Tensor, x: Tensor, canvas: Canvas) -> Tensor:
    """Parameters (B, D) in rows above the clean picture and the canvas: a view is given its query and nothing else."""
    _, channels, _, width = x.shape
    rows = math.ceil(theta.shape[1] / (channels * width))
    room = theta.new_zeros(len(x), channels * rows * width)
    room[:, : theta.shape[1]] = theta
    return torch.cat([room.reshape(len(x), channels, rows, width), x, *canvas], 2)


def _unpacked(query: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Parameters (B, D) and what lies below them."""
    rows = math.ceil(size / (query.shape[1] * query.shape[3]))
    return query[:, :, :rows].flatten(1)[:, :size], query[:, :, rows:]
