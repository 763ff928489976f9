"""Sweeps that are killed at random moments: a short run of benchmarks/torture.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("study", "kills"), [("plain", 3), ("rich", 2)])
def test_sweeps_survive_a_few_random_kills(study: str, kills: int) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "torture.py"
    command = [sys.executable, str(script), "--kills", str(kills), "--study", study]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "every store complete, byte for byte the same, nothing twice" in done.stdout


@pytest.mark.slow
def test_a_few_random_faults_in_stored_results_are_noticed() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "torture.py"
    command = [sys.executable, str(script), "--kills", "0", "--faults", "10"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every fault was noticed" in done.stdout
