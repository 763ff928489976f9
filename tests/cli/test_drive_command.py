"""``advkit drive``: what it prints, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Run

from advkit.scene.sticker import Sticker

QUICK = ("--poses", "12@0,30@20", "--draws", "4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sticker of two black bars on the stop sign."""
    made = tmp_path_factory.mktemp("drive") / "bars"
    made.mkdir()
    rgba = torch.zeros(4, 64, 64)
    rgba[3, 14:21, 12:52] = rgba[3, 43:50, 12:52] = 1
    Sticker(rgba, 600.0, {"class": "stop", "target": "yield"}).save(made)
    return made


def test_the_table_has_poses_denominators_and_controls(run: Run, folder: Path) -> None:
    answer = run("drive", folder, *QUICK, "--format", "markdown")
    assert answer.code == 0, answer
    text = " ".join(answer.out.split())
    for part in ("sign px", "clean right", "printed targeted", "of 4", "at random places", "palette ink", "seed 0"):
        assert part in text, part
    assert "50.0" in text  # pixels of 0.6 m at 12 m
    assert "stop sign of 600 mm" in answer.err


def test_json_is_the_same_for_the_same_seed(run: Run, folder: Path) -> None:
    found, again = (run("drive", folder, *QUICK, "--format", "json", "--quiet").json for _ in range(2))
    assert found == again
    assert [row["distance_m"] for row in found["rows"]] == [12.0, 30.0]
    assert found["class"] == "stop"
    assert found["target"] == "yield"
    assert found["print_model"] == "snap"
    assert {"clean", "digital", "printed", "control", "controls"} <= set(found["rows"][0])
    assert found["camera"]["width"] == pytest.approx(0.6)
    assert found["camera"]["filled"] == pytest.approx(0.9084, abs=1e-4)  # the octagon in its square
    other = run("drive", folder, *QUICK, "--seed", "5", "--format", "json", "--quiet").json
    assert other["seed"] == 5


def test_a_drive_is_told_in_two_tables(run: Run, folder: Path) -> None:
    answer = run("drive", folder, "--drive-by", "--start", "20", "--every", "20", "--draws", "2", "--target", "none",
                 "--print-model", "none", "--format", "markdown")  # fmt: skip
    assert answer.code == 0, answer
    text = " ".join(answer.out.split())
    for part in ("first read right", "longest", "2 drives of 3 frames", "20 to"):
        assert part in text, part
    assert "printed" not in text.replace("printed sign", "")
    assert "target" not in text


@pytest.mark.parametrize("form", ["csv", "markdown", "latex", "html"])
def test_every_format_is_written(run: Run, folder: Path, form: str) -> None:
    answer = run("drive", folder, *QUICK, "--format", form, "--quiet")
    assert answer.code == 0
    assert answer.err == ""
    assert {"csv": "distance_m,", "markdown": "| --- |", "latex": r"\toprule", "html": "<t"}[form] in answer.out


def test_a_sign_that_is_never_read_right_is_said_and_still_printed(run: Run, folder: Path) -> None:
    answer = run("drive", folder, *QUICK, "--face", "yield", "--target", "no entry")
    assert answer.code == 0, answer
    assert "never reads stop right" in answer.err
    assert "0 of 8" in answer.out


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--class", "stpo"), "Did you mean 'stop'"),
        (("--target", "stop"), "which the sign is anyway"),
        (("--target", "99"), "'99' is no class here"),
        (("--face", "moon"), "no face of signs is named 'moon'"),
        (("--poses", "far"), "set of poses"),
        (("--poses", "a@b"), "write metres and degrees"),
        (("--poses", "0.1@0"), "1 to 1000 m"),
        (("--print-model", "laser"), "print model"),
        (("--palette", "pastel"), "palette"),
        (("--drive-by", "--start", "2"), "start farther away"),
        (("--format", "doc"), "format"),
        (("--focal", "0"), "focal is 0.0"),
    ],
)
def test_bad_input_is_refused(refused: Callable[..., str], folder: Path, args: tuple[str, ...], part: str) -> None:
    assert part in refused("drive", folder, *args)


def test_a_folder_without_a_sticker_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no sticker" in refused("drive", tmp_path / "none")


def test_a_model_of_other_classes_is_refused(refused: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "few.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))\n"
    )
    said = refused("drive", folder, *QUICK, "--model", f"{tmp_path / 'few.py'}:net", "--target", "us one way")
    assert "classes" in said
