"""Ctrl-C between two steps, never within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Pressed", "listening"]


class Pressed:
    """Whether the user, or who runs the machine, has asked for an end."""

    def __init__(self) -> None:
        self.asked = False

    def __bool__(self) -> bool:
        return self.asked

    def check(self) -> None:
        """Raises KeyboardInterrupt where an end was asked for."""
        if self.asked:
            raise KeyboardInterrupt


@contextmanager
def listening(wanted: bool = True) -> Iterator[Pressed]:
    """Take Ctrl-C and SIGTERM down instead of raising; a second Ctrl-C raises. Elsewhere than in the main thread: nothing."""
    pressed = Pressed()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def take(number: int, frame: FrameType | None) -> None:
        if pressed.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.asked = True

    before = {number: signal.signal(number, take) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
