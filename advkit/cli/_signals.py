"""Signals that end a command: the first lets it clean up, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["code_of", "ended_by_signals"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, kill and cluster managers, a terminal that is closed
_SHOW_CURSOR = "\x1b[?25h"


class _Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C that ends what runs in the same way."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def code_of(error: BaseException) -> int:
    """The exit code of a command that a signal has ended, as shells tell it: 130 for Ctrl-C, 143 for kill."""
    ended = next((each for each in (error, error.__cause__) if isinstance(each, _Ended)), None)  # click wraps it
    return 128 + (signal.SIGINT if ended is None else ended.number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Meanwhile the first of the signals raises KeyboardInterrupt, and the next one ends the process where it is.

    What is ignored stays ignored (nohup). Nothing is lost either way: files of results are never half written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR.encode())
            os.write(2, b"Interrupted twice: ended at once.\n")
            os._exit(128 + number)
        raise KeyboardInterrupt if number == signal.SIGINT else _Ended(number)

    before = {}
    for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
