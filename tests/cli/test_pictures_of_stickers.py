"""``advkit sticker --figure`` and ``advkit drive --figure`` and ``--gif``: drawn, and refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from command_line import Run
from PIL import Image

from advkit.scene.sticker import Sticker

QUICK = ("sticker", "--model", "cnn", "--steps", "2", "--views", "2", "--test-views", "6", "--target", "yield")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a black bar for a stop sign."""
    rgba = torch.zeros(4, 64, 64)
    rgba[3, 20:44, 6:58] = 1
    Sticker(rgba, 750.0, {"class": "stop", "target": "yield", "data": "signs", "model": "cnn"}).save(tmp_path / "bar")
    return tmp_path / "bar"


def test_a_sticker_is_drawn_with_what_is_read(run: Run, tmp_path: Path) -> None:
    answer = run(*QUICK, "--figure", tmp_path / "contact.png")
    assert answer.code == 0, answer
    assert "drew " in answer.err
    with Image.open(tmp_path / "contact.png") as drawn:
        found = drawn.convert("RGB").getcolors(1 << 24)
    greens = sum(count for count, colour in found if colour == (0, 158, 115))
    assert greens > 1000  # clean views that are read right have their frame


def test_a_sticker_is_not_drawn_into_an_unknown_kind_of_file(refused: Callable[..., str]) -> None:
    assert "contact.gif" in refused(*QUICK, "--figure", "contact.gif")
