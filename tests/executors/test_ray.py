"""Ray, on a real cluster of this machine with two workers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from advkit.catalog import EXECUTORS
from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.engine.tasks import InProcess
from advkit.errors import InputError, MissingExtra

ray = pytest.importorskip("ray")

from advkit.executors.ray import Ray  # noqa: E402

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
    specs = tuple(ModelSpec(model) for model in models)
    return Sweep(
        specs, (AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 4),))), ("4/255",), samples=32, shard=8, batch_size=8
    )


def test_it_starts_a_cluster_and_shuts_down_what_it_started(tmp_path: Path) -> None:
    assert not ray.is_initialized()
    result = run_plan(make_plan(wanted("lenet")), tmp_path / "ray", executor=Ray(workers=2))
    assert not result.failed
    assert not ray.is_initialized()
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


def test_a_worker_that_does_not_see_the_results_says_so(cluster: None, tmp_path: Path) -> None:
    plan = make_plan(wanted("lenet"))
    task = plan.cells[0].task
    from dataclasses import replace

    from advkit.engine.sweep import Spectator

    far = replace(task, store=str(tmp_path / "elsewhere"), span=(0, 8))
    (report,) = Ray(workers=1).run([[far]], Spectator().watch)
    assert report.expected
    assert "does not see the sweep's store" in str(report.error)
    assert "give a folder that all machines share" in str(report.error)
    assert not (tmp_path / "elsewhere").exists()


def test_a_cluster_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match=r"no Ray cluster can be reached or started at 127\.0\.0\.1:1 "):
        run_plan(make_plan(wanted("lenet")), tmp_path, executor=Ray(address="127.0.0.1:1"))


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'advkit\[ray\]'"):
        run_plan(make_plan(wanted("lenet")), tmp_path, executor=EXECUTORS.create("ray"))
