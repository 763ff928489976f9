"""Sweeps that are killed at random moments: a short run of benchmarks/torture.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_sweeps_survive_a_few_random_kills() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "torture.py"
    done = subprocess.run([sys.executable, str(script), "--kills", "4"], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "every store complete, byte for byte the same, nothing twice" in done.stdout
