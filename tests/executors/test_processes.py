"""Processes: work is divided, a worker that dies costs its task a second try, and nothing outlives the driver."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from torch import nn

from advkit.catalog import EXECUTORS
from advkit.data import TensorData
from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Result, Spectator, Sweep, make_plan, run_plan, sweep
from advkit.engine.tasks import Task
from advkit.errors import InputError
from advkit.executors import processes
from advkit.executors.processes import Processes
from advkit.results.store import Store

MODEL = """
import json, multiprocessing, os, signal, time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self, seconds, deadly):
        super().__init__()
        self.layer, self.seconds, self.deadly = nn.Linear(3 * 32 * 32, 35), seconds, deadly

    def forward(self, x):
        if multiprocessing.parent_process() is not None:
            if self.deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            said = {"torch": torch.get_num_threads(), "OMP": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()}
            Path(__file__).with_name(f"{os.getpid()}.json").write_text(json.dumps(said))
            time.sleep(self.seconds)
        return self.layer(x.flatten(1))

def make(seconds="0", deadly=""):
    torch.manual_seed(0)
    return Slow(float(seconds), bool(deadly))
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(MODEL)
    return path


def run(wanted: Sweep, folder: Path, workers: int = 1, watch: Callable[..., object] | None = None) -> Result:
    spectator = Spectator() if watch is None else Spectator(watch=watch)  # type: ignore[arg-type]
    return run_plan(make_plan(wanted), folder, executor=Processes(workers), spectator=spectator)


def small(*models: str, samples: int = 24, shard: int = 8) -> Sweep:
    specs = tuple(ModelSpec.named(model) for model in models)
    return Sweep(specs, (AttackSpec("fgsm"),), ("4/255",), samples=samples, shard=shard, batch_size=8)


def gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


def test_the_command_line_can_make_it():
    assert EXECUTORS.create("processes", workers="2") == Processes(2)
    assert Processes().at_once() == len(os.sched_getaffinity(0))
    with pytest.raises(InputError, match="workers must be 0"):
        Processes(-1)


def test_cores_are_divided_before_torch_is_loaded(code: Path, tmp_path: Path) -> None:
    assert not run(small(f"{code}:make:0.2"), tmp_path / "out", workers=2).failed
    said = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    each = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {(found["torch"], found["OMP"]) for found in said} == {(each, str(each))}
    assert len(said) == 2


def test_a_worker_that_is_killed_costs_its_task_a_second_try(tmp_path: Path) -> None:
    victims: list[int] = []
    seen: list[tuple[str, int]] = []

    @contextmanager
    def watch(task: Task, stage: str) -> Iterator[Callable[[int, int], None]]:
        seen.append((stage, task.span[0]))
        if stage == "fgsm" and not victims:
            victims.extend(child.pid or 0 for child in multiprocessing.active_children())
            os.kill(victims[0], signal.SIGKILL)
        yield lambda done, total: None

    wanted = small("lenet")
    with pytest.warns(UserWarning, match=r"killed by SIGKILL.*fgsm on lenet, examples \d+ to \d+, is tried again"):
        result = run(wanted, tmp_path / "killed", watch=watch)
    assert not result.failed
    plain = run_plan(make_plan(wanted), tmp_path / "plain")
    assert [line.stands.tolist() for line in result.grid.lines] == [line.stands.tolist() for line in plain.grid.lines]
    assert {stage for stage, _ in seen} == {"clean", "fgsm"}
    assert len([stage for stage, _ in seen if stage == "fgsm"]) == 4, "three shards, and one of them twice"


@pytest.mark.filterwarnings("ignore:a worker was lost")
def test_a_task_that_kills_every_worker_is_given_up_in_words_and_the_others_are_done(
    code: Path, tmp_path: Path
) -> None:
    result = run(small(f"{code}:make:0:deadly", "lenet", samples=8), tmp_path / "out", workers=2)
    (report,) = result.failed
    assert report.error is not None
    assert report.error.startswith("examples 0 to 8 lost their worker 3 times (the last time: killed by SIGKILL).")
    assert report.expected
    assert [line.model for line in result.grid.lines] == ["lenet"]


def test_workers_that_cannot_start_are_an_error_and_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_work", os._exit)
    with pytest.raises(InputError, match=r"worker processes cannot be started \(exit code 1, 3 times\)"):
        run(small("lenet"), tmp_path)


def test_what_cannot_be_pickled_is_a_sentence(tmp_path: Path) -> None:
    class Local(nn.Sequential):
        pass

    net = Local(nn.Flatten(), nn.Linear(3 * 32 * 32, 35))
    result = sweep({"mine": net}, "signs", "fgsm", "4/255", out=tmp_path, samples=8, executor=Processes(1))
    (report,) = result.failed
    assert report.expected
    assert "mine, signs or no attack cannot be sent to another process" in str(report.error)
    assert not multiprocessing.active_children()


