"""Models x defenses x attacks x radii: planned as cells, done in tasks by an executor, kept in a store, resumed by looking."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from advkit.catalog import ATTACKS
from advkit.core.attack import Attack, Ensemble
from advkit.core.fitted import Fitted
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.defend import Against
from advkit.engine.fits import fit_files
from advkit.engine.plan import Plan, Planned, Sweep, make_plan
from advkit.engine.precision import PrecisionName, checked_precision
from advkit.engine.provenance import own_source
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, usual_ball
from advkit.engine.tasks import Executor, InProcess, Report, Task, Watch, stages_of
from advkit.engine.tracking import Tracker
from advkit.errors import InputError
from advkit.private import redacted
from advkit.results.check_store import mend
from advkit.results.grid import Grid, Line, lines_of, load_grid
from advkit.results.store import Store, Study
from advkit.trust import Trust

__all__ = ["Plan", "Planned", "Result", "Spectator", "Sweep", "make_plan", "run_plan", "sweep"]

_PATIENCE = 90.0  # seconds that a shared disk may take to show what another machine has written


@dataclass(frozen=True)
class Spectator:
    """What a sweep tells while it runs; the defaults listen to nothing."""

    watch: Watch = lambda task, stage: nullcontext(None)
    """Opens the progress of a stage of a task, where the task is performed in this process."""
    begun: Callable[[Plan, Sequence[Task]], None] = lambda plan, left: None
    """Gets the plan and the tasks that are left, before the first of them."""
    report: Callable[[Report], None] = lambda report: None
    """Gets every report."""
    lines: Callable[[Sequence[Line]], None] = lambda lines: None
    """Gets the lines of each cell that is complete, those that were so before the sweep too."""


@dataclass(frozen=True)
class Result:
    """The lines of the sweep's own cells, and the reports of tasks that failed."""

    grid: Grid
    failed: tuple[Report, ...] = ()


def sweep(
    models: str | nn.Module | Sequence[str] | Mapping[str, str | nn.Module],
    data: str | Data,
    attacks: str | Attack | Ensemble | Sequence[str | Attack | Ensemble] | Mapping[str, str | Attack | Ensemble],
    eps: float | str | Sequence[float | str],
    *,
    out: str | Path,
    norm: str = "linf",
    defenses: str | Sequence[str] = "none",
    samples: int | None = 200,
    target: str | None = None,
    seed: int = 0,
    independent: bool = False,
    transfer: bool = False,
    against: Against = "both",
    surrogates: str | nn.Module | Sequence[str] | Mapping[str, str | nn.Module] = (),
    precision: PrecisionName = "auto",
    exclude: Sequence[str | int] = (),
    shard: int | None = None,
    batch_size: int | None = None,
    keep_pictures: int = 16,
    device: str = "cpu",
    executor: Executor | None = None,
    spectator: Spectator | None = None,
    trackers: Sequence[Tracker] = (),
) -> Result:
    """Evaluate every model behind every defense under every attack at every radius, and keep the results in ``out``.

    Models are names for ``load_model``, ``NAME@WEIGHTS``, or modules on pictures in [0, 1]; attacks are names or values,
    whose own radius gives way to ``eps``. With ``surrogates``, given like models, every attack is made on each of these, and
    shown to each model once. ``samples`` are the first so many examples, None all, without those of the classes to
    ``exclude``; a task is ``shard`` of them. What ``out`` holds already is not computed again. Raises InputError for input
    that cannot be used.
    """
    wanted = Sweep(
        models=tuple(_model_specs(models)),
        attacks=tuple(_attack_specs(attacks)),
        radii=tuple(Eps(radius).exact for radius in ([eps] if isinstance(eps, str | float | int) else eps)),
        data=replace(
            DataSpec(data) if isinstance(data, str) else DataSpec(data.name, made=data),
            exclude=tuple(str(one) for one in exclude),
        ),
        norm=norm,
        defenses=(defenses,) if isinstance(defenses, str) else tuple(defenses),
        samples=samples,
        goal=target or "untargeted",
        seed=seed,
        independent=independent,
        transfer=transfer,
        against=against,
        surrogates=tuple(_model_specs(surrogates)),
        precision=checked_precision(precision),
        shard=shard,
        batch_size=batch_size,
        device=device,
        keep_pictures=keep_pictures,
        trust=Trust.of(*((defenses,) if isinstance(defenses, str) else defenses)),
    )
    for name, count, least in (("shard", shard, 1), ("batch_size", batch_size, 1), ("keep_pictures", keep_pictures, 0)):
        if count is not None and count < least:
            raise InputError(f"{name} is {count}; give {least} or more.")
    if executor is not None:
        executor.check()
    return run_plan(make_plan(wanted), Path(out), executor=executor, spectator=spectator, trackers=trackers)


