"""Ray, on a real cluster of this machine with two workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from advkit.catalog import EXECUTORS
from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Spectator, Sweep, make_plan, run_plan
from advkit.engine.tasks import InProcess, Task
from advkit.errors import InputError, MissingExtra

ray = pytest.importorskip("ray")

from advkit.executors.ray import Ray, _Crew  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are many

MODEL = """
import os, time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 35)

    def forward(self, x):
        Path("pids").mkdir(exist_ok=True)
        Path("pids", str(os.getpid())).touch()
        time.sleep(0.05)
        return self.layer(x.flatten(1))

def make():
    torch.manual_seed(0)
    return Slow()
"""


@pytest.fixture(scope="module")
def cluster():
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def wanted(*models: str) -> Sweep:
    specs = tuple(ModelSpec.named(model) for model in models)
    return Sweep(
        specs, (AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 4),))), ("4/255",), samples=32, shard=8, batch_size=8
    )


def test_it_starts_a_cluster_and_shuts_down_what_it_started(tmp_path: Path) -> None:
    assert not ray.is_initialized()
    before = signal.getsignal(signal.SIGTERM)
    result = run_plan(make_plan(wanted("lenet")), tmp_path / "ray", executor=Ray(workers=2))
    assert not result.failed
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) == before, "Ray takes it"
    plain = run_plan(make_plan(wanted("lenet")), tmp_path / "plain", executor=InProcess())
    assert [line.stands.tolist() for line in result.grid.lines] == [line.stands.tolist() for line in plain.grid.lines]


def test_code_and_results_in_the_sweeps_folder_are_found_and_a_killed_worker_loses_nothing(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(wanted("slow.py:make"))
    (tmp_path / "pids" / str(os.getpid())).unlink()
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.1)
            for path in (tmp_path / "pids").iterdir():
                if path.name != str(os.getpid()) and not killed:
                    killed.append(int(path.name))
                    os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    result = run_plan(plan, Path("out"), executor=Ray(workers=2))
    killer.join()
    assert not result.failed
    assert [line.n for line in result.grid.lines] == [32, 32]
    others = {int(path.name) for path in (tmp_path / "pids").iterdir()} - {os.getpid()}
    assert len(others) >= 3, "two workers, and one in the place of the killed one"
    assert ray.is_initialized(), "the cluster was there before"


def test_on_a_cluster_of_the_callers_an_interrupt_ends_what_is_in_work(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(
            make_plan(replace(wanted("slow.py:make"), samples=None)),
            Path("out"),
            executor=Ray(workers=2),
            spectator=Spectator(report=stop),
        )
    end = time.monotonic() + 60
    while time.monotonic() < end and ray.available_resources().get("CPU", 0) < 2:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2, "both cores are free"
    assert len(list(tmp_path.glob("out/cells/*/0*.safetensors"))) < 6


def test_a_worker_that_does_not_see_the_results_says_so(cluster: None, tmp_path: Path) -> None:
    plan = make_plan(wanted("lenet"))
    task = plan.cells[0].task
    far = replace(task, store=str(tmp_path / "elsewhere"), span=(0, 8))
    (report,) = Ray(workers=1).run([[far]], Spectator().watch)
    assert report.expected
    assert "does not see the sweep's store" in str(report.error)
    assert "give a folder that all machines share" in str(report.error)
    assert not (tmp_path / "elsewhere").exists()


def test_a_cluster_without_room_for_a_task_is_told_of_at_once(cluster: None, tmp_path: Path) -> None:
    """Ray itself would wait for a machine with a GPU to join, without a word and for ever."""
    task = replace(make_plan(wanted("lenet")).cells[0].task, store=str(tmp_path), span=(0, 8), device="cuda")
    executor = Ray(workers=1)
    with pytest.raises(
        InputError, match=r"a task takes 1 CPU and 1 GPU, and no machine .* has that \(at most 2 CPUs, 0 GPUs\)"
    ):
        _Crew(executor, ray, own=True)._check_room(task)
    with pytest.warns(UserWarning, match="a task takes 64 CPUs, and no machine .*; the sweep waits until one joins"):
        _Crew(Ray(cpus=64), ray, own=False)._check_room(replace(task, device="cpu"))


def test_what_fails_to_begin_on_a_worker_is_not_tried_again(cluster: None, tmp_path: Path) -> None:
    task = replace(make_plan(wanted("lenet")).cells[0].task, store=str(tmp_path), span=(0, 8))
    crew = _Crew(Ray(workers=1), ray, own=False)

    def imports_what_is_not_here(*_: object) -> None:
        import no_such_package  # type: ignore[import-not-found]  # noqa: F401

    crew._remote = ray.remote(num_cpus=1, max_retries=0)(imports_what_is_not_here)
    (report,) = crew.work([[task]])
    assert report.expected
    assert "it failed on its worker" in str(report.error)
    assert "no_such_package" in str(report.error)
    assert "must have the same advkit" in str(report.error)


def test_a_worker_sees_its_gpus_only_so_a_number_means_nothing_there(cluster: None, tmp_path: Path) -> None:
    sent: list[Task] = []
    crew = _Crew(Ray(workers=1), ray, own=False)

    class Remote:
        def options(self, **settings: float) -> Remote:
            assert settings == {"num_gpus": 1}
            return self

        def remote(self, place: object, task: bytes, things: object) -> None:
            sent.append(ray.cloudpickle.loads(task))

    crew._remote = Remote()
    crew._send(replace(make_plan(wanted("lenet")).cells[0].task, store="out", device="cuda:3"))
    assert sent[0].device == "cuda"
    assert Path(sent[0].store).is_absolute()


KILLED = """
import sys
from pathlib import Path
from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Spectator, Sweep, make_plan, run_plan
from advkit.executors.ray import Ray

wanted = Sweep((ModelSpec.named("slow.py:make"),), (AttackSpec("pgd"),), ("4/255",), samples=64, shard=8, batch_size=8)
run_plan(make_plan(wanted), Path(sys.argv[1]), executor=Ray(workers=2))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_of_a_cluster_of_its_own_outlives_a_driver(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "slow.py").write_text(MODEL)
    (tmp_path / "sweep.py").write_text(KILLED)
    driver = subprocess.Popen(
        [sys.executable, "sweep.py", "out"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    family: set[psutil.Process] = set()
    end = time.monotonic() + 120
    while time.monotonic() < end and len(list(tmp_path.glob("pids/*"))) < 3:
        time.sleep(0.2)
    # Ray's own agents look for what started them every minute or so, and end then.
    everyone = psutil.Process(driver.pid).children(recursive=True)
    family.update(one for one in everyone if how == signal.SIGINT or "Agent" not in one.name())
    assert len(family) > 3, "a cluster runs"
    driver.send_signal(how)
    driver.wait(60)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match=r"no Ray cluster can be reached or started at 127\.0\.0\.1:1 "):
        run_plan(make_plan(wanted("lenet")), tmp_path, executor=Ray(address="127.0.0.1:1"))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'advkit\[ray\]'"):
        run_plan(make_plan(wanted("lenet")), tmp_path, executor=EXECUTORS.create("ray"))
