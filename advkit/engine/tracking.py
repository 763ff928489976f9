"""Telling a service about a sweep while it runs: one interface for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

__all__ = ["Tracker"]


class Tracker(ABC):
    """Told of a sweep. What it raises is its own problem: the sweep goes on, and says so once."""

    @abstractmethod
    def start(self, study: Mapping[str, Any]) -> None:
        """The sweep begins: its command, and all of its settings."""

    @abstractmethod
    def line(self, line: Mapping[str, Any]) -> None:
        """A line of the table is complete: the fields of ``Line.to_json``."""

    @abstractmethod
    def close(self) -> None:
        """The sweep is over, or was interrupted."""
