"""A task of a sweep: a stretch of one cell's examples. It is all texts and numbers, so that any worker can do it.

``perform`` does a task and writes its shard; executors carry tasks to where they are performed and bring back reports.
"""

from __future__ import annotations

import platform
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from advkit.backbones import Classifier
from advkit.core.fitted import Applied, Fitted
from advkit.core.goal import Untargeted
from advkit.core.modes import borrowed, draws_anywhere, reseeded
from advkit.data import Data, Subset
from advkit.engine.asking import ask
from advkit.engine.defend import defend, read_defense
from advkit.engine.evaluate import without_attack
from advkit.engine.examples import Progress
from advkit.engine.fits import ready
from advkit.engine.fitting import fit_for
from advkit.engine.memory import keep_freed_memory
from advkit.engine.passes import Passes, batch_for, least_rows
from advkit.engine.precision import Precision, PrecisionName, choose_precision
from advkit.engine.provenance import check_code, worked_here
from advkit.engine.span import Part, Stages, attack_span, clean_span
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, usual_ball
from advkit.engine.transfer import Made
from advkit.errors import AdvkitError, InputError, ThreatViolation, WriteError
from advkit.results.cell import Cell, Facts
from advkit.results.store import Span, Store
from advkit.trust import NOTHING, Trust

__all__ = ["Executor", "InProcess", "Report", "Task", "Watch", "perform", "stages_of"]

Watch = Callable[["Task", str], AbstractContextManager[Progress | None]]
"""Opens the progress of a stage of a task."""


def _nobody(task: Task, stage: str) -> AbstractContextManager[Progress | None]:
    return nullcontext(None)


@dataclass(frozen=True)
class Task:
    """Examples ``span`` of a cell, and how to build what it needs."""

    store: str
    cell: Cell
    span: Span
    model: ModelSpec
    data: DataSpec
    attack: AttackSpec | None = None  # None: without attack
    surrogate: ModelSpec | None = None  # on which the attack is made, where that is another model
    precision: PrecisionName = "auto"
    batch_size: int | None = None
    device: str = "cpu"
    threads: int | None = None
    keep_pictures: int = 16
    source: str = ""  # the code that the sweep runs, as own_source tells it
    trust: Trust = field(default=NOTHING, repr=False)  # what the sweep's caller wrote himself

    @property
    def title(self) -> str:
        """For progress and errors."""
        return self.cell.title


@dataclass(frozen=True)
class Report:
    """A task that is over: done, or failed with an error in words (``expected``: the input's fault) or a traceback."""

    task: Task
    seconds: float = 0.0
    error: str | None = None
    expected: bool = False
    fatal: bool = False  # no other task can do better: the store cannot be written to


class Executor(ABC):
    """Carries tasks to workers: a frozen value. A task whose worker died is given to another worker, a few times."""

    def at_once(self, device: str = "cpu") -> int:
        """How many tasks for this device are performed at a time."""
        return 1

    def check(self) -> None:
        """Raises InputError where workers cannot be started from where this is called. Asked before anything takes long."""
        return

    @abstractmethod
    def run(self, rounds: Iterable[Sequence[Task]], watch: Watch) -> Iterator[Report]:
        """Reports as they come, one for each task; a round is asked for when the one before it is reported.

        Closing the iterator stops the workers.
        """


@dataclass(frozen=True)
class InProcess(Executor):
    """One task after the other, in this process."""

    def run(self, rounds: Iterable[Sequence[Task]], watch: Watch) -> Iterator[Report]:
        """Reports as they come."""
        for tasks in rounds:
            for task in tasks:
                yield perform(task, watch)


@dataclass
class _Bench:
    """What stays loaded between two tasks of one process."""

    key: object
    spec: DataSpec
    data: Data
    net: Classifier
    model: torch.nn.Module
    steering: Precision
    draws: bool  # from the global generators, so that what it says hangs on all that it was asked before
    made: Made = field(default_factory=Made)  # on it, for other models


_benches: list[_Bench] = []  # the last two, a model and its surrogate: a process must not collect all models of a sweep


def perform(task: Task, watch: Watch = _nobody) -> Report:
    """Do a task and write its shard. Errors come back in the report, KeyboardInterrupt does not."""
    began = time.perf_counter()
    try:
        _perform(task, watch)
    except ThreatViolation:
        return Report(task, time.perf_counter() - began, traceback.format_exc())
    except AdvkitError as error:
        lost = isinstance(error, WriteError)
        return Report(task, time.perf_counter() - began, str(error), expected=True, fatal=lost)
    except Exception:  # a bug in the task is no reason to lose the others; its traceback is shown at the end
        return Report(task, time.perf_counter() - began, traceback.format_exc())
    return Report(task, time.perf_counter() - began)


