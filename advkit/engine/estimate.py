"""What a cell of a sweep costs: passes counted from what its attacks declare, seconds from passes that are timed here.

What an attack costs depends most on how many examples stand: one that falls takes a few steps, one that stands takes all. So a
plan that is to be told attacks a few pictures for a second and counts who stands. Two figures come of it: what is likely, and
what it comes to at most, where every example takes every step at every radius.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from advkit.catalog import ATTACKS
from advkit.core.attack import Attack
from advkit.core.external import External
from advkit.core.fitted import Fitted
from advkit.core.goal import Untargeted
from advkit.core.modes import borrowed, reseeded
from advkit.core.rng import Rng, identify
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.data import Data, Subset
from advkit.engine.evaluate import without_attack
from advkit.engine.examples import Progress, Source
from advkit.engine.passes import Passes, device_of
from advkit.engine.precision import Precision
from advkit.engine.search import Found, search
from advkit.errors import ModelError

__all__ = ["Cost", "Effort", "Kind", "Odds", "Outlook", "Pace", "effort_of", "threads_of", "time_passes", "try_out"]

_FALLS = 0.1  # of its steps, what an attack takes of an example that falls, and one more
_PATIENCE = 1.25  # times its patience, what it takes of one that it gives up
_STEP = 0.002  # seconds of a step of an attack beside what the model takes
_CALLS, _TIMING = 6, 0.3  # calls that are timed, unless they take more seconds
_TRIAL_STEPS = 10
_TRIAL_PICTURES = (8, 32)
_UNKNOWN = 100  # passes of an attack of another library that does not say


Kind = Literal["apart", "ladder", "nearest", "all"]
"""How radii are met: ``apart`` from each other, one after the other on a ``ladder``, all by one search for the ``nearest``
picture, or with ``all`` steps for every example, since what comes out is shown to another model."""


@dataclass(frozen=True)
class Cost:
    """Passes of one example each, and the seconds they take on this machine, one worker."""

    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0

    @property
    def passes(self) -> float:
        """Both kinds together."""
        return self.forwards + self.backwards

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forwards + other.forwards, self.backwards + other.backwards, self.seconds + other.seconds)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.forwards * times, self.backwards * times, self.seconds * times)

    def slower(self, times: float) -> Cost:
        """The same passes in so many times the seconds."""
        return Cost(self.forwards, self.backwards, self.seconds * times)


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes for a call and for each example in it, without and with a backward pass."""

    call: float
    each: float
    gradient_call: float
    gradient_each: float
    batch: int  # examples of a call, at most
    least: int  # and at least: smaller ones are filled up
    classes: int

    def cost(self, rounds: float, forwards: float, backwards: float) -> Cost:
        """So many passes in at least so many rounds, in each of which the model is called once for all examples."""
        seconds = rounds * _STEP
        for rows, call, each in (
            (backwards, self.gradient_call, self.gradient_each),
            (max(0.0, forwards - backwards), self.call, self.each),
        ):
            # A round has a call of each kind only if it asks for it; of few passes there are as few calls.
            calls = min(max(rounds, rows / self.batch), rows)
            seconds += calls * call + max(rows, calls * self.least) * each
        return Cost(forwards, backwards, seconds)


@dataclass(frozen=True)
class Odds:
    """Of all examples, the share that is right without attack and, by radius, that stands; by a trial of ``pictures``."""

    clean: float = 1.0
    stands: Mapping[str, float] = field(default_factory=dict)
    pictures: int = 0
    """On how many it was tried; 0: it was not."""
    drag: float = 1.0
    """How many times as long as the passes say the trial took: what an attack does beside them, and a busy machine."""

    def at(self, radii: Sequence[str]) -> list[float]:
        """The share that stands at each radius; without a trial, half of what is right."""
        return [min(self.clean, self.stands.get(radius, self.clean / 2)) for radius in radii]


@dataclass(frozen=True)
class Effort:
    """A stage of an attack as work: what a step asks, and how many steps there are."""

    kind: Kind
    forwards: float  # of a step
    backwards: float
    steps: int  # of all restarts and targets
    stood: float  # taken, where the example stands
    fell: float  # where it falls
    searches: bool = True  # who falls under other attacks falls under this one
    once: tuple[float, float] = (0.0, 0.0)  # forwards and backwards of an example before the first step
    fit: tuple[float, float] = (0.0, 0.0)  # of a cell, at each radius

    def cost(self, pace: Pace, count: int, meets: Sequence[float], stands: Sequence[float]) -> Cost:
        """Of a task with so many examples, of which these shares are met and left standing at each radius."""
        if self.kind == "nearest":
            met = count * max(meets)
            return self._spent(pace, met * self.steps, self.steps if met else 0, met, met * len(meets))
        if self.kind == "ladder":
            # Who falls goes down the ladder; only the last search of an example, where it stands, takes all steps.
            falls = sum(met - left for met, left in zip(meets, stands, strict=True))
            steps = count * (stands[0] * self.stood + falls * self.fell)
            rounds = _any(stands[0], count) * self.stood + len(meets) * self.fell * _any(falls, count)
            rounds = min(rounds, self.steps * len(meets))
            return self._spent(pace, steps, rounds, count * max(meets), count * (max(meets) + 2 * falls))
        whole = Cost()
        for met, left in zip(meets, stands, strict=True):
            stays = left if self.searches and self.kind == "apart" else met
            steps = count * (stays * self.stood + (met - stays) * self.fell)
            rounds = max(_any(stays, count) * self.stood, self.fell * _any(met - stays, count))
            whole += self._spent(pace, steps, rounds, count * met, count * met)
        return whole

    def most(self, pace: Pace, count: int, radii: int) -> Cost:
        """Where every example takes every step at every radius."""
        times = 1 if self.kind == "nearest" else radii
        steps, rounds = count * self.steps * times, float(self.steps * times)
        return self._spent(pace, steps, rounds, count * times, 2 * count * radii)

    def _spent(self, pace: Pace, steps: float, rounds: float, begun: float, verdicts: float) -> Cost:
        forwards = steps * self.forwards + begun * self.once[0] + verdicts
        backwards = steps * self.backwards + begun * self.once[1]
        return pace.cost(rounds, forwards, backwards)


