"""The live view of a sweep: overall and per-cell progress, time left, and rows that fill in as they finish."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from advkit.cli._drawn import Drawn
from advkit.cli._plan import duration

if TYPE_CHECKING:
    from advkit.engine.forecast import Forecast
    from advkit.engine.sweep import Plan
    from advkit.engine.tasks import Report, Task
    from advkit.results.grid import Line

__all__ = ["LiveView"]

_BARS = 8  # cells in work on the screen
_LEAST_ROWS = 3
_NARROW = 100  # letters, below which bars are short


@dataclass
class _Cell:
    """A cell that is not complete: its tasks, and what is said of those in work."""

    title: str
    tasks: int
    done: int = 0
    failed: bool = False
    running: dict[int, tuple[str, float]] = field(
        default_factory=dict
    )  # by the first example: what is said, and its share

    @property
    def share(self) -> float:
        return (self.done + sum(share for _, share in self.running.values())) / self.tasks

    @property
    def said(self) -> str:
        stages = list(dict.fromkeys(said for said, _ in self.running.values()))
        parts = f"{self.done} of {self.tasks}" if self.tasks > 1 else ""
        return ", ".join(filter(None, [parts, *stages[:2]]))


class LiveView(Drawn):
    """What a sweep says, on a terminal; elsewhere a line of text for each row of the table."""

    def __init__(self, screen: Console, forecast: Forecast, workers: int = 1) -> None:
        super().__init__(screen)
        self.forecast, self.workers = forecast, workers
        self.rows: deque[Line] = deque(maxlen=1000)
        self.finished = 0
        self._cells: dict[str, _Cell] = {}
        self._whole = self._complete = 0
        self._began = time.monotonic()
        self._lock = threading.RLock()  # a thread of its own draws

    def begun(self, plan: Plan, left: Sequence[Task]) -> None:
        """What is left, cell by cell."""
        with self._lock:
            self.forecast.begin(plan, left, self.workers)
            for task in left:
                cell = self._cells.setdefault(task.cell.key, _Cell(task.title, 0))
                cell.tasks += 1
            self._whole = len({planned.cell.key for planned in plan.cells})
            self._complete = self._whole - len(self._cells)

    @contextmanager
    def watch(self, task: Task, stage: str) -> Iterator[Callable[[int, int], None]]:
        """A stage of a task, in this process or another one of this machine."""
        with self._lock:
            self.forecast.stage(task, stage)
            self._say(task, stage)

        def told(done: int, total: int) -> None:
            with self._lock:
                self.forecast.progress(task, done / max(1, total))
                self._say(task, f"{stage} {100 * done // max(1, total)} %")

        yield told

    def _say(self, task: Task, said: str) -> None:
        cell = self._cells.get(task.cell.key)
        if cell is not None:
            cell.running[task.span[0]] = (said, self.forecast.share_of(task))

    def report(self, report: Report) -> None:
        """A task is over."""
        with self._lock:
            self.forecast.over(report)
            cell = self._cells.get(report.task.cell.key)
            if cell is not None:
                cell.running.pop(report.task.span[0], None)
                cell.done += 1
                cell.failed = cell.failed or report.error is not None
                if cell.done == cell.tasks:
                    del self._cells[report.task.cell.key]
                    self._complete += not cell.failed
        if report.error is not None:
            self.screen.print(f"failed: {report.task.title}: {report.error.strip().splitlines()[-1]}", markup=False)

    def lines(self, lines: Sequence[Line]) -> None:
        """A cell is complete: a row for each radius, of its stages the last, which is on what all of them left standing."""
        ends = [line for line in lines if not line.cell.stages or line.attack == line.cell.stages[-1].name]
        with self._lock:
            self.finished += len(ends)
            self.rows.extend(ends)
            for line in ends:
                if not line.cell.stages:
                    self.forecast.right(line.cell, line.accuracy.value)
        if self._live is None:
            for line in ends:
                self.screen.print(" ".join(_cells(line)), markup=False)

    def _drawn(self) -> RenderableType:
        with self._lock:
            return self._picture(*self.screen.size)

    def _picture(self, width: int, height: int) -> RenderableType:
        """Rows, the whole and the cells in work, as many as fit the screen."""
        bars, more = self._bars(width, max(1, min(_BARS, height - _LEAST_ROWS - 7)))
        room = max(_LEAST_ROWS, height - len(bars) - bool(more) - 5)
        return Group(*self._table(room), Text(), self._overall(width), *bars, *more)

    def _table(self, room: int) -> list[RenderableType]:
        """The last rows, as many as there is room for."""
        if not self.rows:
            return []
        table = Table(box=None, pad_edge=False, expand=False)
        for head in ("model", "defense", "attack", "eps", "accuracy %"):
            right = head == "accuracy %"
            table.add_column(head, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
        shown = list(self.rows)[-room:]
        for line in shown:
            table.add_row(*map(Text, _cells(line)))
        hidden = self.finished - len(shown)
        return [*([Text(f"... {hidden} rows above", style="dim")] if hidden > 0 else []), table]

    def _overall(self, width: int) -> RenderableType:
        left, share = self.forecast.left(), self.forecast.share
        said = [_ends(left), f"{100 * share:.0f} %", f"{self._complete} of {self._whole} cells"]
        if width >= _NARROW:
            said.append(f"{duration(time.monotonic() - self._began)} so far")
        return _bar("sweep", share, ", ".join(filter(None, said)), width)

    def _bars(self, width: int, most: int) -> tuple[list[RenderableType], list[RenderableType]]:
        """The cells that are begun and not complete."""
        begun = [cell for cell in self._cells.values() if cell.running or cell.done]
        begun.sort(key=lambda cell: not cell.running)  # stable: those in work first
        more = len(begun) - most
        return (
            [_bar(cell.title, cell.share, cell.said, width) for cell in begun[:most]],
            [Text(f"... and {more} more cells begun", style="dim")] if more > 0 else [],
        )


def _ends(left: float | None) -> str:
    if left is None:
        return ""
    return f"about {duration(left)} left" if left >= 1 else "almost done"


def _bar(title: str, share: float, said: str, width: int) -> RenderableType:
    """One line: a name, a bar, and what is said."""
    line = Table.grid(padding=(0, 1))
    bar = 10 if width < _NARROW else 32
    name = max(10, min(40, (width - bar) // 3))
    rest = width - name - bar - 7  # not to the edge: what the terminal echoes (^C) would break the line
    line.add_column(width=name, no_wrap=True, overflow="ellipsis")
    line.add_column(width=bar)
    line.add_column(width=max(10, rest), no_wrap=True, overflow="ellipsis")
    line.add_row(Text(title), ProgressBar(total=1.0, completed=min(1.0, share), width=bar), Text(said))
    return line


def _cells(line: Line) -> tuple[str, ...]:
    return (line.model, line.defense, line.cell.attack, line.eps or "-", line.accuracy.percent)
