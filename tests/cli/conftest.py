from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Answer, Run
from PIL import Image

from advkit.cli import main


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """A command line, run in this process: its exit code, standard output and standard error."""

    def call(*args: object) -> Answer:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        code = ended.value.code
        assert isinstance(code, int)
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """The one sentence with which a command line is refused."""

    def call(*args: object) -> str:
        answer = run(*args)
        assert answer.code == 2, answer
        assert answer.out == ""
        said = [
            line for line in answer.err.splitlines() if not line.startswith(("model ", "data ", "threat ", "device "))
        ]
        assert len(said) == 1, answer.err
        assert said[0].startswith("Error: ")
        assert said[0].endswith(".")
        return said[0].removeprefix("Error: ")

    return call


@pytest.fixture
def arrays() -> tuple[np.ndarray, np.ndarray]:
    """Six random pictures (6, 32, 32, 3) and their labels."""
    return np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), np.arange(6)


@pytest.fixture
def npz(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> Callable[..., Path]:
    """An .npz file of the arrays, with some of them replaced; None leaves one out."""

    def write(**changed: object) -> Path:
        held = {"x": arrays[0], "y": arrays[1], **changed}
        np.savez(tmp_path / "own.npz", **{name: value for name, value in held.items() if value is not None})
        return tmp_path / "own.npz"

    return write


@pytest.fixture
def folder(tmp_path: Path, arrays: tuple[np.ndarray, np.ndarray]) -> Path:
    """Two classes of two JPEG files each, of which a/1.jpg is cut off."""
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(arrays[0][i]).save(tmp_path / "pictures" / name / f"{i}.jpg")
    broken = tmp_path / "pictures" / "a" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    return tmp_path / "pictures"
