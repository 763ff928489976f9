"""``advkit train``: a file that ``advkit attack`` reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from safetensors.torch import load_file


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
        (("--learning-rate", "nan"), ("learning_rate is nan",)),
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
    ],
)
def test_bad_input_is_refused(
    refused: Callable[..., str], easy: Path, tmp_path: Path, more: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    said = refused(*flags(easy, tmp_path / "a.safetensors", "--quiet", *more))
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
