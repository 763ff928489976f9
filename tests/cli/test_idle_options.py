"""An option that cannot have an effect beside the others is refused, and code that nothing names is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("figure x --kind curves --out a.svg --suffix .pdf", "--suffix has no effect without --kind all"),
        ("figure x --kind curves --out a.svg --dpi 90", "--dpi has no effect on what is no .png"),
        ("figure x --kind all --out a --suffix .svg --dpi 90", "--dpi has no effect on what is no .png"),
        ("show x --suffix .pdf --dpi 90", "--dpi has no effect on what is no .png"),
        ("show x --only distances,confusion --model lenet", "--model has no effect on distances and confusion"),
        ("show x --only distances --examples 4", "--examples has no effect on distances"),
        ("sticker --pieces 2", "--pieces has no effect without --mask auto"),
        ("sticker --held-out 2", "--held-out has no effect without --photos"),
        ("sticker --photos . --face stop", "--face has no effect with --photos"),
        ("drive x --fps 10", "--fps has no effect without --drive-by"),
        ("drive x --drive-by --poses rp2", "--poses has no effect with --drive-by"),
        ("table x --long --ties", "--ties has no effect with --long"),
        ("table x --format json --rows model", "--rows has no effect with json"),
        ("sweep --dry-run --track tensorboard:x", "--track has no effect with --dry-run"),
        (
            "train-denoiser --out a.safetensors --without-guide --model lenet",
            "--model has no effect with --without-guide",
        ),
    ],
)
def test_an_option_without_effect_is_refused(run: Run, words: str, told: str) -> None:
    answer = run(*words.split())
    assert answer.code == 2
    assert answer.err.startswith(f"Error: {told}"), answer.err


@pytest.mark.parametrize(
    "option", ["--eps", "--norm", "--loss", "--precision", "--device", "--set", "--exclude", "--weights"]
)
def test_an_empty_text_is_refused(run: Run, option: str) -> None:
    answer = run("attack", option, " ")
    assert answer.code == 2
    assert answer.err == f"Error: {option} is empty; give a value, or leave it out.\n"


def test_code_that_no_file_names_is_told_at_the_end(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("")
    words = ("attack", "--model", "lenet", "--samples", "2", "--attack", "fgsm", "--quiet")
    answer = run(*words, "--trust-code", f"{tmp_path}/own.py:net")
    assert answer.code == 0
    assert (
        answer.err.splitlines()[-1]
        == f"Note: --trust-code {tmp_path}/own.py:net had no effect: no file that was read names it."
    )


def test_code_that_is_needed_is_not_told(run: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\ndef net():\n    torch.manual_seed(3)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 35))\n"
    )
    saved = ("--samples", "2", "--attack", "fgsm", "--quiet", "--save", tmp_path / "run")
    assert run("attack", "--model", f"{tmp_path}/own.py:net", *saved).code == 0
    answer = run("verify", tmp_path / "run", "--quiet", "--trust-code", f"{tmp_path}/own.py:net")
    assert answer.code == 0
    assert "no effect" not in answer.err


@pytest.mark.parametrize("text", ["", ":", "${HOME}", "1e400", "none+jpeg", "missing.ts"])
def test_what_can_name_no_code_is_refused(run: Run, text: str) -> None:
    answer = run("check", "--trust-code", text)
    assert answer.code == 2
    assert "--trust-code is" in answer.err
