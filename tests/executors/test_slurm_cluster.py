"""Slurm's own path through submitit, on a made-up Slurm of this machine: arrays, and jobs that are lost in every way."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Spectator, Sweep, make_plan, run_plan
from advkit.engine.tasks import Report, Task
from advkit.errors import InputError
from advkit.executors import slurm
from advkit.executors.slurm import Slurm
from advkit.results.store import Store

pytest.importorskip("submitit")

POISON = """
import os, signal
from pathlib import Path
from torch import nn

class Poison(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 35)

    def forward(self, x):
        if "SLURM_JOB_ID" in os.environ and len(x) % 8 == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.layer(x.flatten(1))
"""


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Slurm's commands in the path."""
    from submitit.slurm.slurm import SlurmJob

    state, commands = tmp_path / "slurm-state", tmp_path / "bin"
    state.mkdir()
    commands.mkdir()
    body = (Path(__file__).parent / "fake_slurm.py").read_text()
    for name in ("sbatch", "srun", "squeue", "scontrol", "sacct", "scancel"):
        (commands / name).write_text(f"#!{sys.executable} -S\n{body}")
        (commands / name).chmod(0o755)
    shutil.copy(Path(__file__).parent / "fake_slurm.py", commands / "fake_slurm.py")
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    monkeypatch.setattr(slurm, "_ASK", 0.5)
    monkeypatch.setattr(SlurmJob, "_results_timeout_s", 1)
    SlurmJob.watcher.clear()
    SlurmJob.watcher._registered.clear()
    yield state
    for path in state.glob("1*"):
        if path.suffix == "" and path.read_text().startswith("RUNNING"):
            os.killpg(int(path.read_text().split()[1]), signal.SIGKILL)


def wanted(model: str = "lenet", samples: int = 24) -> Sweep:
    attacks = (AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 4),)))
    return Sweep((ModelSpec.named(model),), attacks, ("4/255",), samples=samples, shard=8, batch_size=8)


def when(state: Path, ready: Callable[[str, str, int], bool]) -> threading.Thread:
    """Look at the jobs until one of them is as wanted: ``ready(job, state, process)`` does something to it, and says so."""

    def look() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for path in sorted(state.glob("1*")):
                if path.suffix == "":
                    said, process = path.read_text().split()
                    if ready(path.name, said, int(process)):
                        return
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    return thread


@pytest.mark.slow
def test_an_array_does_the_sweep_and_a_cancelled_and_a_killed_job_are_done_again(cluster: Path, tmp_path: Path) -> None:
    met: set[str] = set()

    def disturb(job: str, state: str, process: int) -> bool:
        if job.endswith("_0") and state == "RUNNING" and "cancel" not in met:
            met.add("cancel")
            os.system(f"scancel {job}")
        elif job.endswith("_1") and state == "RUNNING" and "kill" not in met:
            met.add("kill")
            os.killpg(process, signal.SIGKILL)
        return len(met) == 2

    thread = when(cluster, disturb)
    with pytest.warns(
        UserWarning,
        match=r"a worker was lost \(Slurm's job 1\d\d_[01] ended without an answer \((CANCELLED|FAILED)\)\).*is tried again",
    ):
        result = run_plan(make_plan(wanted()), tmp_path / "out", executor=Slurm(workers=2, chunk=2, cpus=1, poll=0.1))
    thread.join()
    assert not result.failed
    plain = run_plan(make_plan(wanted()), tmp_path / "plain")
    assert [line.stands.tolist() for line in result.grid.lines] == [line.stands.tolist() for line in plain.grid.lines]
    first = next(cluster.glob("100.sh")).read_text()
    assert "#SBATCH --array=0-1%2" in first
    assert "#SBATCH --cpus-per-task=1" in first
    calls = (cluster / "calls").read_text().splitlines()
    assert sum(call.startswith("sbatch") for call in calls) >= 3, "two rounds, and lost jobs once more"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:a worker was lost")
