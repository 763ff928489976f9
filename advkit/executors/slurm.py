"""Slurm, through submitit: job arrays whose jobs do a few tasks each."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from advkit.catalog import EXECUTORS
from advkit.engine.tasks import Executor, Report, Task, Watch, perform
from advkit.errors import InputError, MissingExtra
from advkit.executors._lost import Lost
from advkit.executors._place import Place, sharing
from advkit.results.store import Store

__all__ = ["Slurm"]

_ARRAY = 1000  # jobs of one array; Slurm's own default allows 1001


@EXECUTORS.register("slurm")
@dataclass(frozen=True)
class Slurm(Executor):
    """Job arrays on a Slurm cluster, at most ``workers`` jobs at a time, each with ``chunk`` tasks one after the other.

    The folder of the results must be shared by the machines; the jobs' logs are in its ``slurm``. Jobs end with the sweep,
    unless that is killed: then wait for them (squeue) before it is run again. ``cluster=local`` runs the jobs on this machine.
    """

    workers: int = 32
    chunk: int = 4
    partition: str | None = None
    time: int = 60  # minutes of a job
    cpus: int = 2
    gpus: int = 0  # of a job; 1 where the sweep's device is a GPU
    memory: float = 8  # GB
    retries: int = 3  # jobs that a task may lose
    poll: float = 2.0  # seconds between two looks
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        if min(self.workers, self.chunk, self.time, self.cpus, self.retries) < 1 or self.gpus < 0 or self.memory <= 0:
            raise InputError(f"{self}: workers, chunk, time, cpus and retries must be 1 or more, memory above 0.")

    def at_once(self, device: str = "cpu") -> int:
        """How many jobs there are at a time, at most."""
        return self.workers

    def run(self, rounds: Iterable[Sequence[Task]], watch: Watch) -> Iterator[Report]:
        """Reports as jobs end."""
        submitit = _library(self.cluster)
        array = _Array(self, submitit)
        try:
            for tasks in rounds:
                yield from array.do(tasks)
        finally:
            array.stop()

    def submitter(self, submitit: Any, folder: Path, device: str) -> Any:
        """What hands jobs over."""
        made = submitit.AutoExecutor(folder=folder, cluster=self.cluster)
        made.update_parameters(
            name="advkit",
            timeout_min=self.time,
            cpus_per_task=self.cpus,
            mem_gb=self.memory,
            gpus_per_node=self.gpus or int(device.startswith("cuda")),
            slurm_array_parallelism=self.workers,
        )
        if self.partition is not None:
            made.update_parameters(slurm_partition=self.partition)
        return made


class _Array:
    """The jobs of one run."""

    def __init__(self, executor: Slurm, submitit: Any) -> None:
        self.executor, self.submitit = executor, submitit
        self.place, self.lost = Place.here(), Lost(executor.retries)
        self.jobs: list[tuple[Any, Sequence[Task]]] = []

    def do(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """Do all tasks; those of a lost job are submitted again."""
        store = Path(self.place.located(tasks[0]).store)
        waiting = list(tasks)
        submitter = self.executor.submitter(self.submitit, store / "slurm", tasks[0].device)
        while waiting or self.jobs:
            self._submit(submitter, waiting)
            ended = [(job, chunk) for job, chunk in self.jobs if job.done()]
            self.jobs = [(job, chunk) for job, chunk in self.jobs if not any(job is each for each, _ in ended)]
            for job, chunk in ended:
                yield from self._reports(job, chunk, waiting)
            if not ended:
                time.sleep(self.executor.poll)

    def _submit(self, submitter: Any, waiting: list[Task]) -> None:
        """Hand over what waits: to Slurm all of it, which has a queue of its own; to this machine what there is room for."""
        size = self.executor.chunk
        room = _ARRAY if self.executor.cluster == "slurm" else self.executor.workers - len(self.jobs)
        chunks = [waiting[begin : begin + size] for begin in range(0, len(waiting), size)][:room]
        if not chunks:
            return
        del waiting[: sum(map(len, chunks))]
        sent = [[replace(self.place.located(task), threads=self.executor.cpus) for task in chunk] for chunk in chunks]
        with sharing(self.executor.cpus):
            jobs = submitter.map_array(_perform, [self.place] * len(sent), sent)
        self.jobs += zip(jobs, chunks, strict=True)

    def _reports(self, job: Any, chunk: Sequence[Task], waiting: list[Task]) -> Iterator[Report]:
        """What became of a job's tasks."""
        try:
            for task, said in zip(chunk, job.result(), strict=True):
                yield Report(task, *said)
        except Exception as error:  # the job was lost: whatever submitit, Slurm or the file system raise
            how = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason'}"
            for task in chunk:
                report = self.lost.give_up(task, how)
                if report is None:
                    waiting.append(task)
                else:
                    yield report

    def stop(self) -> None:
        """Cancel what is queued or runs."""
        for job, _ in self.jobs:
            job.cancel(check=False)


def _library(cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise MissingExtra("submitit", "slurm", "A sweep on Slurm") from None
    if cluster == "slurm" and shutil.which("sbatch") is None:
        raise InputError(
            "there is no sbatch here: start the sweep on a machine of a Slurm cluster from which jobs can be submitted, or "
            "choose processes or ray."
        )
    return submitit


# ---------------------------------------------------------------------- in the job


def _perform(place: Place, tasks: Sequence[Task]) -> list[tuple[float, str | None, bool, bool]]:
    """Reports, without their tasks; a task that a lost job had finished is not done again."""
    place.enter()
    found: list[tuple[float, str | None, bool, bool]] = []
    for task in tasks:
        if task.span in Store(Path(task.store)).spans(task.cell):
            found.append((0.0, None, False, False))
            continue
        report = perform(task)
        found.append((report.seconds, report.error, report.expected, report.fatal))
    return found
