"""``advkit train``: a file that ``advkit attack`` reads."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Run
from safetensors import safe_open
from safetensors.torch import load_file

from advkit.results.lock import locked


@pytest.fixture
def easy(tmp_path: Path) -> Path:
    """Dark pictures are class 0, bright ones class 1."""
    x = np.random.default_rng(0).integers(0, 100, (64, 28, 28), dtype=np.uint8)
    y = np.arange(64) % 2
    np.savez(tmp_path / "easy.npz", x=x + (150 * y[:, None, None]).astype(np.uint8), y=y, classes=["dark", "bright"])
    return tmp_path / "easy.npz"


def flags(easy: Path, out: Path, *more: object) -> tuple[object, ...]:
    short = ("--epochs", 6, "--batch-size", 16, "--learning-rate", 0.05)
    return ("train", "--model", "mlp", "--data", easy, "--held-out", easy, "--out", out, *short, *more)


@pytest.mark.parametrize("defense", [("standard",), ("pgd-at", "--eps", "8/255", "--set", "steps=2")])
def test_what_is_trained_can_be_attacked(run: Run, easy: Path, tmp_path: Path, defense: tuple[str, ...]) -> None:
    out = tmp_path / "new" / "net.safetensors"
    answer = run(*flags(easy, out, "--defense", *defense))
    assert answer.code == 0
    assert answer.out == ""
    assert "100.0" in answer.err
    assert "64 held-out examples" in answer.err
    assert sorted(path.name for path in out.parent.iterdir()) == ["net.safetensors", "net.training"]
    beside = out.parent / "net.training"
    names = ["checkpoint.safetensors", "curves.png", "history.json", "last.safetensors"]
    assert sorted(path.name for path in beside.iterdir()) == names
    assert [epoch["number"] for epoch in json.loads((beside / "history.json").read_text())] == [1, 2, 3, 4, 5, 6]
    found = run("attack", "--model", out, "--data", easy, "--attack", "fgsm", "--eps", "4/255", "--format", "json").json
    assert found["model"] == "mlp"
    assert found["clean"]["accuracy"] == 1
    assert found["worst"][0]["accuracy"] == 1, "four grey levels do not make dark pictures bright"


def test_the_same_command_writes_the_same_file_byte_for_byte(run: Run, easy: Path, tmp_path: Path) -> None:
    """Whatever else the process has done in between, and wherever the file lies."""
    for name in ("a", "b/c"):
        short = ("--epochs", 1, "--samples", 48, "--batch-size", 16, "--defense", "pgd-at:steps=1", "--eps", "4/255")
        files = ("--data", easy, "--held-out", easy, "--out", tmp_path / f"{name}.safetensors")
        assert run("train", "--model", "lenet", *files, *short, "--quiet").code == 0
        torch.rand(3)
    for name in (".safetensors", ".training/last.safetensors"):
        assert Path(f"{tmp_path}/a{name}").read_bytes() == Path(f"{tmp_path}/b/c{name}").read_bytes(), name


def test_the_same_seed_gives_the_same_weights_to_the_bit(run: Run, easy: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(*flags(easy, tmp_path / f"{name}.safetensors", "--seed", seed, "--quiet"))
    a, b, c = (load_file(tmp_path / f"{name}.safetensors") for name in "abc")
    assert all(a[key].equal(b[key]) for key in a)
    assert not all(a[key].equal(c[key]) for key in a)


def test_accuracy_on_the_training_data_is_not_called_held_out(run: Run, easy: Path, tmp_path: Path) -> None:
    args = ("train", "--model", "lenet", "--data", easy, "--epochs", 1, "--out", tmp_path / "a.safetensors")
    assert "not held out" in run(*args).err


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--epochs", "0"), ("epochs is 0", "above 0")),
        (("--batch-size", "1"), ("batch_size is 1", "2 or more")),
        (("--learning-rate", "nan"), ("--learning-rate is nan",)),
        (("--shift", "-1"), ("shift is -1", "0 or more")),
        (("--samples", "1"), ("1 example", "at least 2")),
        (("--samples", "0"), ("0 examples",)),
        (("--eps", "8/255"), ("--eps reaches nothing", "pgd-at")),
        (("--defense", "pgd-at", "--eps", "8"), ("8", "write 8/255")),
        (("--defense", "pgd-at", "--set", "threat=1"), ("--eps",)),
        (("--defense", "pgd-at", "--set", "stps=1"), ("'stps'", "'steps'")),
        (("--model", "lenett"), ("'lenett'", "'lenet'")),
        (("--out", "/proc/no/a.safetensors"), ("/proc/no", "cannot be written")),
        (("--out", "a.pt"), ("a.pt", ".safetensors")),
        (("--held-out", "nothing.npz"), ("nothing.npz",)),
        (("--device", "nonsense"), ("'nonsense'",)),
        (("--defense", "pgd-att"), ("'pgd-att'", "'pgd-at'")),
        (("--defense", "jpeg"), ("jpeg", "trained already")),
        (("--defense", "awp"), ("awp", "changes another way to train")),
        (("--schedule", "cosin"), ("'cosin'", "'cosine'")),
        (("--augment", "crop+flop"), ("'flop'", "'flip'")),
        (("--milestones", "3"), ("piecewise", "--milestones 100,150")),
        (("--track", "tensorbord"), ("'tensorbord'", "'tensorboard'")),
    ],
)
def test_bad_input_is_refused(
    refused: Callable[..., str], easy: Path, tmp_path: Path, more: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    words = flags(easy, tmp_path / "a.safetensors", "--quiet")
    if more[0] in words:  # a name or a file is said once
        place = words.index(more[0])
        words = [*words[:place], *words[place + 2 :]]
    said = refused(*words, *more)
    assert all(part in said for part in parts), said
    assert not (tmp_path / "a.safetensors").exists()


def test_a_missing_output_is_asked_for(refused: Callable[..., str]) -> None:
    assert "--out" in refused("train", "--model", "lenet")


def test_training_that_diverges_stops_with_a_sentence(run: Run, easy: Path, tmp_path: Path) -> None:
    answer = run(*flags(easy, tmp_path / "a.safetensors", "--quiet", "--learning-rate", "1e20"))
    assert answer.code == 1
    assert "lower the learning rate" in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "a.safetensors").exists()


def test_ctrl_c_ends_training_and_writes_nothing(
    run: Run, easy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advkit.defenses.standard import Standard

    def pressed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Standard, "loss", pressed)
    answer = run(*flags(easy, tmp_path / "a.safetensors", "--quiet"))
    assert answer.code == 130
    assert answer.err.strip() == "Interrupted."
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_how_it_was_told_to_end_is_its_exit_code_and_all_is_kept(
    run: Run, easy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    from advkit.defenses.standard import Standard

    done, loss = [], Standard.loss

    def told(*given: Any) -> Any:
        done.append(1)
        if len(done) == 6:
            os.kill(os.getpid(), number)
        return loss(*given)

    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Standard, "loss", told)
            answer = run(*flags(easy, tmp_path / "a.safetensors", "--epochs", 2))
    finally:
        signal.signal(number, before)
    assert answer.code == code
    assert len(done) == 6, "within a step nothing ends"
    assert "the same command goes on from there" in answer.err
    assert "goes on from step 6 of 8" in run(*flags(easy, tmp_path / "a.safetensors", "--epochs", 2)).err


def test_a_second_training_into_the_same_file_is_refused(run: Run, easy: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    with locked(tmp_path / "a.training", "training"):
        answer = run(*flags(easy, out))
    assert answer.code == 2
    assert re.search(
        r"^Error: another training \(process \d+, since .*\) is writing to .*a\.training; wait ", answer.err, re.M
    )
    assert "Traceback" not in answer.err
    assert not out.exists()
    assert run(*flags(easy, out, "--epochs", 1)).code == 0


def test_the_same_command_goes_on_after_ctrl_c_and_ends_as_if_nothing_had_been(
    run: Run, easy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advkit.defenses.standard import Standard

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    run(*flags(easy, whole, "--ema", 0.5, "--augment", "crop:2+flip"))
    done, loss = [], Standard.loss

    def pressed(*given: Any) -> Any:
        done.append(1)
        if len(done) == 14:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*given)

    with monkeypatch.context() as patched:
        patched.setattr(Standard, "loss", pressed)
        answer = run(*flags(easy, parts, "--ema", 0.5, "--augment", "crop:2+flip"))
    assert answer.code == 130
    assert "the same command goes on from there" in answer.err
    assert len(done) == 14
    answer = run(*flags(easy, parts, "--ema", 0.5, "--augment", "crop:2+flip"))
    assert "goes on from step 14 of 24, after 3 epochs" in answer.err
    one, other = load_file(whole), load_file(parts)
    assert all(one[key].equal(other[key]) for key in one)
    said = run(*flags(easy, parts, "--ema", 0.6, "--augment", "crop:2+flip"))
    assert said.code == 2
    assert "its ema is 0.5 there, and 0.6 is asked for" in said.err
    assert "goes on" not in run(*flags(easy, parts, "--ema", 0.6, "--augment", "crop:2+flip", "--fresh")).err


def test_best_and_last_are_both_measured_and_kept(run: Run, easy: Path, tmp_path: Path) -> None:
    """A rate that spoils a network that was good: the best epoch is not the last."""
    out = tmp_path / "a.safetensors"
    spoil = ("--schedule", "constant", "--learning-rate", 3.0, "--epochs", 4, "--validation", 16, "--eps", "2/255")
    answer = run(*flags(easy, out, "--defense", "pgd-at:steps=2", *spoil, "--seed", 1))
    history = json.loads((tmp_path / "a.training" / "history.json").read_text())
    best = max(epoch["number"] for epoch in history if epoch["best"])
    assert answer.code == 0
    assert [epoch["scores"].keys() >= {"robust", "clean", "fgsm"} for epoch in history] == [True] * 4
    with safe_open(out, "pt") as first, safe_open(tmp_path / "a.training" / "last.safetensors", "pt") as last:
        facts, others = first.metadata(), last.metadata()
    assert facts["epoch"] == f"{best} of 4"
    assert others["epoch"] == "4 of 4"
    assert facts["defense"] == "pgd-at:steps=2"
    assert facts["variant"] == "pgd-at"
    assert facts["eps"] == "2/255"
    assert "PGD-10" in facts["robust"]
    assert answer.err.count("PGD-10") == (1 if best == 4 else 2)
    assert (f"best, of epoch {best}: accuracy" in answer.err) == (best < 4)


def test_a_recipe_file_gives_what_options_do_not(run: Run, easy: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        f'[train]\nmodel = "mlp"\ndata = "{easy}"\nheld_out = "{easy}"\ndefense = "pgd-at:steps=2"\neps = "4/255"\n'
        '[model]\nwidths = "16"\n[recipe]\nepochs = 9\nbatch_size = 16\nlearning_rate = 0.05\nseed = 3\n'
        '[published]\nclean = 99.5\nrobust = 50\nby = "PGD-20"\nsource = "a paper"\n'
    )
    answer = run("train", recipe, "--epochs", 2, "--out", tmp_path / "a.safetensors")
    assert answer.code == 0, answer.err
    assert "pgd-at:steps=2, 2 epochs, seed 3" in answer.err
    assert "published: 99.5 % without attack and 50 % under PGD-20 (a paper)" in answer.err
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        facts = file.metadata()
    assert json.loads(facts["settings"])["widths"] in ("16", [16])
    assert "Linf(eps=4/255)" in facts["recipe"]
    assert "batch_size=16" in facts["recipe"]
    answer = run("train", tmp_path / "none.toml", "--out", tmp_path / "a.safetensors")
    assert answer.code == 2
    assert "none.toml, a recipe, cannot be read" in answer.err


def test_tensorboard_is_told_of_every_epoch(run: Run, easy: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = tmp_path / "board"
    run(*flags(easy, tmp_path / "a.safetensors", "--quiet", "--track", f"tensorboard:{board}"))
    told = events.EventAccumulator(str(board))
    told.Reload()
    assert [event.step for event in told.Scalars("training/loss")] == [1, 2, 3, 4, 5, 6]
    history = json.loads((tmp_path / "a.training" / "history.json").read_text())
    found = [event.value for event in told.Scalars("training/clean")]
    assert found == pytest.approx([epoch["scores"]["clean"] for epoch in history])


@pytest.mark.slow
def test_torchrun_trains_by_two_processes_that_speak_with_one_voice(easy: Path, tmp_path: Path) -> None:
    def call(*more: object) -> subprocess.CompletedProcess[str]:
        words = flags(easy, tmp_path / "a.safetensors", "--device", "cpu", *more)
        started = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "advkit"]
        fixed = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_PORT": "0"}
        return subprocess.run([*started, *map(str, words)], env=fixed, capture_output=True, text=True, timeout=200)

    done = call()
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 processes") == 1
    assert done.stderr.count("epoch 6 ") == 1
    assert (tmp_path / "a.safetensors").exists()
    assert call("--fresh", "--schedule", "cosin").stderr.count("Did you mean 'cosine'?") == 1
