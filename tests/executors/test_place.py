"""What a worker is given: its share of the cores that there really are, and a GPU of its own."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch

from advkit.executors import _place, processes
from advkit.executors._place import cores, gpus, sharing
from advkit.executors.processes import Processes


@pytest.mark.parametrize(
    ("said", "expected"),
    [("200000 100000", 2), ("50000 100000", 1), ("150000 100000", 2), ("max 100000", 8), ("-1 100000", 8), ("odd", 8)],
)
def test_a_container_that_is_granted_few_cores_has_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: int
) -> None:
    """Else a container with two cores' time on a machine of 64 would start 64 workers."""
    (tmp_path / "cpu.max").write_text(said)
    monkeypatch.setattr(_place, "_GRANTS", (("/nowhere/cpu.max",), (str(tmp_path / "cpu.max"),)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert cores() == expected
    assert Processes().at_once() == expected


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [(None, 3, ["0", "1", "2"]), ("2,5", 2, ["2", "5"]), ("GPU-ab", 1, ["GPU-ab"]), ("", 0, []), (None, 0, [])],
)
def test_gpus_are_called_what_the_sweeps_own_process_calls_them(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, expected: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == expected


def test_the_environment_is_a_workers_own_and_the_drivers_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with sharing(3, "GPU-ab"):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-ab"
        assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_each_process_gets_a_gpu_in_turn_and_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker sees no other, so that nothing of its model's own code can take a neighbour's memory."""
    hired: list[tuple[int, int, str | None]] = []

    class Hired:
        def __init__(self, place: int, threads: int, gpu: str | None) -> None:
            hired.append((place, threads, gpu))
            self.place, self.task = place, None

    monkeypatch.setattr(processes, "_Worker", Hired)
    monkeypatch.setattr(processes, "cores", lambda: 8)
    monkeypatch.setattr(processes, "gpus", lambda: ["4", "6"])
    crew = processes._Crew(Processes(), lambda task, stage: None)  # type: ignore[arg-type, return-value]
    for _ in range(4):
        crew._hire(4, "cuda")
    crew._hire(5, "cpu")
    crew._hire(6, "cuda:6")
    assert hired == [(0, 2, "4"), (1, 2, "6"), (2, 2, "4"), (3, 2, "6"), (4, 1, None), (5, 1, None)]
    assert Processes().at_once("cuda") == 2
    assert not multiprocessing.active_children()
