"""How long a sweep that runs still takes: from what its tasks took, and what of the running ones is done.

Every task has an expected time by the plan. What tasks really took corrects it, first of all for the same attack, and the less
the fewer of them there were. What is told follows the estimate with a delay, so that a single task does not make it jump.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from advkit.engine.plan import Plan, Planned
from advkit.engine.tasks import Report, Task
from advkit.results.cell import Cell

__all__ = ["Forecast"]

_DELAY = 8.0  # seconds in which what is told comes near the estimate
_PRIOR = 0.5  # of an expected task, how much weight the plan has against what was seen
_EVIDENCE = 0.02  # of the work: before that nothing is told

Clock = Callable[[], float]


@dataclass
class _Seen:
    """What tasks of a kind took, and were expected to."""

    took: float = 0.0
    expected: float = 0.0

    def add(self, took: float, expected: float) -> None:
        self.took += took
        self.expected += expected

    def ratio(self, prior: float, weight: float) -> float:
        """Took over expected, drawn to a prior that counts like so many expected seconds."""
        return (self.took + weight * prior) / (self.expected + weight) if self.expected + weight > 0 else prior


@dataclass
class _Running:
    """A task in work: when it began, and which share of it is done."""

    began: float
    stages: Mapping[str, tuple[float, float]]  # by name, the share of the task before it and its own
    before: float = 0.0
    own: float = 0.0
    done: float = 0.0

    @property
    def share(self) -> float:
        return min(1.0, self.before + self.own * self.done)


@dataclass
class Forecast:
    """Told what begins, goes on and ends; tells the share that is done and the seconds that are left."""

    clock: Clock = time.monotonic
    _cells: dict[str, Planned] = field(default_factory=dict)
    _right: dict[str, float] = field(default_factory=dict)
    _left: dict[tuple[str, int], Task] = field(default_factory=dict)
    _running: dict[tuple[str, int], _Running] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _all: _Seen = field(default_factory=_Seen)
    _workers: int = 1
    _whole: float = 0.0
    _shown: tuple[float, float] | None = None  # the end, and when that was told
    _share: float = 0.0

    def begin(self, plan: Plan, left: Sequence[Task], workers: int = 1) -> None:
        """The plan, and what is left of it for so many workers."""
        self._cells = {planned.cell.key: planned for planned in plan.cells}
        self._left = {_key(task): task for task in left}
        self._whole = sum(map(self.expected, left))
        self._workers = max(1, workers)

    def expected(self, task: Task) -> float:
        """Seconds of a task by the plan."""
        return self._outlook(task)[0]

    def right(self, cell: Cell, share: float) -> None:
        """Of the examples, this share is right without attack, the cell of which this is."""
        self._right[cell.key] = share

    def stage(self, task: Task, stage: str) -> None:
        """A stage of a task begins."""
        running = self._running.get(_key(task))
        if running is None:
            running = self._running[_key(task)] = _Running(self.clock(), self._outlook(task)[1])
        before, own = running.stages.get(stage, (running.share, 0.0))
        running.before, running.own, running.done = max(before, running.before), own, 0.0

    def progress(self, task: Task, done: float) -> None:
        """So much of the stage is done, from 0 to 1."""
        running = self._running.get(_key(task))
        if running is not None:
            running.done = max(running.done, min(1.0, done))

    def share_of(self, task: Task) -> float:
        """Of a task in work, what is done."""
        running = self._running.get(_key(task))
        return 0.0 if running is None else running.share

    def over(self, report: Report) -> None:
        """A task is over."""
        task = report.task
        self._running.pop(_key(task), None)
        if self._left.pop(_key(task), None) is None or report.error is not None:
            return
        expected = self.expected(task)
        self._seen.setdefault(_kind(task), _Seen()).add(report.seconds, expected)
        if task.cell.stages:  # answers without attack say little of attacks
            self._all.add(report.seconds, expected)

    @property
    def share(self) -> float:
        """Of the whole work, what is done; it never falls."""
        if not self._left:
            return 1.0
        left = sum(self._of(task)[1] for task in self._left.values())
        done = sum(seen.took for seen in self._seen.values()) + self._spent()
        self._share = max(self._share, done / (done + left) if done + left > 0 else 0.0)
        return self._share

    def left(self) -> float | None:
        """Seconds until the end; None where too little was seen."""
        if not self._left:
            return 0.0
        now = self.clock()
        each = [self._of(task)[1] for task in self._left.values()]
        seen = self._all.expected + sum(self._of(task)[0] for key, task in self._left.items() if key in self._running)
        if self._shown is None and seen < _EVIDENCE * self._whole:
            return None
        end = now + max(sum(each) / min(self._workers, len(each)), max(each))
        if self._shown is not None:
            told, when = self._shown
            end = told + (end - told) * (1 - math.exp(-(now - when) / _DELAY))
        self._shown = (end, now)
        return max(0.0, end - now)

    def _of(self, task: Task) -> tuple[float, float]:
        """Of a task that is left: the expected seconds of what is done of it, and the seconds that are left."""
        expected = self.expected(task)
        ratio = self._seen.get(_kind(task), _Seen()).ratio(
            self._all.ratio(1.0, _PRIOR * self._mean()), _PRIOR * expected
        )
        running = self._running.get(_key(task))
        if running is None:
            return 0.0, expected * ratio
        share, passed = running.share, max(0.0, self.clock() - running.began)
        # At first what was expected, in the end what the time so far says: (1 - p) E and (1 - p) t / p, by p.
        return expected * share, (1 - share) * ((1 - share) * expected * ratio + passed)

    def _spent(self) -> float:
        return sum(max(0.0, self.clock() - running.began) for running in self._running.values())

    def _mean(self) -> float:
        return self._whole / max(1, len(self._cells))

    def _outlook(self, task: Task) -> tuple[float, Mapping[str, tuple[float, float]]]:
        """Seconds of a task, and the place of each stage in them."""
        planned = self._cells.get(task.cell.key)
        if planned is None:
            return 0.0, {}
        odds = replace(planned.odds, clean=self._right.get(task.cell.clean.key, planned.odds.clean))
        each = [cost.seconds for cost in planned.outlook.stages(task.span[1] - task.span[0], odds)]
        total = sum(each)
        names = [stage.name for stage in task.cell.stages] or ["clean"]
        before, places = 0.0, {}
        for name, seconds in zip(names, each, strict=True):
            places[name] = (before / total, seconds / total) if total else (0.0, 0.0)
            before += seconds
        return total, places


def _key(task: Task) -> tuple[str, int]:
    return task.cell.key, task.span[0]


def _kind(task: Task) -> str:
    return task.cell.attack
