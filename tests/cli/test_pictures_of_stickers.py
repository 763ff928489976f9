"""``advkit sticker --figure`` and ``advkit drive --figure`` and ``--gif``: drawn, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Run
from PIL import Image

from advkit.data.signs import Signs
from advkit.scene.sticker import Sticker

QUICK = ("sticker", "--model", "cnn", "--steps", "2", "--views", "2", "--test-views", "6", "--target", "yield")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a black bar for a stop sign."""
    rgba = torch.zeros(4, 64, 64)
    rgba[:3] = torch.tensor([0.06, 0.06, 0.07])[:, None, None]  # of the palette: printed as it was designed
    rgba[3, 20:44, 6:58] = 1
    Sticker(rgba, 750.0, {"class": "stop", "target": "yield", "data": "signs", "model": "cnn"}).save(tmp_path / "bar")
    return tmp_path / "bar"


def test_a_sticker_is_drawn_with_what_is_read(run: Run, tmp_path: Path) -> None:
    signs = Signs(count=105)
    (tmp_path / "photos").mkdir()
    stops = (signs.labels == signs.classes.index("stop")).nonzero().flatten().tolist()
    for index in stops:
        levels = (signs.pictures([index])[0] * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(tmp_path / "photos" / f"{index}.png")
    middle = "0.3,0.3;0.7,0.3;0.7,0.7;0.3,0.7"
    args = ("--photos", tmp_path / "photos", "--mask", middle, "--figure", tmp_path / "contact.png")
    answer = run(*QUICK, *args)
    assert answer.code == 0, answer
    assert "drew " in answer.err
    with Image.open(tmp_path / "contact.png") as drawn:
        found = drawn.convert("RGB").getcolors(1 << 24)
    greens = sum(count for count, colour in found if colour == (0, 158, 115))
    assert greens > 500  # clean views that are read right have their frame


def test_a_sticker_is_not_drawn_into_an_unknown_kind_of_file(refused: Callable[..., str]) -> None:
    assert "contact.gif" in refused(*QUICK, "--figure", "contact.gif")


def test_a_drive_is_drawn_over_its_poses(run: Run, saved: Path, tmp_path: Path) -> None:
    answer = run("drive", saved, "--poses", "3@0,12@0,12@30", "--draws", "3", "--figure", tmp_path / "map.png")
    assert answer.code == 0, answer
    with Image.open(tmp_path / "map.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 24)) > 50


def test_a_drive_by_is_animated_frame_by_frame(run: Run, saved: Path, tmp_path: Path) -> None:
    lane = ("--start", "20", "--end", "14", "--every", "5", "--draws", "1")
    answer = run("drive", saved, "--drive-by", *lane, "--gif", tmp_path / "drive.gif", "--format", "json")
    assert answer.code == 0, answer
    with Image.open(tmp_path / "drive.gif") as drawn:
        assert drawn.n_frames == len(answer.json["frames"]) == 5
        durations = []
        for number in range(5):
            drawn.seek(number)
            durations.append(drawn.info["duration"])
    assert sum(durations) == pytest.approx(5 * 1000 / 6, abs=15)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("--drive-by", "--figure", "map.png"), "--figure draws success over poses"),
        (("--gif", "drive.gif"), "give --drive-by too"),
        (("--drive-by", "--gif", "drive.png"), "ends in .gif"),
        (("--figure", "map.txt"), "map.txt"),
    ],
)
def test_pictures_that_cannot_be_are_refused(
    refused: Callable[..., str], saved: Path, args: tuple[str, ...], part: str
) -> None:
    assert part in refused("drive", saved, *args)
