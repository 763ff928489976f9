"""Standard output and standard error as streams that never cost a result: full, closed, or of few characters."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from advkit.paths import shown

__all__ = ["Tolerant", "tolerant_streams"]

_STEERING = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
_OF_OUTPUT = re.compile(rf"(\x1b\[(?:[0-3](?:;[0-3])*)?m)|{_STEERING}")  # bold and dim are the tables' own
_OF_ERRORS = re.compile(
    rf"(\x1b\[[\d;]*m|\x1b\[\??\d*[A-Za-z]|\r)|{_STEERING}"
)  # so are the movements of progress bars


class Tolerant:
    """A text stream that writes as long as it can, and then remembers why it could not; a command goes on and saves.

    What is written may come from a file of somebody else's: characters that steer a terminal are spelled out, but for those
    that ``own`` finds in its first group.
    """

    def __init__(self, stream: TextIO, own: re.Pattern[str] = _OF_OUTPUT) -> None:
        self._stream, self._own = stream, own
        self.trouble: Exception | None = None

    def write(self, text: str | bytes) -> int:
        """Write; a character that the stream has not is written as a question mark. Bytes are what shells complete with."""
        if self.trouble is None:
            try:
                self._written(text)
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Bring what was written to its place."""
        if self.trouble is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def _written(self, text: str | bytes) -> None:
        if isinstance(text, bytes):
            self._stream.flush()
            self._stream.buffer.write(text)
            return
        text = self._own.sub(_spelled, text)
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            known = self._stream.encoding or "ascii"
            self._stream.write(text.encode(known, "replace").decode(known))

    def _lose(self, error: Exception) -> None:
        self.trouble = error
        _to_nowhere(self._stream)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # click would write its bytes past this
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextmanager
def tolerant_streams() -> Iterator[list[str]]:
    """Meanwhile sys.stdout and sys.stderr are tolerant; at the end the list holds why standard output could not be written.

    One that is closed, for which Python has None, is a stream to nowhere: whoever writes need not know.
    """
    said: list[str] = []
    before = sys.stdout, sys.stderr
    if None in before:
        _fill_gaps()
    if sys.stdout is None:
        said.append("it is closed")
    with ExitStack() as stack:
        streams = (one or stack.enter_context(Path(os.devnull).open("w")) for one in before)
        out, err = (Tolerant(one, own) for one, own in zip(streams, (_OF_OUTPUT, _OF_ERRORS), strict=True))
        sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
        try:
            yield said
        finally:
            out.flush()
            if out.trouble is not None:
                said.append(_why(out.trouble))
            err.flush()
            sys.stdout, sys.stderr = before


def _spelled(found: re.Match[str]) -> str:
    own: str | None = found[1]
    return own or shown(found[0])


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return "who reads it has left"
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")


def _to_nowhere(stream: TextIO) -> None:
    """What is left in the stream's memory goes nowhere, or the interpreter would try again, and complain, at its end."""
    with suppress(OSError, ValueError):
        handle = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, handle)
        os.close(nowhere)


def _fill_gaps() -> None:
    """Where a standard stream is closed, its number would go to the next file that is opened, and be written to."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
