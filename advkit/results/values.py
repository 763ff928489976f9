"""What a table shows of each line: its accuracy, the attack's success, distances, passes or time. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from advkit.errors import UnknownName
from advkit.results.grid import Line
from advkit.results.statistics import Share, share, short

__all__ = ["ACCURACY", "VALUES", "Value", "value_of"]


@dataclass(frozen=True)
class Value:
    """One number of a line: what it is called, how it is written, and which is the best of several models."""

    title: str
    said: str  # how to read it
    of: Callable[[Line], Share | float | None]
    text: Callable[[float], str]
    scale: float = 1.0  # for programs
    best: int = 0  # 1: the highest, -1: the lowest, 0: none
    bare: bool = False  # whether there is one without attack

    def share(self, line: Line) -> Share | None:
        """With its interval, where it has one."""
        found = self.of(line)
        return found if isinstance(found, Share) else None

    def number(self, line: Line) -> float | None:
        """Without."""
        found = self.of(line)
        return found.value if isinstance(found, Share) else found


def _success(line: Line) -> Share | None:
    right = int(line.clean.sum())
    return share(round(line.success * right), right) if right else None


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


ACCURACY = Value("Accuracy %", "", lambda line: line.accuracy, _percent, 100.0, best=1, bare=True)

VALUES = {
    "accuracy": ACCURACY,
    "success": Value(
        "Success % of attacks",
        "Success: of the examples that are right without attack.",
        _success,
        _percent,
        100.0,
        best=-1,
    ),
    "distance": Value(
        "Median distance",
        "Median distance of the examples that the attack changed, which are not the same in all cells.",
        lambda line: line.median_distance,
        lambda value: f"{value:.4g}",
    ),
    "passes": Value(
        "Passes",
        "Passes: forward and backward, of one example each.",
        lambda line: float(line.forwards + line.backwards),
        short,
    ),
    "seconds": Value(
        "Seconds", "Seconds of all workers together.", lambda line: line.seconds, lambda value: f"{value:.1f}"
    ),
}


def value_of(name: str) -> Value:
    """A value by name. Raises UnknownName for any other."""
    if name not in VALUES:
        raise UnknownName("value", name, VALUES)
    return VALUES[name]
