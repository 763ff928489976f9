"""Ray: a cluster that is there, or one on this machine."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from advkit.catalog import EXECUTORS
from advkit.engine.tasks import Executor, Report, Task, Watch, perform
from advkit.errors import InputError, MissingExtra, first_line
from advkit.executors._lost import Lost
from advkit.executors._place import Place, Things, cores, joined, sharing, split

__all__ = ["Ray"]


@EXECUTORS.register("ray")
@dataclass(frozen=True)
class Ray(Executor):
    """A Ray cluster: the one at ``address`` or in RAY_ADDRESS, else one on this machine, which ends with the sweep.

    Its machines must share the folder of the results, and have the same advkit, data and weights. ``workers`` is how many
    tasks are in work at a time, by default as many as have room; each takes so many ``cpus`` (its threads) and ``gpus``.
    """

    address: str | None = None
    workers: int = 0
    cpus: float = 1
    gpus: float = 0  # 1 where the sweep's device is a GPU
    retries: int = 3  # workers that a task may lose

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus <= 0 or self.gpus < 0 or self.retries < 1:
            raise InputError(
                f"{self}: workers must be 0 (as many as have room) or more, cpus above 0, gpus 0 or more, retries 1 or more."
            )

    def at_once(self, device: str = "cpu") -> int:
        """How many tasks are in work; what a cluster has room for is known once it is reached."""
        return self.workers or max(1, int(cores() / self.cpus))

    def run(self, rounds: Iterable[Sequence[Task]], watch: Watch) -> Iterator[Report]:
        """Reports as they come."""
        ray = _library()
        if ray.is_initialized():
            crew = _Crew(self, ray, own=False)
            try:
                yield from crew.work(rounds)
            finally:
                crew.stop()
            return
        with _own_signals() as put_back:
            self._reach(ray)
            put_back()
            try:
                yield from _Crew(self, ray, own=not self._elsewhere).work(rounds)
            finally:
                ray.shutdown()  # which ends what is in work

    @property
    def _elsewhere(self) -> str:
        """The cluster's address; empty where there is none yet."""
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        return "" if address == "local" else address

    def _reach(self, ray: ModuleType) -> None:
        """Connect, or start a cluster with room for the workers."""
        address = self._elsewhere or "local"
        quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
        if address != "local":
            room: dict[str, Any] = {}
            del quiet["include_dashboard"]
        else:
            room = {"num_cpus": math.ceil(self.at_once() * self.cpus)}
        try:
            _knock(address)
            with sharing(self.threads):
                ray.init(address=address, ignore_reinit_error=True, **quiet, **room)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise InputError(f"no Ray cluster can be reached or started at {address} ({first_line(error)}).") from error

    @property
    def threads(self) -> int:
        """Of each worker."""
        return max(1, int(self.cpus))


