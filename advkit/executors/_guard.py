"""Whether the running script may be imported by its workers: a call at its top level would be made again by each of them."""

from __future__ import annotations

import ast
import multiprocessing
import os
import sys
from pathlib import Path
from types import FrameType

from advkit.errors import InputError

__all__ = ["UNGUARDED", "check_guard", "unguarded"]

UNGUARDED = 77
"""The exit code of a worker that is importing the script, and comes to the same call again."""


def check_guard() -> None:
    """Raises InputError where the call stands at the top level of a script, outside of ``if __name__ == "__main__":``.

    Each worker imports the script under another name, so it would begin the same sweep again. A worker that comes here while
    it imports ends at once: the driver learns by its exit code what it could not see, such as a call from a thread.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)
    main = sys.modules.get("__main__")
    path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
    if main is None or path is None or (spec is not None and spec.name.rpartition(".")[2] == "__main__"):
        return  # a notebook, an interactive session, python -m package: nothing that workers import
    line = _top_line(vars(main))
    if line is not None and not _guarded(Path(path), line):
        raise unguarded(f"line {line} of {Path(path).name}")


def unguarded(place: str) -> InputError:
    """The sentence for a sweep that a worker would begin again."""
    return InputError(
        f"{place} starts worker processes, and each of them imports this script and would come to the same line: put it under "
        'if __name__ == "__main__":, or do without workers.'
    )


def _top_line(names: dict[str, object]) -> int | None:
    """The line at which the script itself stands, where it is its top level that led here."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is names and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _guarded(path: Path, line: int) -> bool:
    """Whether a line lies under an ``if`` that asks for ``__name__``, or behind one; true where the source cannot be read."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return True
    asking = [node for part in body for node in ast.walk(part) if isinstance(node, ast.If) and _asks_name(node.test)]
    return any(node.lineno <= line for node in asking)


def _asks_name(test: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(test))
