"""Slurm, through submitit: job arrays whose jobs do a few tasks each."""

from __future__ import annotations

import shutil
import subprocess
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from advkit.catalog import EXECUTORS
from advkit.engine.tasks import Executor, Report, Task, Watch, perform
from advkit.errors import AdvkitError, InputError, MissingExtra, first_line
from advkit.executors._lost import Lost
from advkit.executors._place import Place, sharing
from advkit.results.store import Store

__all__ = ["Slurm"]

_ARRAY = 1000  # jobs of one array; Slurm's own default allows 1001
_ASK = 60.0  # seconds between two questions to Slurm what became of jobs that have not answered


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
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
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
        for name in ("partition", "account", "qos", "constraint"):
            if getattr(self, name) is not None:
                made.update_parameters(**{f"slurm_{name}": getattr(self, name)})
        return made


class _Array:
    """The jobs of one run."""

    def __init__(self, executor: Slurm, submitit: Any) -> None:
        self.executor, self.submitit = executor, submitit
        self.place, self.lost = Place.here(), Lost(executor.retries)
        self.jobs: list[tuple[Any, Sequence[Task]]] = []
        self._asked = time.monotonic()

    def do(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """Do all tasks; those of a lost job are submitted again."""
        size, store = self.executor.chunk, Path(self.place.located(tasks[0]).store)
        waiting = deque(tasks[begin : begin + size] for begin in range(0, len(tasks), size))
        submitter = self.executor.submitter(self.submitit, store / "slurm", tasks[0].device)
        while waiting or self.jobs:
            self._submit(submitter, waiting)
            ended = [(job, chunk) for job, chunk in self.jobs if job.done()]
            self.jobs = [(job, chunk) for job, chunk in self.jobs if not any(job is each for each, _ in ended)]
            for job, chunk in ended:
                yield from self._reports(job, chunk, waiting)
            if not ended:
                self._ask()
                time.sleep(self.executor.poll)

    def _submit(self, submitter: Any, waiting: deque[Sequence[Task]]) -> None:
        """Hand over what waits: to Slurm all of it, which has a queue of its own; to this machine what there is room for."""
        room = _ARRAY if self.executor.cluster == "slurm" else self.executor.workers - len(self.jobs)
        chunks = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        if not chunks:
            return
        sent = [[self._sent(task) for task in chunk] for chunk in chunks]
        try:
            with sharing(self.executor.cpus):
                jobs = submitter.map_array(_perform, [self.place] * len(sent), sent)
        except AdvkitError:
            raise
        except Exception as error:  # whatever submitit makes of what sbatch says
            said = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = next(
                (line for line in said if line.startswith("sbatch:")), said[0] if said else type(error).__name__
            )
            raise InputError(
                f"Slurm takes no jobs ({reason}); advkit list executors --settings shows what can be asked for by --on-set "
                "(partition, account, time, memory ...). What was finished is kept."
            ) from error
        self.jobs += zip(jobs, chunks, strict=True)

    def _sent(self, task: Task) -> Task:
        # Of all GPUs of its machine, a job sees its own only.
        device = "cuda" if task.device.startswith("cuda") else task.device
        return replace(self.place.located(task), threads=self.executor.cpus, device=device)

    def _ask(self) -> None:
        """Ask Slurm what became of the jobs: of one that is killed, cancelled or lost no answer comes."""
        if self.jobs and time.monotonic() - self._asked > _ASK:
            self._asked = time.monotonic()
            self.jobs[0][0].done(force_check=True)  # asks for all of them at once

    def _reports(self, job: Any, chunk: Sequence[Task], waiting: deque[Sequence[Task]]) -> Iterator[Report]:
        """What became of a job's tasks."""
        try:
            for task, said in zip(chunk, job.result(), strict=True):
                yield Report(task, *said)
        except Exception as error:  # the job was lost: whatever submitit, Slurm or the file system raise
            how = first_line(error, typed=True)
            left = [task for task in chunk if not _is_done(self.place.located(task))]
            yield from (Report(task) for task in chunk if task not in left)
            for number, task in enumerate(left):
                # They are done one after the other: the first is the one at which the job was lost. From here on each has a
                # job of its own, so that one which kills its job takes no other with it.
                report = None if number else self.lost.give_up(task, how)
                if report is None:
                    waiting.append([task])
                else:
                    yield report

    def stop(self) -> None:
        """Cancel what is queued or runs: the jobs of an array together, for there may be a thousand."""
        left = [job for job, _ in self.jobs if not job.paths.result_pickle.exists()]
        if self.executor.cluster == "slurm":
            numbers = sorted({str(job.job_id).partition("_")[0] for job in left})
            if numbers:
                subprocess.run(["scancel", *numbers], check=False, capture_output=True)
            return
        for job in left:
            job.cancel(check=False)


def _is_done(task: Task) -> bool:
    return task.span in Store(Path(task.store)).spans(task.cell)


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
    if cluster == "slurm" and shutil.which("sacct") is None:
        warnings.warn(
            "there is no sacct here, so a job that is killed or cancelled is not noticed; interrupt the sweep and run it again "
            "where it waits for one (squeue shows which there are).",
            stacklevel=2,
        )
    return submitit


# ---------------------------------------------------------------------- in the job


def _perform(place: Place, tasks: Sequence[Task]) -> list[tuple[float, str | None, bool, bool]]:
    """Reports, without their tasks; a task that a lost job had finished is not done again."""
    place.enter()
    found: list[tuple[float, str | None, bool, bool]] = []
    for task in tasks:
        if _is_done(task):
            found.append((0.0, None, False, False))
            continue
        report = perform(task)
        found.append((report.seconds, report.error, report.expected, report.fatal))
    return found
