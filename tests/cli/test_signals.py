"""Ctrl-C, kill, a closed terminal: once and twice, while a sweep is planned and while it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from advkit.cli import main
from advkit.cli._signals import ended_by_signals, exit_code

SLOW = """
import time
from pathlib import Path
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self, planning, pass_):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.pass_ = nn.Linear(3 * 32 * 32, 35), float(pass_)
        Path(__file__).with_name("loaded").touch()
        time.sleep(float(planning))

    def forward(self, x):
        if x.requires_grad:
            Path(__file__).with_name("asked").touch()
        time.sleep(self.pass_)
        return self.layer(x.flatten(1))
"""

TWICE = """
import os, signal, time
from advkit.cli._signals import ended_by_signals
with ended_by_signals():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_signal_lets_clean_up_and_is_told_by_the_exit_code(number: signal.Signals, code: int) -> None:
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)
    try:
        with pytest.raises(KeyboardInterrupt), ended_by_signals():
            signal.raise_signal(number)
        assert exit_code() == code
        assert signal.getsignal(number) is usual
    finally:
        signal.signal(number, before)


def test_the_second_ends_at_once_whatever_is_being_cleaned_up() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, timeout=50)
    assert time.monotonic() - began < 40
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr == "Interrupted twice: ended at once.\n"


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with ended_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_a_thread_nothing_is_changed() -> None:
    seen: list[object] = []

    def work() -> None:
        with ended_by_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]


def test_a_command_that_is_told_to_end_exits_with_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("advkit.cli.cli.main", lambda **_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 143
    assert capsys.readouterr().err == "Interrupted.\n"


def started(code: Path, out: Path, *, planning: float, pass_: float, on: Sequence[str] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "advkit", "sweep", "--model", f"{code}:Slow:{planning}:{pass_}", "--attack", "pgd"]
    command += ["--eps", "4/255", "--samples", "24", "--shard", "8", "--batch-size", "8", "--out", str(out)]
    return subprocess.Popen([*command, *on], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def awaited(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 100
    while not what():
        assert time.monotonic() < end
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "slow.py"
    path.write_text(SLOW)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_middle_of_planning_nothing_is_left(code: Path, tmp_path: Path, number: signal.Signals) -> None:
    sweep = started(code, tmp_path / "out", planning=30, pass_=0)
    awaited((tmp_path / "loaded").exists, sweep)
    sweep.send_signal(number)
    _, said = sweep.communicate(timeout=20)
    assert sweep.returncode == 128 + number
    assert said.strip().endswith("Interrupted.")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("on", ["local", "processes", "ray"])
def test_a_sweep_that_is_told_to_end_keeps_what_is_finished(code: Path, tmp_path: Path, on: str) -> None:
    """As a cluster manager or a system that shuts down tells it."""
    if on == "ray":
        pytest.importorskip("ray")
    workers = () if on == "local" else ("--workers", "2")
    sweep = started(code, tmp_path / "out", planning=0, pass_=0.15, on=("--on", on, *workers))
    awaited(lambda: list(tmp_path.glob("out/cells/*/0*.safetensors")), sweep)
    sweep.send_signal(signal.SIGTERM)
    _, said = sweep.communicate(timeout=30)
    assert sweep.returncode == 143, said
    assert "Interrupted. What was finished is in" in said
    assert "***" not in said, "Ray shows a stack"
    assert "Traceback" not in said
    assert not list(tmp_path.glob("out/cells/*/.*.part"))
    assert not (tmp_path / "out" / ".writer").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mask", ["bars", "auto"])
def test_a_sticker_that_is_told_to_end_ends_within_a_step(code: Path, tmp_path: Path, mask: str) -> None:
    out = tmp_path / "sticker"
    command = [sys.executable, "-m", "advkit", "sticker", "--model", f"{code}:Slow:0:0.5", "--class", "stop"]
    command += ["--target", "yield", "--mask", mask, "--out", str(out)]
    search = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    awaited((tmp_path / "asked").exists, search)
    time.sleep(1.5)
    search.send_signal(signal.SIGTERM)
    began = time.monotonic()
    _, said = search.communicate(timeout=60)
    assert time.monotonic() - began < 15  # a step takes half a second, all of them minutes
    assert search.returncode == 143, said
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert (out / "sticker.json").is_file() == (mask == "bars")
