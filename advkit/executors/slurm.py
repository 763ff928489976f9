"""Slurm, through submitit: job arrays whose jobs do a few tasks each."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
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
_PATIENCE = 60.0  # seconds that an answer of Slurm may take


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
        self.queue = _Queue()

    def do(self, tasks: Sequence[Task]) -> Iterator[Report]:
        """Do all tasks; those of a lost job are submitted again."""
        size, store = self.executor.chunk, Path(self.place.located(tasks[0]).store)
        if not self.jobs:
            _clear(store / "slurm")
        waiting = deque(tasks[begin : begin + size] for begin in range(0, len(tasks), size))
        submitter = self.executor.submitter(self.submitit, store / "slurm", tasks[0].device)
        while waiting or self.jobs:
            self._submit(submitter, waiting)
            ended = [(job, chunk) for job, chunk in self.jobs if self._has_ended(job)]
            self.jobs = [(job, chunk) for job, chunk in self.jobs if not any(job is each for each, _ in ended)]
            for job, chunk in ended:
                yield from self._reports(job, chunk, waiting)
            if not ended:
                time.sleep(self.executor.poll)

    def _has_ended(self, job: Any) -> bool:
        """Whether a job has answered, or never will."""
        if self.executor.cluster == "local":
            return bool(job.done())
        # Not asked of submitit, which asks sacct: many a cluster keeps no accounts.
        return job.paths.result_pickle.exists() or not self.queue.holds(str(job.job_id))

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
            said = (line.strip() for line in str(error).splitlines())
            reason = next((line for line in said if line.startswith("sbatch:")), first_line(error))
            raise InputError(
                f"Slurm takes no jobs ({reason}); advkit list executors --settings shows what can be asked for by --on-set "
                "(partition, account, time, memory ...). What was finished is kept."
            ) from error
        self.jobs += zip(jobs, chunks, strict=True)
        self.queue.begin()

    def _sent(self, task: Task) -> Task:
        # Of all GPUs of its machine, a job sees its own only.
        device = "cuda" if task.device.startswith("cuda") else task.device
        return replace(self.place.located(task), threads=self.executor.cpus, device=device)

    def _reports(self, job: Any, chunk: Sequence[Task], waiting: deque[Sequence[Task]]) -> Iterator[Report]:
        """What became of a job's tasks."""
        try:
            for task, said in zip(chunk, self._answer(job), strict=True):
                yield Report(task, *said)
        except Exception as error:  # the job was lost: whatever submitit, Slurm or the file system raise
            how = str(error) if isinstance(error, _NoAnswer) else first_line(error, typed=True)
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

    def _answer(self, job: Any) -> Any:
        """What a job says of its tasks."""
        if self.executor.cluster == "slurm" and not job.paths.result_pickle.exists():
            raise _NoAnswer(f"Slurm's job {job.job_id} ended without an answer{_state_of(str(job.job_id))}")
        return job.result()

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


class _NoAnswer(Exception):
    """A job that was killed, cancelled or lost."""


def _clear(folder: Path) -> None:
    """Take away answers that are none of this run's jobs: submitit unpickles an answer, and a store may be somebody else's.

    The sweep holds the store's lock, so no other run waits for them.
    """
    if folder.is_symlink():
        raise InputError(f"{folder} leads elsewhere; jobs are kept in a folder of the store's own, so remove the link.")
    for left in folder.glob("*_result.pkl"):
        left.unlink()


class _Queue:
    """Which jobs Slurm still has: of one that is killed, cancelled or lost no answer comes."""

    def __init__(self) -> None:
        self._asked = time.monotonic()
        self._known: list[set[str] | None] = [None, None]  # by the last two looks

    def holds(self, job: str) -> bool:
        """Whether the job was there in one of the last two looks: what it has written may be seen here a little later."""
        if time.monotonic() - self._asked > _ASK:
            self._asked = time.monotonic()
            said = _ask("squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}")
            if said is not None:  # else Slurm has no time, and will be asked again
                self._known = [self._known[1], set(said.split())]
        return any(known is None or job in known for known in self._known)

    def begin(self) -> None:
        """New jobs were handed over, which the looks before do not know."""
        self._known = [None, None]


def _state_of(job: str) -> str:
    """In what state a job has ended, as far as Slurm remembers: it forgets after some minutes."""
    words = (_ask("scontrol", "show", "job", "--oneliner", job) or "").split()
    told = dict(word.partition("=")[::2] for word in words)
    return f" ({told['JobState']})" if told.get("JobState") else ""


def _ask(*command: str) -> str | None:
    """What a command of Slurm's says; None where it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_PATIENCE).stdout
    except (OSError, subprocess.SubprocessError):
        return None


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
