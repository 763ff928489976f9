"""The time that a sweep still takes: from the plan at first, then from what was seen, and never in jumps."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import trained

from advkit.data import TensorData
from advkit.engine.estimate import Cost, Outlook
from advkit.engine.forecast import Forecast
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Plan, Sweep, make_plan
from advkit.engine.tasks import Report, Task
from advkit.results.store import Store


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Sure(Outlook):
    """Every stage of every task takes a second by the plan."""

    def stages(self, count: int, odds: object) -> list[Cost]:
        return [Cost(seconds=1.0) for _ in self.efforts] or [Cost(seconds=0.0)]


@pytest.fixture(scope="module")
def plan() -> Plan:
    model, x, y = trained()
    made = make_plan(
        Sweep(
            models=(ModelSpec("net", made=copy.deepcopy(model).float()),),
            attacks=(AttackSpec("pgd", (("steps", 2),)), AttackSpec("bim"), AttackSpec("worst-case")),
            radii=("0.03",),
            data=DataSpec("patterns", made=TensorData(x.float(), y, name="patterns")),
            samples=40,
            shard=4,
            batch_size=4,
        )
    )
    cells = (
        replace(cell, outlook=Sure(cell.outlook.efforts, cell.outlook.radii, cell.outlook.pace, cell.outlook.shard))
        for cell in made.cells
    )
    return replace(made, cells=tuple(cells))


def tasks_of(plan: Plan, *attacks: str) -> list[Task]:
    return [
        replace(cell.task, span=(at, at + 4))
        for cell in plan.cells
        for at in range(0, 40, 4)
        if cell.cell.attack in attacks
    ]


def begun(plan: Plan, left: list[Task], workers: int = 1) -> tuple[Forecast, Clock]:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.begin(plan, left, workers)
    return forecast, clock


def test_nothing_is_told_before_something_was_seen(plan: Plan) -> None:
    forecast, _ = begun(plan, tasks_of(plan, "pgd"))
    assert forecast.left() is None
    assert forecast.share == 0


def test_of_nothing_left_all_is_done(plan: Plan) -> None:
    forecast, _ = begun(plan, [])
    assert (forecast.left(), forecast.share) == (0.0, 1.0)


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_what_tasks_took_corrects_the_plan(plan: Plan, factor: float) -> None:
    left = tasks_of(plan, "pgd")
    forecast, clock = begun(plan, left)
    for done, task in enumerate(left[:6], 1):
        clock.now += factor
        forecast.over(Report(task, factor))
        if done > 2:
            assert forecast.left() == pytest.approx((10 - done) * factor, rel=0.3)
    assert forecast.share == pytest.approx(0.6, abs=0.08)


def test_one_attack_that_is_slow_says_little_of_another(plan: Plan) -> None:
    left = tasks_of(plan, "pgd", "bim")
    forecast, clock = begun(plan, left)
    for task in left[:10]:
        clock.now += 10
        forecast.over(Report(task, 10.0))
    for task in left[10:14]:
        clock.now += 1
        forecast.over(Report(task, 1.0))
        forecast.left()
    clock.now += 60  # what is told has come near the estimate by then
    assert forecast.left() < 25


def test_workers_share_what_is_left(plan: Plan) -> None:
    left = tasks_of(plan, "pgd")
    found = []
    for workers in (1, 2):
        forecast, _ = begun(plan, left, workers)
        for task in left[:4]:
            forecast.over(Report(task, 1.0))
        found.append(forecast.left())
    assert found[0] == pytest.approx(2 * found[1])


def test_a_single_task_does_not_make_it_jump(plan: Plan) -> None:
    left = tasks_of(plan, "pgd")
    forecast, clock = begun(plan, left)
    for task in left[:5]:
        clock.now += 1
        forecast.over(Report(task, 1.0))
        before = forecast.left()
    clock.now += 0.1
    forecast.over(Report(left[5], 40.0))
    after = forecast.left()
    assert before == pytest.approx(5, rel=0.2)
    assert abs(after - before) < 2
    clock.now += 120
    assert forecast.left() > 20, "in the end it is believed"


def test_the_time_goes_on_while_a_task_runs_and_the_share_never_falls(plan: Plan) -> None:
    left = tasks_of(plan, "worst-case")[:1]
    forecast, clock = begun(plan, left)
    told, shares = [], []
    for stage in ("pgd-ce", "pgd-margin", "pgd-targeted"):
        forecast.stage(left[0], stage)
        for done in range(11):
            forecast.progress(left[0], done / 10)
            clock.now += 0.1
            told.append(forecast.left())
            shares.append(forecast.share)
    told = [one for one in told if one is not None]
    assert len(told) > 25
    assert told[0] == pytest.approx(3, rel=0.2)
    assert told[-1] < 0.5
    assert max(b - a for a, b in pairwise(told)) < 0.2
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    forecast.over(Report(left[0], clock.now))
    assert (forecast.left(), forecast.share) == (0.0, 1.0)


def test_a_stage_that_drags_on_is_not_said_to_be_almost_done(plan: Plan) -> None:
    left = tasks_of(plan, "worst-case")[:1]
    forecast, clock = begun(plan, left)
    forecast.stage(left[0], "pgd-ce")
    forecast.progress(left[0], 0.2)
    for _ in range(100):
        clock.now += 1
        told = forecast.left()
    assert told > 50


def test_a_model_that_is_never_right_leaves_nothing_to_be_attacked() -> None:
    model, x, y = trained()
    plan = make_plan(
        Sweep(
            models=(ModelSpec("net", made=copy.deepcopy(model).float()),),
            attacks=(AttackSpec("pgd"),),
            radii=("0.03",),
            data=DataSpec("patterns", made=TensorData(x.float(), y, name="patterns")),
            samples=32,
        )
    )
    clean, attacked = plan.left(Store(Path("nowhere")))
    forecast, _ = begun(plan, [clean, attacked])
    before = forecast.expected(attacked)
    forecast.right(clean.cell, 0.0)
    assert forecast.expected(attacked) < before / 3


def test_a_task_that_failed_is_over_and_says_nothing_of_the_others(plan: Plan) -> None:
    left = tasks_of(plan, "pgd")
    forecast, _ = begun(plan, left)
    for task in left[:4]:
        forecast.over(Report(task, 1.0))
    before = forecast.left()
    for task in left[4:8]:
        forecast.over(Report(task, 900.0, error="no"))
    assert forecast.left() <= before