def run_plan(
    plan: Plan,
    out: Path,
    *,
    executor: Executor | None = None,
    spectator: Spectator | None = None,
    trackers: Sequence[Tracker] = (),
) -> Result:
    """Do what is left of a plan, and read its lines back from the store.

    A task that fails leaves the others to be done. KeyboardInterrupt passes through; what was finished is in the store.
    """
    executor, spectator = executor or InProcess(), spectator or Spectator()
    store = Store(out)
    failed: list[Report] = []
    store.admit()  # a folder of somebody else's must not even get a lock file
    with store.lock():
        store.create()
        store.tidy()
        store.add(*(planned.record for planned in plan.cells))
        samples = {planned.cell.key: plan.samples for planned in plan.cells}
        store.write_study(Study(plan.sweep.command, samples, dict(plan.sweep.about)))
        mend(store, (planned.record for planned in plan.cells), plan.samples)
        left = [replace(task, source=own_source()) for task in plan.left(store)]
        herald = _Herald(plan, store, left, spectator, trackers)
        spectator.begun(plan, left)
        try:
            herald.begin()
            for report in executor.run(_rounds(left, failed, store), spectator.watch) if left else ():
                spectator.report(report)
                if report.error is None:
                    _look_for(report.task, store)
                    herald.done(report.task)
                else:
                    failed.append(report)
                if report.fatal:
                    raise InputError(f"{report.error} What was finished is kept; make room and run the same again.")
            store.finish(samples)
        except BaseException:
            herald.interrupted()
            raise
        finally:
            herald.close()
            store.tidy()  # a worker that was killed may have left a half
    return Result(load_grid(out, only=samples), tuple(failed))


def _look_for(task: Task, store: Store) -> None:
    """Raise InputError where a shard that a worker wrote does not come to be seen here."""
    if not store.awaited(task.cell, task.span, _PATIENCE):
        raise InputError(
            f"a worker has written examples {task.span[0]} to {task.span[1]} of {task.title}, and they are not to be seen in "
            f"{store.folder} after {_PATIENCE:.0f} s; is it the same folder on every machine (--out)?"
        )


def _rounds(left: Sequence[Task], failed: Sequence[Report], store: Store) -> Iterator[list[Task]]:
    """The answers without attack first, for the attacks read them; then the attacks on models that did not fail.

    What a cell fits is fitted by its first task; the others, which need it, come when that is done.
    """
    yield from _if_any([task for task in left if not task.cell.stages])
    broken = {report.task.cell.key for report in failed}
    attacked = [task for task in left if task.cell.stages and task.cell.clean.key not in broken]
    fitting = _unfitted(attacked, store)
    yield from _if_any([*fitting.values(), *(task for task in attacked if task.cell.key not in fitting)])
    broken = {report.task.cell.key for report in failed}
    later = [task for task in attacked if task.cell.key in fitting and task is not fitting[task.cell.key]]
    yield from _if_any([task for task in later if task.cell.key not in broken])


def _if_any(tasks: list[Task]) -> Iterator[list[Task]]:
    if tasks:
        yield tasks