def test_a_task_that_kills_its_job_takes_no_other_with_it(tmp_path: Path) -> None:
    """Of the tasks of one job only the last, of 5 examples, kills it: the two before it are done, and counted as done."""
    (tmp_path / "poison.py").write_text(POISON)
    one = replace(wanted(f"{tmp_path}/poison.py:Poison", samples=21), attacks=(AttackSpec("fgsm"),))
    done: list[Report] = []
    plan = make_plan(one)
    executor = Slurm(workers=1, chunk=3, cpus=1, poll=0.1, retries=2)
    result = run_plan(plan, tmp_path / "out", executor=executor, spectator=Spectator(report=done.append))
    (report,) = result.failed
    assert report.task.span == (16, 21)
    assert "examples 16 to 21 lost their worker 2 times" in str(report.error)
    assert sorted(report.task.span for report in done if report.error is None) == [(0, 8), (8, 16)]
    assert Store(tmp_path / "out").missing(plan.cells[0].cell, 21) == [(16, 21)]


def tasks(tmp_path: Path, count: int) -> list[Task]:
    """Tasks that nobody can do: it does not matter here."""
    plan = make_plan(wanted(samples=8 * count))
    store = Store(tmp_path / "out").create()
    return [task for task in plan.left(store) if not task.cell.stages]


def test_what_sbatch_says_when_it_refuses_is_a_sentence(cluster: Path, tmp_path: Path) -> None:
    (cluster / "refuse").write_text("sbatch: error: invalid partition specified: gpu")
    executor = Slurm(partition="gpu", poll=0.1)
    with pytest.raises(InputError, match=r"Slurm takes no jobs \(sbatch: error: invalid partition specified: gpu\)"):
        list(executor.run([tasks(tmp_path, 8)], Spectator().watch))


def test_stopping_cancels_whole_arrays_at_once(cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(slurm.time, "sleep", stop)
    executor = Slurm(chunk=1, workers=1, partition="gpu", account="mine", qos="low", constraint="a100")
    with pytest.raises(KeyboardInterrupt):
        list(executor.run([tasks(tmp_path, 12)], Spectator().watch))
    script = (cluster / "100.sh").read_text()
    for flag in ("partition=gpu", "account=mine", "qos=low", "constraint=a100", "time=60", "mem=8GB", "array=0-11%1"):
        assert f"#SBATCH --{flag}\n" in script
    (said,) = [call for call in (cluster / "calls").read_text().splitlines() if call.startswith("scancel")]
    assert said == "scancel 100"
    monkeypatch.undo()
    end = time.monotonic() + 10
    while time.monotonic() < end and any(
        path.read_text().startswith(("PENDING", "RUNNING")) for path in cluster.glob("100_*")
    ):
        time.sleep(0.1)
    assert {path.read_text().split()[0] for path in cluster.glob("100_*")} == {"CANCELLED"}


def test_a_job_sees_one_gpu_by_the_name_that_it_has_there(tmp_path: Path) -> None:
    array = slurm._Array(Slurm(cpus=3), None)
    (task,) = tasks(tmp_path, 1)
    sent = array._sent(replace(task, device="cuda:5", store="here"))
    assert (sent.device, sent.threads) == ("cuda", 3)
    assert Path(sent.store).is_absolute()


def test_a_job_is_lost_when_two_looks_in_a_row_do_not_see_it(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_ASK", 0.0)
    queue = slurm._Queue()
    for job, state in (("100_0", "PENDING"), ("100_1", "PENDING"), ("100_2", "COMPLETED")):
        (cluster / job).write_text(f"{state} 0")
    assert [queue.holds("100_2") for _ in range(3)] == [True, False, False]
    assert queue.holds("100_0")
    assert queue.holds("100_1")
    queue.begin()
    assert queue.holds("101_0"), "handed over after the last look"
    assert not queue.holds("101_0")


def test_a_slurm_that_does_not_answer_loses_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_ASK", 0.0)
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "scontrol").unlink()
    queue = slurm._Queue()
    assert all(queue.holds("100_0") for _ in range(4))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert slurm._state_of("100_0") == ""