@dataclass(frozen=True)
class Outlook:
    """What is known of a cell's cost before it is done."""

    efforts: tuple[Effort, ...]  # stage by stage; none: without attack
    radii: tuple[str, ...]
    pace: Pace  # of the model that is asked
    shard: int
    shown: Pace | None = None  # of the model that is shown what was made on another one
    known: bool = False  # it is made for another cell before this one, and is at hand

    def stages(self, count: int, odds: Odds) -> list[Cost]:
        """What each stage is likely to take of a task with so many examples."""
        if not self.efforts:
            return [self.pace.cost(math.ceil(count / self.pace.batch), count, 0).slower(odds.drag)]
        meets, stands = [odds.clean] * len(self.radii), odds.at(self.radii)
        found = []
        for number, effort in enumerate(self.efforts):
            cost = effort.cost(self.pace, count, stands if number else meets, stands)
            if self.known:  # its passes are counted as if it were made again
                cost = cost.slower(0.0)
            found.append((cost + self._showing(count)).slower(odds.drag))
        return found

    def likely(self, samples: int, odds: Odds) -> Cost:
        """What is to be expected."""
        tasks, count = _cut(samples, self.shard)
        whole = sum(self.stages(count, odds), Cost()) * tasks
        return whole + self._fits(self.pace).slower(odds.drag)

    def most(self, samples: int, odds: Odds) -> Cost:
        """What it comes to where every example takes every step."""
        if not self.efforts:
            return self.likely(samples, odds)
        tasks, count = _cut(samples, self.shard)
        each = (effort.most(self.pace, count, len(self.radii)) + self._showing(count) for effort in self.efforts)
        return (sum(each, Cost()) * tasks + self._fits(self.pace)).slower(odds.drag)

    def _showing(self, count: int) -> Cost:
        if self.shown is None:
            return Cost()
        return self.shown.cost(len(self.radii), count * len(self.radii), 0)

    def _fits(self, pace: Pace) -> Cost:
        each = (pace.cost(effort.fit[1] / pace.batch, *effort.fit) for effort in self.efforts)
        return sum(each, Cost()) * len(self.radii)


def effort_of(attack: Attack, x: Tensor, classes: int, kind: Kind) -> Effort:
    """What a stage asks of a model, told by its first state on a picture x (1, ...)."""
    if isinstance(attack, Fitted):
        fit = attack.steps * attack.batch
        return Effort(kind, 1, 0, attack.restarts, attack.restarts, attack.restarts, fit=(fit + attack.pictures, fit))
    if isinstance(attack, External):
        said = [value for key, value in attack.settings if ("step" in key or "iter" in key) and type(value) is int]
        steps = max(said, default=_UNKNOWN)
        return Effort(kind, 1, float(attack.tells == "gradient"), steps, steps, steps)
    branches = max(1, attack.restarts) * max(1, min(attack.targets, classes - 1))
    steps = max(0, attack.steps)
    patience = min(steps, _PATIENCE * int(getattr(attack, "patience", 0))) or steps
    forwards, probed = _asked(attack, x)
    ranking = (0.0, 0.0)
    if attack.targets:
        slopes = min(max(100, attack.targets), classes - 1) if attack.ranking == "malt" else 0
        ranking = (1.0 + slopes, float(slopes))
    return Effort(
        kind="all" if kind == "all" and attack.tells == "gradient" else "apart" if kind == "all" else kind,
        forwards=forwards,
        backwards=float(attack.views if attack.tells == "gradient" and not probed else 0),
        steps=steps * branches,
        stood=patience * branches,
        fell=min(steps, 1 + _FALLS * steps),
        searches=attack.nested or attack.tells == "gradient",
        once=ranking,
    )


def _asked(attack: Attack, x: Tensor) -> tuple[float, bool]:
    """Forward passes of a step of one example, and whether they are probes."""
    goal, rng = Untargeted(torch.zeros(1, dtype=torch.long, device=x.device)), Rng.of(0, identify(x))
    state = attack.start(attack.first(x, goal, rng), x, goal, rng)
    if state.query.ndim > x.ndim:
        return float(state.query.shape[1]), True
    return float(attack.views + (attack.candidate(state) is not None)), False