class _Crew:
    """The tasks that are in work on a cluster."""

    def __init__(self, executor: Ray, ray: ModuleType, *, own: bool) -> None:
        self.executor, self.ray, self.own = executor, ray, own
        self.place, self.lost = Place.here(), Lost(executor.retries)
        self.running: dict[Any, Task] = {}
        self._sent: dict[Things, Any] = {}
        # A lost task comes back here, so that it is counted and told in one way on every executor.
        self._remote = ray.remote(num_cpus=executor.cpus, max_retries=0)(_perform)

    def work(self, rounds: Iterable[Sequence[Task]]) -> Iterator[Report]:
        """Do all rounds."""
        for tasks in rounds:
            yield from self._do(deque(tasks))

    def _do(self, waiting: deque[Task]) -> Iterator[Report]:
        """Do all that is waiting."""
        self._check_room(waiting[0])
        while waiting or self.running:
            while waiting and len(self.running) < self._room():
                task = waiting.popleft()
                try:
                    self.running[self._send(task)] = task
                except Exception as error:  # pickle raises whatever the object does
                    yield Report(task, error=f"it cannot be sent to another process ({error}).", expected=True)
            if not self.running:
                continue
            (done, *_), _ = self.ray.wait(list(self.running), num_returns=1)
            task = self.running.pop(done)
            try:
                report: Report | None = Report(task, *self.ray.get(done))
            except self.ray.exceptions.RayTaskError as error:  # it was done by a worker that cannot do it
                report = Report(
                    task,
                    error=f"it failed on its worker ({_last(error)}); every machine of the cluster must have the same "
                    "advkit, and the packages that the sweep needs.",
                    expected=True,
                )
            except self.ray.exceptions.RayError as error:
                report = self.lost.give_up(task, first_line(error, typed=True))
                if report is None:
                    waiting.appendleft(task)
            if report is not None:
                yield report

    def _check_room(self, task: Task) -> None:
        """Tell where no machine of the cluster has what a task takes: Ray would wait for one without a word."""
        needs = {"CPU": self.executor.cpus, "GPU": self._gpus(task)}
        machines = [node["Resources"] for node in self.ray.nodes() if node.get("Alive")]
        if any(all(has.get(kind, 0) >= count for kind, count in needs.items()) for has in machines):
            return
        wanted = " and ".join(f"{count:g} {kind}{'' if count == 1 else 's'}" for kind, count in needs.items() if count)
        most = {kind: max((has.get(kind, 0) for has in machines), default=0) for kind in needs}
        has = f"at most {most['CPU']:g} CPUs, {most['GPU']:g} GPUs"
        said = f"a task takes {wanted}, and no machine of the Ray cluster has that ({has})"
        if self.own:
            raise InputError(f"{said}; take less by --on-set cpus=... or gpus=...")
        warnings.warn(f"{said}; the sweep waits until one joins it.", stacklevel=2)

    def _gpus(self, task: Task) -> float:
        return self.executor.gpus or int(task.device.startswith("cuda"))

    def _room(self) -> int:
        """So many are handed over; those that find no room yet wait with Ray, so that none of its rooms stands empty."""
        return self.executor.workers or 2 * max(1, int(self.ray.cluster_resources().get("CPU", 1) / self.executor.cpus))

    def _send(self, task: Task) -> Any:
        own, things = split(self.place.located(task))
        if things not in self._sent:
            self._sent[things] = self.ray.put(things)
        remote = self._remote.options(num_gpus=self._gpus(task))
        # A worker sees the GPUs that it was given, and no others.
        device = "cuda" if own.device.startswith("cuda") else own.device
        # In a list the reference travels as it is: the worker fetches what it does not have yet.
        sent = replace(own, threads=self.executor.threads, device=device)
        # As bytes: its classes may lie beside the sweep, where a worker finds them once it is at its place.
        return remote.remote(self.place, self.ray.cloudpickle.dumps(sent), [self._sent[things]])

    def stop(self) -> None:
        """Stop what is in work."""
        for reference in self.running:
            self.ray.cancel(reference)  # by force Ray (2.60) may end this process, where a task is over just then


def _library() -> ModuleType:
    # What Ray says at its start about its own future is not the reader's concern.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "A sweep on Ray") from None
    module: ModuleType = ray
    return module


@contextmanager
def _own_signals() -> Iterator[Callable[[], None]]:
    """Ray takes SIGTERM from whoever handles it, and prints a stack; in the end it is as it was.

    The function given puts a handler back before that. Where there was none, Ray's ends its cluster with this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)

    def put_back() -> None:
        if callable(before) or before == signal.SIG_IGN:
            signal.signal(signal.SIGTERM, before)

    try:
        yield put_back
    finally:
        signal.signal(signal.SIGTERM, before)


def _knock(address: str) -> None:
    """Raise OSError where nobody answers at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _last(error: Exception) -> str:
    """What an error in a worker comes to: the last line of its traceback that names one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else type(error).__name__)


# ---------------------------------------------------------------------- in the worker


_held: dict[str, Things] = {}  # the last model and data only


def _perform(place: Place, sent: bytes, shared: list[Any]) -> tuple[float, str | None, bool, bool]:
    """A report, without its task."""
    import ray

    place.enter()
    task: Task = ray.cloudpickle.loads(sent)
    name = shared[0].hex()
    if name not in _held:
        _held.clear()
        _held[name] = ray.get(shared[0])
    report = perform(joined(task, _held[name]))
    return report.seconds, report.error, report.expected, report.fatal
