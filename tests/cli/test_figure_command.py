"""``advkit figure``: files from a store, and one sentence where there can be none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two made-up models behind two defenses."""
    folder = tmp_path_factory.mktemp("sweep") / "store"
    sizes = {"models": 2, "defenses": 2, "attacks": 2, "radii": 2, "examples": 20, "pictures": 0}
    args = [text for name, value in sizes.items() for text in (f"--{name}", str(value))]
    subprocess.run([sys.executable, ROOT / "scripts" / "made_up_store.py", folder, *args], check=True)
    return folder


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_figure_is_written_and_its_name_printed(run: Run, store: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"new folder/f{suffix}"
    answer = run("figure", store, "--kind", "curves", "--out", out, *(("--dpi", "50") if suffix == ".png" else ()))
    assert answer.code == 0
    assert answer.out.splitlines() == [str(out)]
    assert answer.err == ""
    begins = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert out.read_bytes().startswith(begins)


def test_all_kinds_are_drawn_and_the_missing_one_is_told(run: Run, store: Path, tmp_path: Path) -> None:
    answer = run("figure", store, "--kind", "all", "--out", tmp_path / "all", "--suffix", ".svg")
    assert answer.code == 0
    names = [f"{kind}.svg" for kind in ("classes", "curves", "distances", "size", "tradeoff")]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == names
    assert [Path(line).name for line in answer.out.splitlines()] == names
    assert answer.err.startswith("Note: no transfer: ")
    assert len(answer.err.splitlines()) == 1


def test_filters_and_choices_are_heard(run: Run, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.svg"
    args = ("--filter", "model=*-2", "--filter", "defense=none", "--attack", "pgd", "--eps", "1/255", "--width", "3")
    assert run("figure", store, "--kind", "tradeoff", "--out", out, "--outdated", *args).code == 0
    svg = out.read_text(encoding="utf-8")
    assert "made-up-2</text>" in svg
    assert "made-up-1" not in svg
    assert "jpeg" not in svg
    assert "attack: pgd" in svg
    assert "1/255" in svg
    assert 'width="216pt"' in svg


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--kind", "curvs"), ("'curvs'", "Did you mean 'curves'?", "transfer")),
        (("--out", "f.gif"), ("'f.gif'", ".png, .svg or .pdf")),
        (("--kind", "transfer"), ("advkit sweep --transfer",)),
        (("--attack", "pdg"), ("'pdg'", "'pgd'")),
        (("--eps", "7/255", "--kind", "tradeoff"), ("7/255", "1/255, 2/255")),
        (("--eps", "x"), ("'x'", "8/255")),
        (("--filter", "model"), ("KEY=VALUE",)),
        (("--filter", "model=none-such"), ("none-such",)),
        (("--width", "0"), ("inches",)),
        (("--dpi", "1"), ("--dpi", "30<=x")),
        (("--kind", "all", "--suffix", ".gif"), (".png, .svg or .pdf",)),
    ],
)
def test_bad_input_is_refused(
    refused: Callable[..., str], store: Path, tmp_path: Path, args: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    given = {"--kind": "curves", "--out": str(tmp_path / "f.png"), **dict(zip(args[::2], args[1::2], strict=True))}
    said = refused("figure", store, *(text for pair in given.items() for text in pair))
    assert all(part in said for part in parts), said
    assert not (tmp_path / "f.png").exists()


def test_folders_that_are_none_or_empty_are_refused(refused: Callable[..., str], store: Path, tmp_path: Path) -> None:
    out = ("--kind", "curves", "--out", tmp_path / "f.png")
    assert "holds no results of a sweep" in refused("figure", tmp_path / "none", *out)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "store.json").write_text('{"advkit store": 1}')
    assert "holds no attacked examples" in refused("figure", tmp_path / "empty", *out)
    (tmp_path / "file").touch()
    assert "is a file" in refused("figure", store, "--kind", "all", "--out", tmp_path / "file")
