"""What a worker needs besides its task: the sweep's folder and path of modules, its models and data, its share of the cores."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import torch

from advkit.engine.tasks import Task

__all__ = ["Place", "Things", "cores", "gpus", "joined", "sharing", "split"]

_GRANTS = (
    ("/sys/fs/cgroup/cpu.max",),
    ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
)
"""Where control groups of version 2 and 1 say a quota and its period."""

Things = tuple[Any, ...]
"""The models and data of a task, which it shares with others."""

_SHARED = tuple(f.name for f in fields(Task) if f.name in {"model", "surrogate", "data"})


@dataclass(frozen=True)
class Place:
    """The folder and the path of modules of the process that made it."""

    folder: str
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Self:
        """Of this process."""
        return cls(os.getcwd(), tuple(os.path.abspath(entry) for entry in sys.path))

    def enter(self) -> None:
        """Let this process find what the sweep's finds: relative names of files, and modules; not what is not here."""
        if os.path.isdir(self.folder):
            os.chdir(self.folder)
        sys.path.extend(entry for entry in self.path if entry not in sys.path and os.path.exists(entry))

    def located(self, task: Task) -> Task:
        """The task, its store found from any folder."""
        return replace(task, store=os.path.join(self.folder, task.store))


def split(task: Task) -> tuple[Task, Things]:
    """A task in two parts: models and data may be modules and tensors, and need not be sent with every task."""
    nothing: dict[str, Any] = dict.fromkeys(_SHARED)
    return replace(task, **nothing), tuple(getattr(task, name) for name in _SHARED)


def joined(task: Task, things: Things) -> Task:
    """The task of two parts."""
    return replace(task, **dict(zip(_SHARED, things, strict=True)))


def cores() -> int:
    """The cores that this process may use: those it is bound to, and of these what its container is granted."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _granted())))


def _granted() -> float:
    """How many cores' time the container has; infinite where nobody says."""
    for path in _GRANTS:
        try:
            quota, period = [word for file in path for word in Path(file).read_text().split()][:2]
            if float(quota) > 0:
                return float(quota) / float(period)
        except (OSError, ValueError):  # there is none, or it says max
            continue
    return math.inf


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count > 0 and named[0] else [str(number) for number in range(count)]


@contextmanager
def sharing(threads: int, gpu: str | None = None) -> Iterator[None]:
    """Processes started meanwhile have so many threads, and see no GPU but one where one is named.

    Torch reads both when it is loaded, so they must be there before.
    """
    # A thread that spins while it waits keeps the worker beside it off its core.
    wanted = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    if gpu is not None:
        wanted["CUDA_VISIBLE_DEVICES"] = gpu
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
