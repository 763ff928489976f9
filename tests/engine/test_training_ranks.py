"""Two processes train as one with the doubled batch does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from two_processes import CASES, outcome

from advkit.engine.training import ALONE

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    """What the two processes have found, of all cases."""
    out = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fixed = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(TESTS / "engine" / "two_processes.py"), str(out)],
            env={**os.environ, **fixed, "PYTHONPATH": str(TESTS), "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    try:
        assert [process.wait(240) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    return [load_file(out / f"{rank}.safetensors") for rank in range(2)]


def of(found: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: value for key, value in found.items() if key.startswith(f"{name}/")}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_have_the_loss_curve_of_one_with_the_doubled_batch(
    two: list[dict[str, Tensor]], name: str
) -> None:
    both, one = of(two[0], name), outcome(name, ALONE, 16)
    count = len(one["losses"])
    assert len(both["losses"]) == count
    off = (both["losses"] - one["losses"]).abs() / one["losses"]
    assert off[:50].max() < 1e-4, off
    assert one["losses"][-1] < one["losses"][0] * 0.95, "it learns, so that equal curves mean something"
    assert (both["scores"] - one["scores"]).abs().max() <= 0.21, "one example of five"


@pytest.mark.parametrize("name", CASES)
def test_both_processes_end_at_the_same_weights(two: list[dict[str, Tensor]], name: str) -> None:
    first, second = (of(found, name) for found in two)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_two_processes_resume_to_the_bit(two: list[dict[str, Tensor]]) -> None:
    whole, resumed = of(two[0], "replays"), of(two[0], "resumed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