def time_passes(model: nn.Module, x: Tensor, batch: int, least: int, classes: int) -> Pace:
    """The pace of a model that has answered x (B, ...) before, by calls of two sizes."""
    few = max(1, len(x) // 4)
    forward, gradient = ([_seconds(ask, model, x[:size]) for size in (few, len(x))] for ask in (_forward, _both))
    (call, each), (gradient_call, gradient_each) = (_line(few, len(x), *times) for times in (forward, gradient))
    return Pace(call, each, gradient_call, gradient_each, batch, least, classes)


def _forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def _both(model: nn.Module, x: Tensor) -> None:
    points = x.clone().requires_grad_()
    with suppress(RuntimeError):  # a model without a gradient is for attacks that need none
        torch.autograd.grad(model(points.clone()).amax(1).sum(), points)


def _seconds(ask: Callable[[nn.Module, Tensor], None], model: nn.Module, x: Tensor) -> float:
    """Of a call in the middle of a few: the first one loads and allocates, and other programs may be at work."""
    took: list[float] = []
    while len(took) < _CALLS and (len(took) < 2 or sum(took) < _TIMING):
        began = time.perf_counter()
        ask(model, x)
        if x.is_cuda:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return median(took[1:])


def _line(few: int, many: int, short: float, long: float) -> tuple[float, float]:
    """Seconds of a call and of each example, by calls of two sizes; noise must not make either of them nothing."""
    each = long / many if many == few else max((long - short) / (many - few), 0.25 * long / many)
    return max(0.0, long - many * each), each


def try_out(
    model: nn.Module,
    data: Data,
    ball: type[Ball],
    radii: Sequence[str],
    pace: Pace,
    *,
    target: str | None = None,
    names: Sequence[str] = (),
    seed: int = 0,
    seconds: float = 1.0,
) -> Odds:
    """Attack as many pictures as there is time for (8 at least, 32 at most) by ten steps of PGD, and count who stands."""
    price = 2 * _TRIAL_STEPS * (pace.gradient_each + pace.gradient_call / _TRIAL_PICTURES[1])
    low, high = _TRIAL_PICTURES
    count = min(len(data), max(low, min(high, int(seconds / max(price, 1e-9)))))
    part = Subset(data, range(count))
    with borrowed(model), reseeded(seed, device_of(model)):
        passes = Passes(model, Precision.own(model), pace.batch, least=pace.least)
        labels, clean, goal = without_attack(passes, part, names, target, seed, None)
        source = Source(lambda indices: part.pictures(list(indices)), goal)
        right = clean == labels
        # Of a few pictures none need stand where one of a hundred does, which takes most of the passes.
        untold = Odds((int(right.sum()) + 0.5) / (count + 1), {}, count)
        # In other balls attacks have little in common.
        if not issubclass(ball, Linf | L2 | L1) or not bool(right.any()):
            return untold
        pgd = [ATTACKS["pgd"].create(threat=ball(radius), steps=_TRIAL_STEPS, step_size=0.25) for radius in radii]
        try:
            _pgd(pgd[-1:], passes, source, right & (right.cumsum(0) == 1), clean, labels, seed)  # loads and allocates
            began, rounds = time.perf_counter(), _Rounds()
            found = _pgd(pgd, passes, source, right, clean, labels, seed, rounds)
        except ModelError:  # it has no gradient, and other attacks need none
            return untold
    took = time.perf_counter() - began
    asked = (float(each.sum()) for each in (found.forwards, found.backwards))
    drag = min(max(took / pace.cost(rounds.count, *asked).seconds, 0.5), 4.0)
    standing = (found.prediction == labels) & ~found.success
    stands = {radius: (int(left.sum()) + 0.5) / (count + 1) for radius, left in zip(radii, standing, strict=True)}
    return replace(untold, stands=stands, drag=drag)


def _pgd(
    attacks: Sequence[Any],
    passes: Passes,
    source: Source,
    attacked: Tensor,
    clean: Tensor,
    labels: Tensor,
    seed: int,
    progress: Progress | None = None,
) -> Found:
    """What an attack at some radii finds."""
    everywhere, nested = attacked.repeat(len(attacks), 1), len(attacks) > 1
    return search(attacks, passes, source, everywhere, clean, labels, seed=seed, nested=nested, progress=progress)


class _Rounds:
    """Counts how often it is told of progress."""

    count = 0

    def __call__(self, done: int, total: int) -> None:
        self.count += 1


@contextmanager
def threads_of(count: int | None) -> Iterator[None]:
    """Torch computes with so many threads meanwhile; None: with those that it has."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count is not None:
            torch.set_num_threads(before)


def _any(share: float, count: int) -> float:
    """How likely one of so many examples is among a share of them."""
    return 1 - (1 - min(1.0, max(0.0, share))) ** count


def _cut(samples: int, shard: int) -> tuple[float, int]:
    """Tasks, and examples of each."""
    count = min(samples, shard)
    return samples / count, count
