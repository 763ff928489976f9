"""Signals that end a command: the first lets it clean up, the second ends it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ended_by_signals", "exit_code"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, kill and cluster managers, a terminal that is closed
_SHOW_CURSOR = "\x1b[?25h"
_seen: list[int] = []  # since the last context was opened


def exit_code() -> int:
    """Of a command that a signal has ended, as shells tell it: 130 for Ctrl-C, 143 for kill."""
    return 128 + (_seen[0] if _seen else signal.SIGINT)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Meanwhile the first of the signals raises KeyboardInterrupt, and the next one ends the process where it is.

    What is ignored stays ignored (nohup). Nothing is lost either way: files of results are never half written.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _seen.clear()

    def end(number: int, frame: FrameType | None) -> None:
        _seen.append(number)
        if len(_seen) > 1:
            if sys.stderr is not None and sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR.encode())
            os.write(2, b"Interrupted twice: ended at once.\n")
            os._exit(128 + number)
        raise KeyboardInterrupt  # whatever the signal: click and Ray raise one of their own in its place

    before = {}
    for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