def _perform(task: Task, watch: Watch) -> None:
    if task.threads is not None and torch.get_num_threads() != task.threads:
        torch.set_num_threads(task.threads)
    store = Store(Path(task.store))
    if store.record(task.cell.key) is None:  # on another machine the shard would be written where nobody looks for it
        raise InputError(
            f"the worker on {platform.node()} does not see the sweep's store {task.store}; give a folder that all machines "
            "share (--out)."
        )
    if task.source:
        check_code(task.source)
    bench = _bench(task, task.model, task.cell.model_hash, task.cell.defense)
    other = _bench(task, task.surrogate, task.cell.surrogate_hash, "none") if task.surrogate else None
    with borrowed(bench.model), borrowed(other.model) if other else nullcontext():
        size = task.batch_size or batch_for(bench.model, bench.data.pictures([task.span[0]])[0])
        # Rows that fill up a pass would be drawn for, and how many there are hangs on the threads.
        draws = bench.draws or (other is not None and other.draws)
        least = 1 if draws else least_rows(size)
        own = Passes(bench.model, Precision.own(bench.model), size, least=least)
        part = _part(task, bench, store, own, watch)
        size, least = own.batch_size, own.least  # what found room in memory
        if task.attack is None:
            if task.span[0] == 0:
                with _chance(task):
                    found = ask(bench.model, bench.data, batch_size=size, seed=task.cell.seed, clean=part.clean)
                    store.add_asked(task.cell, found)
            store.write(task.cell, task.span, clean_span(part), made=worked_here(task.device))
            return
        steered = Passes(bench.model, bench.steering, size, least=least)
        surrogate = Passes(other.model, other.steering, size, least=least) if other else None
        stages = _fitted(stages_of(task.attack, task.cell), task, bench, store, surrogate or steered, watch)
        with _chance(task):
            facts, pictures = attack_span(
                steered,
                part,
                stages,
                seed=task.cell.seed,
                keep_pictures=task.keep_pictures,
                watch=lambda stage: watch(task, stage),
                surrogate=surrogate,
                made=None if other is None or draws else other.made,
            )
    store.write(task.cell, task.span, facts, pictures, worked_here(task.device))


def _chance(task: Task) -> AbstractContextManager[None]:
    """Draws from the global generators, by a model that makes some, hang on the seed, and on no work done before."""
    return reseeded(task.cell.seed, _device(task))


def stages_of(attack: AttackSpec, cell: Cell) -> Stages:
    """The cell's stages as attacks, checked to be what the cell says."""
    ball = usual_ball(cell.norm)
    at = [attack.stages(ball(radius)) for radius in cell.radii]
    found = tuple(tuple(repr(stages[s][1]) for stages in at) for s in range(len(at[0])))
    if found != tuple(stage.attacks for stage in cell.stages):
        raise InputError(
            f"the attack {attack.name} is not the one that was planned ({found} and not {cell.stages}): is this worker's "
            "advkit the same as that of the sweep?"
        )
    return [(stage.name, [stages[s][1] for stages in at], stage.nested) for s, stage in enumerate(cell.stages)]


def _fitted(stages: Stages, task: Task, bench: _Bench, store: Store, passes: Passes, watch: Watch) -> Stages:
    """The stages with what is one for many pictures fitted: by the first task of the cell, the others read its file."""
    rule = None if task.cell.goal == "untargeted" else task.cell.goal
    names = bench.data.classes if bench.data.named else (bench.net.classes or ())

    def fit(title: str, attack: Fitted) -> Applied:
        scored = Subset(bench.data, range(*task.span))
        with _chance(task), watch(task, f"{title}, fit") as progress:
            return fit_for(attack, passes, scored, names, rule, task.cell.seed, progress)

    return ready(stages, lambda file: store.beside(task.cell, file), fit)


def _bench(task: Task, spec: ModelSpec, model_hash: str, defense: str) -> _Bench:
    """The data and a model behind a defense, loaded, and checked to be what was planned."""
    key = (task.data, spec, id(spec.made), defense, task.device, task.precision)
    for bench in _benches:
        if bench.key == key:
            _benches.sort(key=lambda each: each is bench)  # the one used last gives way last
            return bench
    keep_freed_memory()
    data = next((bench.data for bench in _benches if bench.spec == task.data), None) or task.data.build()
    net = spec.build(data, task.device)
    if net.fingerprint() != model_hash or data.fingerprint() != task.cell.data_hash:
        raise InputError(
            f"{spec.name or spec.model} or {data.name} is not here what it was when the sweep was planned (the hashes of "
            "weights or pictures differ); give every worker the same files, and do not change them during a sweep."
        )
    model = defend(net, read_defense(defense, task.trust).wrappers)
    with borrowed(model), reseeded(task.cell.seed, _device(task)):
        steering = choose_precision(task.precision, model, data.pictures(range(min(len(data), 8))).to(_device(task)))
    draws = draws_anywhere(model, data.pictures([0]).to(_device(task)))
    _benches[:] = [*_benches[-1:], _Bench(key, task.data, data, net, model, steering, draws)]
    return _benches[-1]


def _device(task: Task) -> torch.device:
    return torch.device(task.device)


def _part(task: Task, bench: _Bench, store: Store, passes: Passes, watch: Watch) -> Part:
    """Labels, answers without attack and goal of the task's examples; the answers are taken from the store if there."""
    index = torch.arange(*task.span)
    goal_rule = None if task.cell.goal == "untargeted" else task.cell.goal
    known = None
    if task.attack is not None and goal_rule is None:
        known = _known(store, task)
    if known is not None:
        labels, clean = torch.tensor(known.labels), torch.tensor(known.clean)
        return Part(bench.data, index, labels, clean, Untargeted(labels))
    with _chance(task), watch(task, "clean") as progress:
        examples = Subset(bench.data, range(*task.span))
        names = bench.data.classes if bench.data.named else (bench.net.classes or ())
        labels, clean, goal = without_attack(passes, examples, names, goal_rule, task.cell.seed, progress)
    return Part(bench.data, index, labels, clean, goal)


def _known(store: Store, task: Task) -> Facts | None:
    """What the store says of the task's examples without attack; None where it does not have all of them."""
    begin, end = task.span
    facts = store.facts(task.cell.clean, end, begin=begin)
    return facts if facts is not None and len(facts) == end - begin else None
