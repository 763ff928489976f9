"""The live view of a sweep: overall and per-cell progress, time left, and rows that fill in as they finish."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from advkit.cli._drawn import Drawn

if TYPE_CHECKING:
    from advkit.engine.sweep import Plan
    from advkit.engine.tasks import Report, Task
    from advkit.results.grid import Line

__all__ = ["LiveView"]

_ROWS = 16  # finished rows on the screen
_PART = 10_000  # steps of the overall bar: work is measured in the time that it may take


class LiveView(Drawn):
    """What a sweep says, on a terminal; elsewhere a line of text for each row of the table."""

    def __init__(self, screen: Console) -> None:
        super().__init__(screen)
        self.rows: deque[Line] = deque(maxlen=_ROWS)
        self.finished = 0
        # Names hold brackets at times, which are no markup.
        title, said = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[said]}"))
        bars = (title, BarColumn(), said, TimeElapsedColumn())
        self.overall = Progress(*bars, TimeRemainingColumn(elapsed_when_finished=True), console=screen)
        self.stages = Progress(*bars, console=screen)
        self._whole: TaskID | None = None
        self._weights: dict[str, float] = {}
        self._open: dict[str, tuple[TaskID, int]] = {}

    def begun(self, plan: Plan, left: Sequence[Task]) -> None:
        """Bars for all that is left."""
        whole = max(1, plan.samples)
        for planned in plan.cells:
            self._weights[planned.cell.key] = planned.seconds / whole
        total = sum(self._weight(task) for task in left)
        self._whole = self.overall.add_task("sweep", total=total or 1.0, said=f"{len(left)} tasks")
        if not left:
            self.overall.update(self._whole, completed=1.0)
        for task in left:
            bar, tasks = self._open.get(task.cell.key, (None, 0))
            if bar is None:
                bar = self.stages.add_task(task.title, total=0.0, said="", visible=False)
            self._open[task.cell.key] = (bar, tasks + 1)
            self.stages.update(bar, total=(self.stages.tasks[self.stages.task_ids.index(bar)].total or 0) + 1)

    @contextmanager
    def watch(self, task: Task, stage: str) -> Iterator[Callable[[int, int], None]]:
        """A stage of a task in this process."""
        known = self._open.get(task.cell.key)
        bar = known[0] if known else None
        if bar is not None:
            self.stages.update(bar, visible=True)
            self.stages.start_task(bar)

        def told(done: int, total: int) -> None:
            if bar is not None:
                self.stages.update(
                    bar, said=f"{stage}, examples {task.span[0]}-{task.span[1]}: {100 * done // max(1, total)} %"
                )

        yield told

    def report(self, report: Report) -> None:
        """A task is over."""
        key = report.task.cell.key
        if self._whole is not None:
            self.overall.advance(self._whole, self._weight(report.task))
        if key in self._open:
            bar, left = self._open[key]
            self._open[key] = (bar, left - 1)
            self.stages.update(bar, advance=1, visible=left > 1, said="")
        if report.error is not None:
            self.screen.print(f"failed: {report.task.title}: {report.error.strip().splitlines()[-1]}", markup=False)

    def lines(self, lines: Sequence[Line]) -> None:
        """A cell is complete."""
        self.finished += len(lines)
        self.rows.extend(lines)
        if self._live is None:
            for line in lines:
                self.screen.print(" ".join(_cells(line)), markup=False)

    def _weight(self, task: Task) -> float:
        return self._weights.get(task.cell.key, 0.0) * (task.span[1] - task.span[0])

    def _drawn(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=False)
        for head, side in (
            ("model", "left"),
            ("defense", "left"),
            ("attack", "left"),
            ("eps", "left"),
            ("accuracy %", "right"),
        ):
            table.add_column(head, justify="right" if side == "right" else "left")
        for line in self.rows:
            table.add_row(*map(Text, _cells(line)))
        hidden = self.finished - len(self.rows)
        above = [Text(f"... {hidden} rows above", style="dim")] if hidden > 0 else []
        return Group(*above, table, self.stages, self.overall)


def _cells(line: Line) -> tuple[str, ...]:
    attack = f"+ {line.attack}" if line.follows else line.attack
    return (line.model, line.defense, attack, line.eps or "-", line.accuracy.percent)
