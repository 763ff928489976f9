"""Several processes on one machine.

Each worker has a pipe of its own and shares no lock: one that is killed, at whatever moment, takes nothing from the others.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait

from advkit.catalog import EXECUTORS
from advkit.engine.examples import Progress
from advkit.engine.tasks import Executor, Report, Task, Watch, perform
from advkit.errors import InputError
from advkit.executors._guard import UNGUARDED, check_guard, unguarded
from advkit.executors._lost import Lost, ending
from advkit.executors._place import Things, cores, gpus, joined, sharing, split

__all__ = ["Processes"]

_TELL = 0.2  # seconds between two words on the progress of a stage
_END = 5.0  # seconds that the system may take to end a killed process


@EXECUTORS.register("processes")
@dataclass(frozen=True)
class Processes(Executor):
    """Several processes on this machine; each has its share of the cores or, on GPUs, a GPU of its own.

    ``workers`` is by default one for each GPU, else one for each core. A script that uses it must do so under
    ``if __name__ == "__main__":``, because a worker imports it.
    """

    workers: int = 0
    retries: int = 3  # workers that a task may lose

    def __post_init__(self) -> None:
        if self.workers < 0 or self.retries < 1:
            raise InputError(f"{self}: workers must be 0 (one for each core or GPU) or more, retries 1 or more.")

    def at_once(self, device: str = "cpu") -> int:
        """How many processes there are."""
        return self.workers or (len(gpus()) if device == "cuda" else 0) or cores()

    def check(self) -> None:
        """Raises InputError for a script that workers cannot import."""
        check_guard()

    def run(self, rounds: Iterable[Sequence[Task]], watch: Watch) -> Iterator[Report]:
        """Reports as they come; the processes live from the first round to the last."""
        self.check()
        crew = _Crew(self, watch)
        try:
            for tasks in rounds:
                yield from crew.do(deque(tasks))
        finally:
            crew.stop()


class _Crew:
    """The processes of one run."""

    def __init__(self, executor: Processes, watch: Watch) -> None:
        self.executor, self.watch = executor, watch
        self.lost = Lost(executor.retries)
        self.workers: list[_Worker] = []
        self.failed_starts = 0  # in a row

    def do(self, waiting: deque[Task]) -> Iterator[Report]:
        """Do all that is waiting."""
        most = self.executor.at_once(waiting[0].device)
        while waiting or any(worker.task for worker in self.workers):
            free = sum(worker.task is None for worker in self.workers)
            for _ in range(min(most - len(self.workers), len(waiting) - free)):
                self._hire(most, waiting[0].device)
            for worker in self.workers:
                if waiting and worker.ready and worker.task is None:
                    try:
                        worker.give(waiting.popleft())
                    except _CannotTravel as error:
                        yield Report(error.task, error=str(error), expected=True)
            for pipe in wait([worker.pipe for worker in self.workers], timeout=1.0):
                (worker,) = (worker for worker in self.workers if worker.pipe is pipe)
                try:
                    report = worker.listen(self.watch)
                    self.failed_starts = 0
                except (EOFError, OSError):
                    report = self._bury(worker, waiting, most)
                if report is not None:
                    yield report

    def _hire(self, most: int, device: str) -> None:
        """Start a process in the first place that is free."""
        taken = {worker.place for worker in self.workers}
        place = next(place for place in range(most) if place not in taken)
        mine = gpus() if device == "cuda" else []
        self.workers.append(_Worker(place, max(1, cores() // most), mine[place % len(mine)] if mine else None))

    def _bury(self, worker: _Worker, waiting: deque[Task], most: int) -> Report | None:
        """Remove a worker that died; its task waits for another one, or is reported as lost."""
        self.workers.remove(worker)
        worker.process.join(
            _END
        )  # its pipe is closed, so it is about to end by itself, and how it does is worth telling
        how = ending(worker.stop())
        if not worker.ready:
            if worker.process.exitcode == UNGUARDED:
                raise unguarded("the script")
            self.failed_starts += 1
            if self.failed_starts >= self.executor.retries * most:
                raise InputError(
                    f"worker processes cannot be started ({how}, {self.failed_starts} times); what they said is above. A "
                    'script must start a sweep under if __name__ == "__main__":, because each worker imports it.'
                )
        if worker.task is None:
            return None
        report = self.lost.give_up(worker.task, how)
        if report is None:
            waiting.appendleft(worker.task)
        return report

    def stop(self) -> None:
        """End the processes at once: all that they finished is in the store."""
        for worker in self.workers:
            worker.process.kill()  # all of them before waiting for any
        for worker in self.workers:
            worker.stop()


class _CannotTravel(Exception):
    """A task that cannot be sent to another process."""

    def __init__(self, task: Task, reason: Exception) -> None:
        super().__init__(
            f"{task.model.model}, {task.data.name} or {task.attack.name if task.attack else 'no attack'} cannot be sent to "
            f"another process ({reason}); define its class in a module of its own, or do without workers."
        )
        self.task = task


class _Worker:
    """A process, as the driver sees it: which place it has, and the task it is at."""

    def __init__(self, place: int, threads: int, gpu: str | None = None) -> None:
        self.place, self.threads = place, threads
        self.ready = False
        self.task: Task | None = None
        self._progress: Progress | None = None
        self._stages = ExitStack()
        self._things: Things | None = None  # what it has already
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(theirs,), name=f"advkit worker {place}", daemon=True
        )
        with sharing(threads, gpu), _no_interrupts():
            self.process.start()
        theirs.close()  # or its end would never be seen

    def give(self, task: Task) -> None:
        """Send a task. Models and data that were made by the caller are sent once, not with every task."""
        own, things = split(task)
        sent = replace(own, threads=self.threads)
        try:
            content = pickle.dumps((sent, None if things == self._things else things))
        except Exception as error:  # pickle raises whatever the object does
            raise _CannotTravel(task, error) from error
        self.task = task
        with suppress(OSError):  # it has just died: listening says so
            self.pipe.send_bytes(content)
        self._things = things

    def listen(self, watch: Watch) -> Report | None:
        """Take one message. Raises EOFError or OSError where the worker is no more."""
        kind, *said = self.pipe.recv()
        task = self.task
        if kind == "ready":
            self.ready = True
        elif kind == "begin" and task is not None:
            self._stages.close()
            self._progress = self._stages.enter_context(watch(task, *said))
        elif kind == "progress" and self._progress is not None:
            self._progress(*said)
        elif kind == "over" and task is not None:
            self._stages.close()
            self.task = None
            report = Report(task, *said)
            if report.error is not None:  # perhaps it could not read them
                self._things = None
            return report
        return None

    def stop(self) -> int | None:
        """End the process, if it has not ended; its exit code."""
        self._stages.close()
        self.process.kill()
        self.process.join(_END)
        self.pipe.close()
        return self.process.exitcode


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, not even while they load: it is the driver's. Here it waits."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---------------------------------------------------------------------- in the worker


def _work(pipe: Connection) -> None:
    """Do tasks until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    held: Things = ()
    with suppress(EOFError, OSError):  # the driver is gone
        pipe.send(("ready",))
        while True:
            content = pipe.recv_bytes()
            try:
                task, things = pickle.loads(content)  # noqa: S301 - from the driver, through a pipe that nobody else holds
            except Exception as error:
                said = (
                    f"a task cannot be read in another process ({error}); define its classes in a module of their own."
                )
                pipe.send(("over", 0.0, said, True, False))
                continue
            held = things or held
            report = perform(joined(task, held), _Teller(pipe))
            pipe.send(("over", report.seconds, report.error, report.expected, report.fatal))


class _Teller:
    """Tells the driver of the progress of stages, a few times a second."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self._last = pipe, 0.0

    def __call__(self, task: Task, stage: str) -> AbstractContextManager[Progress | None]:
        """A stage begins."""
        self.pipe.send(("begin", stage))
        return nullcontext(self.progress)

    def progress(self, done: int, total: int) -> None:
        """Tell it, unless it was told just now."""
        now = time.monotonic()
        if now - self._last >= _TELL:
            self._last = now
            self.pipe.send(("progress", done, total))


def _end_with_driver() -> None:
    """However the driver ends, kill -9 included: the system closes its end of a pipe, and so ends this process."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        wait([driver.sentinel])
        os._exit(1)
