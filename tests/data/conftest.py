"""Picture files made on the spot, and the real ones where there are any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Write a picture of one colour, or of the given pixels, below the test's folder."""

    def write(name: str, colour: object = (200, 100, 50), size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(colour) if isinstance(colour, np.ndarray) else Image.new(mode, size, colour)
        picture.save(path)
        return path

    return write


@pytest.fixture
def real() -> Path:
    """The folder of real pictures; the test is skipped where there is none."""
    folder = Path(os.environ.get("ADVKIT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real pictures: set ADVKIT_DATA to their folder")
    return folder
