"""Tasks that lost their worker: given to another one, a few times."""

from __future__ import annotations

import signal
import warnings
from collections import Counter

from advkit.engine.tasks import Report, Task

__all__ = ["Lost", "ending"]


class Lost:
    """Counts how often each task lost its worker."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._times: Counter[tuple[object, ...]] = Counter()

    def give_up(self, task: Task, how: str) -> Report | None:
        """The report of a task that lost its worker for the last time; None, and a warning, where it is to be tried again."""
        key = (task.cell.key, task.span)
        self._times[key] += 1
        examples = f"examples {task.span[0]} to {task.span[1]}"
        if self._times[key] < self.most:
            warnings.warn(f"a worker was lost ({how}); {task.title}, {examples}, is tried again.", stacklevel=2)
            return None
        return Report(
            task,
            error=f"{examples} lost their worker {self._times[key]} times (the last time: {how}). Where memory ran out, use "
            "fewer workers or a smaller --batch-size.",
            expected=True,
        )


def ending(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
