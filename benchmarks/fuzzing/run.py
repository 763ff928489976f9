"""Try inputs in forked processes, each with a limit of time and memory, several side by side."""

from __future__ import annotations

import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzing.case import PLANTED, Answer, Box, Case, Ending, judged

__all__ = ["LIMIT", "Tried", "load", "sentence_of", "try_all", "try_one"]

LIMIT = 20.0  # seconds that an input may take, after imports
_BUILDING = 60.0  # to build it
_MEMORY = 6 << 30  # bytes beyond what is there after imports
_MODULES = ("scipy.optimize", "scipy.stats", "matplotlib.figure", "PIL.Image", "rich.table", "rich.progress", "jinja2")


@dataclass(frozen=True)
class Tried:
    """An input and how it ended."""

    case: Case
    ending: Ending
    told: str
    seconds: float
    refused: bool  # whether it was: the time is that of a refusal


def load() -> None:
    """Import here what inputs need, so that forks have it already. No threads are started, which a fork would lack."""
    import importlib

    import torch

    torch.set_num_threads(1)
    from advkit import catalog
    from advkit.cli import _COMMANDS

    for name in (*_MODULES, *(f"advkit.cli.{command.replace('-', '_')}" for command in _COMMANDS)):
        with suppress(ImportError):
            importlib.import_module(name)
    for module in _needed():
        importlib.import_module(module)
    for registry in ("ATTACKS", "BACKBONES", "DATASETS", "DEFENSES", "DIRECTIONS", "LOSSES", "EXECUTORS", "TRACKERS"):
        held = getattr(catalog, registry)
        for name in held.names():
            held[name]


def _needed() -> Sequence[str]:
    """What commands import when they run."""
    return (
        "advkit.backbones.load",
        "advkit.data.load",
        "advkit.engine.evaluate",
        "advkit.engine.sweep",
        "advkit.engine.verify",
        "advkit.engine.verify_store",
        "advkit.results.store",
        "advkit.results.grid",
    )


class _Attempt:
    """An input that is being tried."""

    def __init__(self, case: Case, folder: Path, stock: Path) -> None:
        self.case, self.box = case, Box(folder / "box", stock)
        self.folder = folder
        self.box.at.mkdir(parents=True)
        self.pipe, theirs = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(self.pipe)
            _child(case, self.box, folder, theirs)
        os.close(theirs)
        self.until = time.monotonic() + _BUILDING
        self.running = False
        self.said = b""

    def heard(self) -> bool:
        """Read what it says; whether it has ended."""
        new = os.read(self.pipe, 1 << 16)
        self.said += new
        if not self.running and self.said:
            self.running = True
            self.until = time.monotonic() + LIMIT + (10.0 if self.case.alone else 0.0)
        return not new

    def end(self, late: bool) -> Tried:
        """Wait for it, or kill it where it is late."""
        os.close(self.pipe)
        with suppress(ProcessLookupError):
            if late:
                os.killpg(self.pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(ProcessLookupError):  # what it has started and left
            os.killpg(self.pid, signal.SIGKILL)
        said = self.said[1:].decode()
        tail = self._tail()
        drawn = self.box.at / ".given"
        if drawn.exists():
            self.case = replace(self.case, given=drawn.read_text())
        shutil.rmtree(self.folder, ignore_errors=True)
        if late:
            return Tried(self.case, "hang", f"{'building' if not self.running else 'running'}: {tail}", LIMIT, False)
        if not said:
            return Tried(self.case, "killed", f"ended with {code}: {tail}", 0.0, False)
        found = json.loads(said)
        return Tried(self.case, found["ending"], found["told"], found["seconds"], found["refused"])

    def _tail(self) -> str:
        path = self.folder / "err"
        return path.read_text(errors="replace")[-400:] if path.exists() else ""


def _child(case: Case, box: Box, folder: Path, pipe: int) -> None:
    """Build the input, try it, tell how it ended; never returns."""
    try:
        os.setsid()
        for number, name in ((1, "out"), (2, "err")):
            handle = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(handle, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(box.at)
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        action = _action(case, box, folder)
        _limit_memory()
        os.write(pipe, b"!")
        began = time.monotonic()
        answer = action()
        seconds = time.monotonic() - began
        ending, told = judged(case, answer, (box.at / PLANTED).exists())
        found = {"ending": ending, "told": told, "seconds": seconds, "refused": bool(answer.code or answer.error)}
        os.write(pipe, json.dumps(found).encode())
    except BaseException:  # of the driver itself, or where memory is out
        traceback.print_exc()
        os._exit(70)
    os._exit(0)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _action(case: Case, box: Box, folder: Path) -> Callable[[], Answer]:
    """What is to be timed."""
    if case.call is not None:
        return _called(case.call(box))
    assert case.words is not None
    words = [str(word) for word in case.words(box)]
    return _process(words, case, box) if case.alone else _command(words, folder)


def _called(thunk: Callable[[], object]) -> Callable[[], Answer]:
    def action() -> Answer:
        try:
            return Answer(value=thunk())
        except BaseException as error:
            return Answer(error=error, trace=traceback.format_exc()[-1500:])

    return action


def _command(words: Sequence[str], folder: Path) -> Callable[[], Answer]:
    def action() -> Answer:
        from advkit.cli import main

        error, trace, code = None, "", None
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        except BaseException as raised:
            error, trace = raised, traceback.format_exc()[-1500:]
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        out, err = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Answer(code, out, err, error=error, trace=trace)

    return action


def _process(words: Sequence[str], case: Case, box: Box) -> Callable[[], Answer]:
    """The same in a process of its own; words that begin with a .py file are a script."""
    command = [sys.executable, *(words if words and words[0].endswith(".py") else ["-m", "advkit", *words])]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"} if case.stdout == "ascii" else dict(os.environ)

    def prepared() -> None:
        if case.stdout == "closed":
            os.close(1)
        elif case.stdout == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    def action() -> Answer:
        done = subprocess.run(
            command, capture_output=True, cwd=box.at, env=environment, preexec_fn=prepared if case.stdout else None
        )
        return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return action


def try_all(cases: Sequence[Case], folder: Path, stock: Path, workers: int) -> Iterator[Tried]:
    """Every input once, so many side by side."""
    waiting = list(enumerate(cases))[::-1]
    selector = selectors.DefaultSelector()
    alive: list[_Attempt] = []
    while waiting or alive:
        while waiting and len(alive) < workers:
            number, case = waiting.pop()
            attempt = _Attempt(case, folder / str(number), stock)
            selector.register(attempt.pipe, selectors.EVENT_READ, attempt)
            alive.append(attempt)
        ready = [key.data for key, _ in selector.select(timeout=0.2)]
        now = time.monotonic()
        for attempt in [*alive]:
            ended = attempt in ready and attempt.heard()
            if ended or now > attempt.until:
                selector.unregister(attempt.pipe)
                alive.remove(attempt)
                yield attempt.end(late=not ended)


def try_one(case: Case, folder: Path, stock: Path) -> Tried:
    """A single input."""
    return next(try_all([case], folder, stock, 1))


def sentence_of(tried: Tried, width: int = 160) -> str:
    """One line about it."""
    last = tried.told.strip().splitlines()[-1] if tried.told.strip() else ""
    return f"{tried.ending:9} {tried.seconds:5.1f} s  {tried.case.place}: {tried.case.given}\n          {last[:width]}"
