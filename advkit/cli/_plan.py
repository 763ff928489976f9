"""What is said of a sweep before it runs: its header, and the plan of --dry-run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from advkit.cli._results import put, put_table
from advkit.results.verdict import counted

if TYPE_CHECKING:
    from advkit.engine.plan import Left
    from advkit.engine.sweep import Plan
    from advkit.engine.tasks import Executor

__all__ = ["duration", "header", "show_plan"]


def header(screen: Console, plan: Plan, out: Path, executor: Executor) -> None:
    """Data, threat, size and place of a sweep."""
    from advkit.engine.specs import usual_ball

    wanted = plan.sweep
    rows = sum(len(planned.cell.radii) for planned in plan.cells)
    lines = [
        f"data   {wanted.data.name}, {counted(plan.samples, 'example')}{plan.remark}",
        f"threat {wanted.norm} at {', '.join(plan.radii)}",
        f"plan   {counted(rows, 'row')} of {counted(len(plan.cells), 'cell')}, kept in {out}",
        f"on     {_place(executor)}, {wanted.device}, seed {wanted.seed}",
    ]
    ball = usual_ball(wanted.norm)
    lines += [f"note   {doubt}" for doubt in dict.fromkeys(ball(radius).doubt for radius in plan.radii) if doubt]
    if wanted.samples is not None and wanted.samples > plan.samples:
        lines.append(f"note   {wanted.samples:,} examples are asked for, and there are {plan.samples:,}")
    for line in lines:
        screen.print(line, markup=False)


def show_plan(plan: Plan, out: Path, executor: Executor, kind: str, *, afresh: bool = False) -> None:
    """The cells, what is done of them (nothing, where all is made ``afresh``), and what they may cost."""
    from advkit.results.store import Store
    from advkit.results.table import Table

    lefts = plan.costs(Store(out), afresh=afresh)
    workers = max(1, executor.at_once(plan.sweep.device))
    if kind == "json":
        put(json.dumps(_as_json(plan, lefts, workers)), None)
        return
    rows: list[tuple[str, ...]] = [
        (
            left.planned.cell.model,
            left.planned.cell.defense,
            left.planned.cell.attack,
            " ".join(left.planned.cell.radii) or "-",
            f"{left.done} of {plan.samples}",
            _number(left.likely.forwards),
            _number(left.likely.backwards),
            duration(left.likely.seconds),
            duration(left.most.seconds),
        )
        for left in lefts
    ]
    likely, most = (
        sum((getattr(left, name) for left in lefts[1:]), getattr(lefts[0], name)) for name in ("likely", "most")
    )
    tasks = len(plan.left(Store(out), afresh=afresh))
    share = min(workers, max(1, tasks))
    whole = (
        _number(likely.forwards),
        _number(likely.backwards),
        *(duration(cost.seconds / share) for cost in (likely, most)),
    )
    cells = f"{sum(left.done < plan.samples for left in lefts)} of {counted(len(lefts), 'cell')}"
    rows.append(("left", "", cells, "", counted(tasks, "task"), *whole))
    heads = ("model", "defense", "attack", "eps", "done", "forward", "backward", "time, about", "at most")
    table = Table(heads, tuple(rows), "llllrrrrr", strong=(len(rows) - 1,), caption=_caption(plan, share))
    put_table(table, kind, 4, None)


def _as_json(plan: Plan, lefts: Sequence[Left], workers: int) -> dict[str, object]:
    found = [
        {
            "model": left.planned.cell.model,
            "defense": left.planned.cell.defense,
            "attack": left.planned.cell.attack,
            "eps": list(left.planned.cell.radii),
            "done": left.done,
            "n": plan.samples,
            "passes": round(left.likely.passes),
            "forwards": round(left.likely.forwards),
            "backwards": round(left.likely.backwards),
            "seconds": round(left.likely.seconds, 1),
            "most_passes": round(left.most.passes),
            "most_seconds": round(left.most.seconds, 1),
        }
        for left in lefts
    ]
    seconds, most = (sum(getattr(left, name).seconds for left in lefts) / workers for name in ("likely", "most"))
    return {"plan": found, "workers": workers, "seconds": round(seconds, 1), "most_seconds": round(most, 1)}


def _caption(plan: Plan, share: int) -> str:
    tried = sorted({planned.odds.pictures for planned in plan.cells if planned.odds.stands})
    how = (
        f"as many examples fall as of the first {' to '.join(map(str, dict.fromkeys((tried[0], tried[-1]))))} of each model "
        "fell under ten steps of PGD just now"
        if tried
        else "half of the examples that are right stand"
    )
    return (
        f"Passes of one example each, and time by passes timed just now, {'one worker' if share == 1 else f'{share} workers'}: "
        f"about, if {how}; at most, if every example takes every step at every radius. Nothing was computed."
    )


def duration(seconds: float) -> str:
    """As a reader wants it: 40 s, 3 min, 2.5 h."""
    if seconds < 99:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _place(executor: Executor) -> str:
    """An executor in words: its name, and what was set of it."""
    from advkit.catalog import EXECUTORS

    name = EXECUTORS.name_of(executor)
    settings = EXECUTORS[name].settings.items()
    given = [f"{key}={getattr(executor, key)}" for key, known in settings if getattr(executor, key) != known.default]
    where = "this process" if name == "local" else name
    return f"{where} ({', '.join(given)})" if given else where


def _number(value: float) -> str:
    """Two or three figures: an estimate has no more."""
    step = 10 ** max(0, len(str(round(value))) - 3)
    return f"{round(value / step) * step:,}"
