"""``advkit train-denoiser``: a file that ``--defense`` reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from safetensors.torch import load_file

from advkit.defenses._weights import read_denoiser
from advkit.results.lock import locked


@pytest.fixture
def easy(tmp_path: Path) -> Path:
    """Dark pictures are class 0, bright ones class 1."""
    x = np.random.default_rng(0).integers(0, 60, (48, 16, 16, 3), dtype=np.uint8)
    y = np.arange(48) % 2
    np.savez(
        tmp_path / "easy.npz", x=x + (150 * y[:, None, None, None]).astype(np.uint8), y=y, classes=["dark", "bright"]
    )
    return tmp_path / "easy.npz"


@pytest.fixture
def net(run: Run, easy: Path, tmp_path: Path) -> Path:
    """An MLP that tells them apart."""
    short = ("--epochs", 6, "--batch-size", 16, "--learning-rate", 0.05, "--quiet")
    out = tmp_path / "mlp.safetensors"
    assert run("train", "--model", "mlp", "--data", easy, "--held-out", easy, "--out", out, *short).code == 0
    return out


def flags(easy: Path, out: Path, *more: object) -> tuple[object, ...]:
    short = ("--epochs", 2, "--batch-size", 16, "--denoiser-set", "width=4")
    return ("train-denoiser", "--data", easy, "--held-out", easy, "--out", out, *short, *more)


@pytest.mark.parametrize(
    ("kind", "objective", "wrapper"),
    [
        ("dncnn", ("--set", "sigma=0.1"), "dncnn"),
        ("unet", ("--defense", "logit-guided", "--eps", "8/255", "--set", "steps=1"), "hgd"),
        ("diffusion", ("--set", "latest=0.2"), "diffusion:t=0.05,steps=2,draws=2,weights="),
    ],
)
def test_what_is_trained_stands_in_front_of_a_model(
    run: Run, easy: Path, net: Path, tmp_path: Path, kind: str, objective: tuple[str, ...], wrapper: str
) -> None:
    out = tmp_path / "new" / "denoiser.safetensors"
    answer = run(*flags(easy, out, "--model", net, "--denoiser", kind, *objective))
    assert answer.code == 0, answer.err
    assert answer.out == ""
    assert "PSNR" in answer.err
    assert "accuracy on clean pictures 100.0" in answer.err
    denoiser, facts = read_denoiser(out)
    assert denoiser.settings["width"] == 4
    assert facts["data"] == "easy"
    assert "mlp" in answer.err
    text = f"{wrapper}{'' if wrapper.endswith('=') else ':'}{out}"
    few = ("--samples", 6, "--attack", "fgsm", "--eps", "2/255", "--format", "json")
    found = run("attack", "--model", net, "--data", easy, "--defense", text, *few)
    assert found.code == 0, found.err
    assert found.json["clean"]["accuracy"] > 0.5


def test_the_same_command_writes_the_same_file_byte_for_byte(run: Run, easy: Path, net: Path, tmp_path: Path) -> None:
    for name in ("a", "b/c"):
        guided = ("--model", net, "--defense", "logit-guided", "--eps", "4/255", "--set", "steps=1", "--epochs", 1)
        assert run(*flags(easy, tmp_path / f"{name}.safetensors", *guided, "--quiet")).code == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b" / "c.safetensors").read_bytes()


def test_a_second_training_into_the_same_file_is_refused(run: Run, easy: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "a.training", "training"):
        answer = run(*flags(easy, tmp_path / "a.safetensors", "--without-guide"))
    assert answer.code == 2
    assert answer.err.startswith("Error: another training (process ")
    assert answer.err.count("\n") == 1


def test_the_same_command_goes_on_and_gives_the_same_weights(run: Run, easy: Path, tmp_path: Path) -> None:
    alone = ("--without-guide", "--denoiser", "dncnn", "--quiet")
    for name in ("a", "b"):
        assert run(*flags(easy, tmp_path / f"{name}.safetensors", *alone)).code == 0
    a, b = (load_file(tmp_path / f"{name}.safetensors") for name in "ab")
    assert all(a[key].equal(b[key]) for key in a)
    (tmp_path / "a.safetensors").unlink()
    assert run(*flags(easy, tmp_path / "a.safetensors", *alone)).code == 0
    again = load_file(tmp_path / "a.safetensors")
    assert all(a[key].equal(again[key]) for key in a)


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        (("--defense", "standard"), ("standard trains classifiers", "denoise")),
        (("--defense", "jpeg"), ("jpeg is no objective",)),
        (("--defense", "denoise", "--eps", "1/255", "--set", "threat=1"), ("--eps",)),
        (("--defense", "denoise", "--eps", "8/255"), ("--eps reaches nothing", "noise=adversarial")),
        (("--defense", "stability", "--eps", "8/255"), ("--eps reaches nothing", "logit-guided")),
        (("--defense", "stability"), ("stability asks a trained classifier",)),
        (("--set", "sigma=0"), ("sigma is 0",)),
        (("--set", "sgma=0"), ("'sgma'", "'sigma'")),
        (("--denoiser-set", "width=wide"), ("width is 'wide'", "whole number")),
        (("--denoiser-set", "depth=3"), ("unet has no setting 'depth'",)),
        (("--denoiser", "diffusion", "--defense", "denoise"), ("denoise does not train",)),
        (("--denoiser", "gan"), ("gan", "dncnn")),
        (("--out", "a.pt"), ("a.pt", ".safetensors")),
        (("--start", "nothing.safetensors"), ("nothing.safetensors",)),
        (("--epochs", "0"), ("epochs is 0",)),
        (("--held-out-samples", "0"), ("0 examples",)),
    ],
)
def test_bad_input_is_refused(
    refused: Callable[..., str], easy: Path, tmp_path: Path, more: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    said = refused(*flags(easy, tmp_path / "a.safetensors", "--without-guide", "--quiet", *more))
    assert all(part in said for part in parts), said
    assert not (tmp_path / "a.safetensors").exists()
