"""Ctrl-C and the like between two steps, never within one."""

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


_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, kill and cluster managers, a terminal that is closed


@contextmanager
def listening(wanted: bool = True) -> Iterator[Pressed]:
    """Take signals that ask for an end down instead of raising; a second Ctrl-C raises. Not outside the main thread.

    Who took them before hears of the first afterwards: how a process ends is his to say. What is ignored stays ignored.
    """
    pressed = Pressed()
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    heard: list[tuple[int, FrameType | None]] = []

    def take(number: int, frame: FrameType | None) -> None:
        if pressed.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        heard.append((number, frame))
        pressed.asked = True

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {n: signal.signal(n, take) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    try:
        yield pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number, frame in heard[:1]:
            handler = before[number]
            if callable(handler):
                handler(number, frame)
