"""The panda figure is drawn whatever classes are called."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from advkit.errors import InputError
from advkit.results.figure import Answer, Panel, check_suffix, draw


def panel(name: str = "stop", channels: int = 3) -> Panel:
    x = torch.rand(channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return Panel(x, 1 - x, x * 0.9, Answer(name, 0.987), None, Answer(name, 0.5), "8/255 × sign of the gradient")


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_in_gray_and_colour_are_drawn(tmp_path: Path, channels: int) -> None:
    draw([panel(channels=channels), panel(channels=channels)], tmp_path / "f.png")
    pixels = np.asarray(Image.open(tmp_path / "f.png").convert("RGB"))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 60
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edge == 255).all(), "nothing is cut off at the edge"


def test_names_are_neither_mathematics_nor_cut_off(tmp_path: Path) -> None:
    odd = r"$\frac{1$ _x^ %" + " long" * 20
    with mpl.rc_context({"svg.fonttype": "none"}):
        draw([panel(odd)], tmp_path / "f.svg")
    text = (tmp_path / "f.svg").read_text()
    assert r"$\frac{1$ _x^ %" in text
    assert text.count("long") == 40
    assert "98.7 % confidence" in text


@pytest.mark.parametrize("name", ["f.xyz", "f", "f.jpg.gz", ".png"])
def test_a_kind_of_file_that_is_not_drawn_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        check_suffix(tmp_path / name)


def test_a_figure_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.png").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_suffix(tmp_path / "f.png")
