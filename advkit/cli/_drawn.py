"""What is drawn again and again while work is under way: on a terminal alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

__all__ = ["Drawn"]


class Drawn(ABC):
    """A view that is on the screen between its beginning and its end, where the screen is a terminal that is not quiet."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.screen.is_terminal and not self.screen.quiet:
            self._live = Live(get_renderable=self._drawn, console=self.screen, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    @abstractmethod
    def _drawn(self) -> RenderableType:
        """What stands there now."""
