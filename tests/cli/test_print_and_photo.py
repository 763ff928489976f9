"""``advkit print`` and ``advkit photo``: what they write and say, and what they refuse."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run
from PIL import Image

from advkit.engine.design import mask_of
from advkit.results.print_sheet import Sheet
from advkit.scene.sticker import Sticker

OCTAGON = 2 * (0.47 * math.cos(math.pi / 8) + 0.02)  # its width across flats, of the square that it is drawn in
FACTS = {"class": "stop", "target": "yield", "data": "signs"}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a sticker of one page."""
    rgba = torch.zeros(4, 64, 64)
    rgba[:3] = torch.tensor([0.1, 0.6, 0.2])[:, None, None]
    rgba[3, 20:40, 10:50] = 1
    Sticker(rgba, 160.0, FACTS).save(tmp_path / "sticker")
    return tmp_path / "sticker"


def raster(path: Path, page: int, dpi: int = 100) -> np.ndarray:
    pdfium = pytest.importorskip("pypdfium2")
    return pdfium.PdfDocument(path)[page].render(scale=dpi / 72).to_numpy()[..., ::-1]


def test_a_printed_page_can_be_photographed_and_scored(run: Run, saved: Path, tmp_path: Path) -> None:
    printed = run("print", saved)
    assert printed.code == 0, printed
    assert "110.1 x 55.0 mm" in printed.err  # 40 and 20 of 64 pixels of a square that is wider than the octagon
    assert "for a sign 160.0 mm wide" in printed.err
    assert "1 page of a4" in printed.err
    assert "100 %" in printed.err
    sheet = json.loads((saved / "print.json").read_text())
    assert sheet["square_mm"] == pytest.approx(160 / OCTAGON)
    assert sheet["bounds"][2:] == pytest.approx([160, 160], abs=1e-3)
    Image.fromarray(raster(saved / "print.pdf", 0)).save(tmp_path / "page.png")
    figure = tmp_path / "photos.png"
    answer = run(
        "photo", saved, "--image", tmp_path / "page.png", "--model", "cnn", "--format", "json", "--figure", figure
    )
    assert answer.code == 0, answer
    (row,) = answer.json["photos"]
    assert (answer.json["class"], answer.json["target"], row["found"]) == ("stop", "yield", "page")
    assert row["misfit"] < 0.5
    assert row["light"]["grey"] < 0.02
    assert figure.read_bytes().startswith(b"\x89PNG")
    table = run(
        "photo", saved, "--image", tmp_path / "page.png", "--model", "cnn", "--corners", "50,50;350,60;340,350;45,340"
    )
    assert "corners" in table.out
    assert "of 1 photos" in table.out


def test_the_width_of_the_real_sign_scales_the_sticker(run: Run, saved: Path) -> None:
    assert run("print", saved).code == 0
    first = json.loads((saved / "print.json").read_text())
    assert run("print", saved, "--width", 320, "--paper", "letter").code == 0
    second = json.loads((saved / "print.json").read_text())
    assert second["square_mm"] == pytest.approx(320 / OCTAGON)
    assert second["pieces"][0] == pytest.approx([2 * part for part in first["pieces"][0]])
    assert second["paper"] == "letter"


def test_colours_that_are_added_are_printed_as_they_look_on_the_sign(run: Run, saved: Path, tmp_path: Path) -> None:
    rgba = torch.zeros(4, 64, 64)
    rgba[0] = -2.0
    rgba[3, 28:36, 28:36] = 1
    Sticker(rgba, 160.0, FACTS, mode="add").save(tmp_path / "added")
    assert run("print", tmp_path / "added").code == 0
    tile = json.loads((tmp_path / "added" / "print.json").read_text())["pages"][0]["tiles"][0]
    page = raster(tmp_path / "added" / "print.pdf", 0)
    y, x = (round((tile[axis] + 10) * 100 / 25.4) for axis in ("y", "x"))
    assert page[y, x, 0] == 0
    Sticker(rgba, 160.0, {"class": "mug"}, mode="add").save(tmp_path / "mug")
    assert run("print", tmp_path / "mug").code == 2


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("print", "nowhere"), "no sticker in nowhere"),
        (("print", "sticker", "--paper", "a5"), "'a5' is not the name of a paper"),
        (("print", "sticker", "--out", "sheet.png"), "name of a .pdf file"),
        (("print", "sticker", "--width", "-3"), "mm wide"),
        (("print", "sticker", "--width", "90000"), "mm wide"),
        (("photo", "sticker"), "no photo was given"),
        (("photo", "sticker", "--image", "a.png"), "write it by: advkit print"),
        (("photo", "sticker", "--image", "a.png", "--corners", "1,2;3"), "write four points"),
        (
            ("photo", "sticker", "--image", "a.png", "--corners", "1,2;3,4", "--corners", "1,2;3,4"),
            "2 --corners for 1 --image",
        ),
        (("photo", "sticker", "--image", "a.png", "--correct", "some"), "is not the name of a correction"),
        (("photo", "sticker", "--image", "a.png", "--figure", "a.gif"), "a.gif"),
    ],
)
def test_bad_input_is_refused(
    refused: Callable[..., str], saved: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], part: str
) -> None:
    monkeypatch.chdir(saved.parent)
    assert part in refused(*args)


def test_photos_without_a_sign_and_classes_that_do_not_fit_are_refused(
    run: Run, refused: Callable[..., str], saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved.parent)
    run("print", "sticker")
    Image.new("RGB", (300, 300), "grey").save("grey.png")
    Path("text.jpg").write_text("no picture")
    assert "no sign was found in grey.png" in refused("photo", "sticker", "--image", "grey.png")
    assert "no picture that Pillow knows" in refused("photo", "sticker", "--image", "text.jpg")
    given = ("photo", "sticker", "--image", "grey.png", "--corners", "50,50;250,50;250,250;50,250")
    assert "'mug' is no class here" in refused(*given, "--target", "mug")
    assert "which the sign is anyway" in refused(*given, "--target", "stop")
    assert "cross" in refused(*given[:-1], "50,50;250,250;250,50;50,250")
    assert "outside grey.png" in refused(*given[:-1], "50,50;350,50;250,250;50,250")


def test_a_sticker_of_a_sign_of_750_mm_takes_the_pages_of_one(run: Run, tmp_path: Path) -> None:
    bars = torch.zeros(4, 128, 128)
    bars[3] = mask_of("bars", torch.ones(128, 128), 750.0)
    Sticker(bars, 750.0, FACTS).save(tmp_path / "bars")
    assert "for a sign 750.0 mm wide: 6 pages of letter" in run("print", tmp_path / "bars", "--paper", "letter").err


def test_pages_that_an_older_version_printed_are_still_read(saved: Path, run: Run) -> None:
    assert run("print", saved).code == 0
    found = json.loads((saved / "print.json").read_text())
    whole = Sheet.from_json(found)
    old = {**found, "version": 1, "sign_mm": found["square_mm"]}
    del old["square_mm"]
    assert Sheet.from_json(old) == whole