def test_modules_and_tensors_travel(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorData(torch.rand(20, 3, 8, 8, generator=generator), torch.arange(20) % 4)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    found = [
        sweep({"mine": net}, data, ["fgsm", "pgd"], ["4/255"], out=tmp_path / name, executor=executor, batch_size=8)
        for name, executor in (("there", Processes(2)), ("here", None))
    ]
    assert not found[0].failed
    assert [line.stands.tolist() for line in found[0].grid.lines] == [
        line.stands.tolist() for line in found[1].grid.lines
    ]


def test_an_interrupted_sweep_leaves_no_worker_though_the_error_is_kept(code: Path, tmp_path: Path) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    plan = make_plan(small(f"{code}:make:0.2"))
    with pytest.raises(KeyboardInterrupt) as kept:
        run_plan(plan, tmp_path / "out", executor=Processes(2), spectator=Spectator(report=stop))
    assert kept.value is not None
    assert not multiprocessing.active_children()


def test_closing_the_iterator_stops_the_workers_at_once(code: Path, tmp_path: Path) -> None:
    plan = make_plan(small(f"{code}:make:60"))
    store = Store(tmp_path / "out").create()
    for planned in plan.cells:
        store.add(planned.record)
    tasks = [task for task in plan.left(store) if not task.cell.stages]
    reports = Processes(2).run([tasks], Spectator().watch)
    with pytest.raises(KeyboardInterrupt), _interrupt_soon(lambda: len(list(tmp_path.glob("*.json"))) == 2):
        next(reports)
    began = time.monotonic()
    reports.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 3
    assert not multiprocessing.active_children()


@contextmanager
def _interrupt_soon(ready: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C half a second from when ``ready``."""

    def look(*_: object) -> None:
        if ready():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _driver(code: Path, out: Path) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "advkit",
        "sweep",
        "--model",
        f"{code}:make:0.2",
        "--attack",
        "pgd",
        "--eps",
        "4/255",
    ]
    command += ["--samples", "24", "--shard", "8", "--batch-size", "8", "--workers", "2", "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def _workers_at_work(code: Path, driver: subprocess.Popen[str]) -> list[int]:
    """The workers, once each has asked its model something."""
    end = time.monotonic() + 60
    while time.monotonic() < end and driver.poll() is None:
        found = [int(path.stem) for path in code.parent.glob("*.json")]
        if len(found) == 2:
            return found
        time.sleep(0.05)
    raise AssertionError(driver.communicate())


@pytest.mark.slow
def test_workers_die_with_a_driver_that_is_killed(code: Path, tmp_path: Path) -> None:
    driver = _driver(code, tmp_path / "out")
    workers = _workers_at_work(code, driver)
    driver.kill()
    assert gone(workers, 5)
    driver.communicate()


@pytest.mark.slow
def test_control_c_ends_everything_quietly_and_keeps_what_is_finished(code: Path, tmp_path: Path) -> None:
    driver = _driver(code, tmp_path / "out")
    workers = _workers_at_work(code, driver)
    while not list((tmp_path / "out" / "cells").glob("*/0*.safetensors")):
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, said = driver.communicate(timeout=30)
    assert driver.returncode == 130
    assert "Interrupted. What was finished is in" in said
    assert "Traceback" not in said
    assert gone(workers, 5)
    assert not list(tmp_path.glob("out/cells/*/.*.part"))


UNGUARDED = """
import threading
import advkit
from advkit.executors.processes import Processes

def go():
    try:
        advkit.sweep("lenet", "signs", "fgsm", "8/255", samples=4, out=OUT, executor=Processes(2))
    except advkit.AdvkitError as error:
        print("refused:", error, flush=True)

CALL
"""


@pytest.mark.parametrize("call", ["go()", "thread = threading.Thread(target=go); thread.start(); thread.join()"])
def test_a_script_without_a_main_guard_is_told_at_once(tmp_path: Path, call: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.replace("OUT", repr(str(tmp_path / "out"))).replace("CALL", call))
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: "), done
    assert 'put it under if __name__ == "__main__":' in done.stdout
    assert done.stdout.count("refused") == 1
    assert "Traceback" not in done.stderr
    if call == "go()":
        assert "line 12 of script.py" in done.stdout
        assert not (tmp_path / "out").exists()


def test_what_workers_may_import_is_not_refused(tmp_path: Path) -> None:
    from advkit.executors._guard import _guarded

    script = tmp_path / "script.py"
    script.write_text('import x\nif __name__ == "__main__":\n    x.go()\n')
    assert _guarded(script, 3)
    assert not _guarded(script, 1)
    script.write_text('import sys\nif __name__ != "__main__":\n    sys.exit()\nx.go()\n')
    assert _guarded(script, 4)
    script.write_text("if True:\n    x.go()\n")
    assert not _guarded(script, 2)
    assert _guarded(tmp_path / "none.py", 1)
