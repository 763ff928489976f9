"""The live view of a training: a table of epochs, the step that it stands at, and the time left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from advkit.cli._drawn import Drawn

if TYPE_CHECKING:
    from advkit.engine.training import Epoch

__all__ = ["TrainingView", "duration"]

_ROWS = 16  # epochs on the screen


class TrainingView(Drawn):
    """What a training says: on a terminal a table that fills in, elsewhere a line for each epoch."""

    def __init__(self, screen: Console, epochs: int) -> None:
        super().__init__(screen)
        self.epochs = epochs
        self.rows: deque[Epoch] = deque(maxlen=_ROWS)
        bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[said]}"))
        self.bar = Progress(*bars, TimeElapsedColumn(), console=screen)
        self.task = self.bar.add_task("steps", total=None, said="")
        self._first = self._done = self._total = 0
        self._since = time.monotonic()

    def begun(self, done: int, total: int, history: Sequence[Epoch]) -> None:
        """The training begins, or goes on after ``done`` steps."""
        self._first = self._done = done
        self._total, self._since = total, time.monotonic()
        self.rows.extend(history)
        self.bar.update(self.task, completed=done, total=total)
        if done:
            self.screen.print(f"goes on from step {done:,} of {total:,}, after {len(history)} epochs", markup=False)

    def step(self, done: int, total: int, loss: float) -> None:
        """A step is over."""
        self._done = done
        if self._live is not None:
            self.bar.update(self.task, completed=done, said=f"loss {loss:.3f}, {self.left()}")

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        self.rows.append(epoch)
        if self._live is None:
            cells = [f"{name} {value}" for name, value in zip(_heads(epoch), _cells(epoch), strict=True)]
            self.screen.print("  ".join(filter(None, [" ".join(cells), self.left()])), markup=False)

    def left(self) -> str:
        """The time that is left, by what a step took so far, with all that is measured between them."""
        done = self._done - self._first
        if not done:
            return ""
        return f"{duration((time.monotonic() - self._since) / done * (self._total - self._done))} left"

    def _drawn(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, expand=False)
        if self.rows:
            for head in _heads(self.rows[-1]):
                table.add_column(head, justify="right")
            for epoch in self.rows:
                table.add_row(*map(Text, _cells(epoch)))
        return Group(table, self.bar)


def _heads(epoch: Epoch) -> tuple[str, ...]:
    return ("epoch", "loss", *epoch.scores, "time", "")


def _cells(epoch: Epoch) -> tuple[str, ...]:
    shares = {"robust", "clean", "fgsm"}
    scores = (f"{100 * v:.1f} %" if name in shares else f"{v:.4g}" for name, v in epoch.scores.items())
    said = "ALARM" if epoch.alarm else "best" if epoch.best else ""
    return (str(epoch.number), f"{epoch.loss:.4f}", *scores, duration(epoch.seconds), said)


def duration(seconds: float) -> str:
    """As a reader wants it: 40 s, 3 min, 2.5 h."""
    if seconds < 99:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