def _unfitted(tasks: Sequence[Task], store: Store) -> dict[str, Task]:
    """The first task of each cell that has something to fit still, by the cell's key."""
    found: dict[str, Task] = {}
    whole = set[str]()
    fits: dict[tuple[int, str], bool] = {}  # by attack: thousands of cells have the same few
    for task in tasks:
        key, attack = task.cell.key, task.attack
        if key in found or key in whole or attack is None:
            continue
        if (id(attack), task.cell.norm) not in fits:
            one = attack.stages(usual_ball(task.cell.norm)(task.cell.radii[0]))
            fits[(id(attack), task.cell.norm)] = any(isinstance(stage, Fitted) for _, stage in one)
        files = fit_files(stages_of(attack, task.cell)) if fits[(id(attack), task.cell.norm)] else ()
        if all(store.beside(task.cell, file).exists() for file in files):
            whole.add(key)
        else:
            found[key] = task
    return found


class _Herald:
    """Tells of each cell that is complete, once."""

    def __init__(
        self, plan: Plan, store: Store, left: Iterable[Task], spectator: Spectator, trackers: Sequence[Tracker]
    ) -> None:
        self.plan, self.store, self.spectator, self.trackers = plan, store, spectator, list(trackers)
        self.records = {planned.cell.key: planned.record for planned in plan.cells}
        self.open: dict[str, int] = dict.fromkeys(self.records, 0)
        for task in left:
            self.open[task.cell.key] += 1

    def begin(self) -> None:
        """What is complete already."""
        self._each(lambda tracker: tracker.start({"command": self.plan.sweep.command, **self.plan.sweep.about}))
        for key, count in self.open.items():
            if count == 0:
                self._tell(key)

    def done(self, task: Task) -> None:
        """One task less."""
        self.open[task.cell.key] -= 1
        if self.open[task.cell.key] == 0:
            self._tell(task.cell.key)

    def interrupted(self) -> None:
        """It ends before it is complete."""
        self._each(lambda tracker: tracker.interrupted())

    def close(self) -> None:
        """The end, however it came."""
        self._each(lambda tracker: tracker.close())

    def _tell(self, key: str) -> None:
        record = self.records[key]
        facts = self.store.facts(record.cell, self.plan.samples)
        lines = [] if facts is None else lines_of(record, facts, self.plan.samples)
        self.spectator.lines(lines)
        for line in lines:
            self._each(lambda tracker, line=line: tracker.line(line.to_json()))  # type: ignore[misc]

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                tell(tracker)
            except Exception as error:  # a service that is down must not cost a sweep
                self.trackers.remove(tracker)
                warnings.warn(
                    f"{type(tracker).__name__} is told no more, since it failed: {redacted(str(error))}", stacklevel=2
                )


def _model_specs(models: str | nn.Module | Sequence[str] | Mapping[str, str | nn.Module]) -> Iterator[ModelSpec]:
    if isinstance(models, str | nn.Module):
        models = [models] if isinstance(models, str) else {type(models).__name__: models}
    named = models.items() if isinstance(models, Mapping) else ((None, model) for model in models)
    for name, model in named:
        if isinstance(model, str):
            yield ModelSpec.named(model, name)
        else:
            yield ModelSpec(name or type(model).__name__, name=name, made=model)


def _attack_specs(
    attacks: str | Attack | Ensemble | Sequence[str | Attack | Ensemble] | Mapping[str, str | Attack | Ensemble],
) -> Iterator[AttackSpec]:
    if isinstance(attacks, str | Attack | Ensemble):
        attacks = [attacks]
    named = attacks.items() if isinstance(attacks, Mapping) else ((None, attack) for attack in attacks)
    for label, attack in named:
        if isinstance(attack, str):
            yield AttackSpec(attack, label=label)
        else:
            yield AttackSpec(ATTACKS.name_of(attack), label=label, made=attack)
