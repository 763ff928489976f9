"""Telling a service about a sweep or a training while it runs: one interface for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from advkit.catalog import TRACKERS

__all__ = ["Tracker", "build_tracker", "curve", "settings_told"]


class Tracker(ABC):
    """Told of a sweep. What it raises is its own problem: the sweep goes on, and says so once."""

    @abstractmethod
    def start(self, study: Mapping[str, Any]) -> None:
        """The sweep begins: its ``command``, the text of its ``study`` where it has one, and what else is noted of it."""

    @abstractmethod
    def line(self, line: Mapping[str, Any]) -> None:
        """A line of the table is complete: the fields of ``Line.to_json``."""

    def epoch(self, number: int, values: Mapping[str, float]) -> None:  # noqa: B027  (a service may know sweeps only)
        """An epoch of a training is over, after ``start``: its loss, learning rate and scores by name."""

    def interrupted(self) -> None:  # noqa: B027  (a service may know no state of a run)
        """The sweep ends before it is complete: ``close`` comes next."""

    @abstractmethod
    def close(self) -> None:
        """The sweep is over, or was interrupted."""


def build_tracker(text: str) -> Tracker:
    """A tracker by name, with settings by place or name: ``tensorboard:DIR``, ``mlflow:URI``, ``wandb:PROJECT``.

    Raises InputError for a name that is none, and MissingExtra where the service's package is not installed.
    """
    return TRACKERS.build(text)


def curve(line: Mapping[str, Any]) -> str:
    """The curve over radii that a line is a point of: ``model/defense/attack``."""
    return "/".join(str(line[part]).replace("/", "-") for part in ("model", "defense", "attack"))


def settings_told(study: Mapping[str, Any]) -> dict[str, str]:
    """What is told of a sweep as short texts; a study's text, which is long, is none of them."""
    return {key: str(value) for key, value in study.items() if key != "study" and value not in (None, "")}
