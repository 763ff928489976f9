"""Slurm, through submitit's own executor for one machine."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from advkit.engine.specs import AttackSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.errors import InputError, MissingExtra
from advkit.executors.slurm import Slurm, _clear

WANTED = Sweep(
    (ModelSpec("lenet"),), (AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 4),))), ("4/255",), samples=24, shard=8
)


@pytest.mark.slow
def test_jobs_of_several_tasks_do_the_sweep(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    result = run_plan(
        make_plan(WANTED), tmp_path / "out", executor=Slurm(workers=2, chunk=2, cpus=1, cluster="local", poll=0.1)
    )
    assert not result.failed
    plain = run_plan(make_plan(WANTED), tmp_path / "plain")
    assert [line.stands.tolist() for line in result.grid.lines] == [line.stands.tolist() for line in plain.grid.lines]
    assert len(list((tmp_path / "out" / "slurm").glob("*_submitted.pkl"))) == 2 + 3, "three tasks, then six, by twos"


@pytest.mark.slow
def test_a_lost_job_is_submitted_again(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.05)
            for path in (tmp_path / "slurm").glob("*_log.out"):
                for child in psutil.Process(int(path.name.split("_")[0])).children():  # of what waits for it
                    child.kill()
                    killed.append(child.pid)
                    return

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.warns(UserWarning, match=r"a worker was lost .* is tried again"):
        result = run_plan(
            make_plan(WANTED), tmp_path, executor=Slurm(workers=2, chunk=8, cpus=1, cluster="local", poll=0.1)
        )
    killer.join()
    assert not result.failed
    assert [line.n for line in result.grid.lines] == [24, 24]


def test_a_machine_without_slurm_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="there is no sbatch here"):
        run_plan(make_plan(WANTED), tmp_path / "out", executor=Slurm())


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtra, match=r"pip install 'advkit\[slurm\]'"):
        run_plan(make_plan(WANTED), tmp_path, executor=Slurm())


def test_answers_that_lie_in_a_store_are_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "7_0_result.pkl").write_bytes(b"planted")
    (tmp_path / "slurm" / "7_submitted.pkl").touch()
    _clear(tmp_path / "slurm")
    assert [path.name for path in (tmp_path / "slurm").iterdir()] == ["7_submitted.pkl"]
    (tmp_path / "link").symlink_to(tmp_path / "slurm")
    with pytest.raises(InputError, match="leads elsewhere"):
        _clear(tmp_path / "link")
