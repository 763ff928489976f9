"""Contact sheets, heat maps and animations: what is in them, read back from the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.errors import InputError
from advkit.results.drive import DriveTable, Read, Subject
from advkit.results.pictures import Frame, Spot, approach, contact_sheet, heat_map, spots

COLOURS = {"right": (0, 158, 115), "misread": (213, 94, 0), "target": (122, 0, 25)}


def plain(level: float) -> torch.Tensor:
    return torch.full((3, 8, 8), level)


def near(path: Path, colour: tuple[int, int, int], tolerance: int = 3) -> np.ndarray:
    """Where a picture has a colour."""
    with Image.open(path) as opened:
        seen = np.asarray(opened.convert("RGB")).astype(int)
    return np.abs(seen - np.array(colour)).max(-1) <= tolerance


def test_every_picture_of_a_contact_sheet_is_drawn_in_the_frame_of_its_verdict(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    pictures = [torch.tensor([0.2 + 0.05 * i, 0.1, 0.9])[:, None, None].expand(3, 8, 8) for i in range(9)]
    verdicts = ("right", "misread", "target")
    contact_sheet(path, [Frame(x, f"{i} m", "stop", 0.5, verdicts[i % 3]) for i, x in enumerate(pictures)], columns=4)
    sizes = [near(path, tuple(round(255 * float(v)) for v in x[:, 0, 0])).sum() for x in pictures]
    assert min(sizes) > 2000
    assert max(sizes) - min(sizes) < 0.1 * max(sizes)
    assert all(near(path, colour, 1).sum() > 300 for colour in COLOURS.values())


def test_frames_say_their_verdict_without_colour() -> None:
    said = [Frame(plain(0.5), "", "yield", 0.987, verdict).said() for verdict in (*COLOURS, None)]
    assert said == ["✓ yield 99 %", "✗ yield 99 %", "★ yield 99 %", "yield 99 %"]
    long = Frame(plain(0.5), "", "a sign with a very long name", 0.5, "right").said(16)
    assert len(long) == 16
    assert long.endswith("… 50 %")
    assert Frame(plain(0.5)).said() == ""


def test_a_new_group_begins_a_row(tmp_path: Path) -> None:
    one = [Frame(plain(0.5), group="clean")] * 2
    contact_sheet(tmp_path / "one.png", one)
    contact_sheet(tmp_path / "two.png", [*one, Frame(plain(0.5), group="attacked")])
    with Image.open(tmp_path / "one.png") as lower, Image.open(tmp_path / "two.png") as higher:
        assert higher.height > 1.5 * lower.height


def test_what_a_picture_does_not_cover_is_grey(tmp_path: Path) -> None:
    rgba = torch.zeros(4, 8, 8)
    rgba[3, :, :4] = 1
    contact_sheet(tmp_path / "sheet.png", [Frame(rgba)])
    dark, grey = (near(tmp_path / "sheet.png", (level,) * 3, 0).sum() for level in (0, 224))
    assert dark == pytest.approx(grey, rel=0.02)


def test_a_heat_map_has_the_colour_of_each_share(tmp_path: Path) -> None:
    from matplotlib import colormaps

    path = tmp_path / "map.png"
    heat_map(
        path, [Spot(1.5, 0, 0.0, 9), Spot(3, 0, 1.0, 9), Spot(3, 15, 0.5, 9), Spot(76, 15, None, 0)], title="shares"
    )
    counts = []
    for share in (0.0, 0.5, 1.0):
        red, green, blue, _ = colormaps["viridis"](share)
        counts.append(near(path, (round(255 * red), round(255 * green), round(255 * blue)), 2).sum())
    assert min(counts) > 5000
    assert max(counts) < 1.4 * min(counts)


def test_spots_are_read_from_the_rows_of_a_drive() -> None:
    subject = Subject(("stop", "yield", "bump"), 0, 1)
    answers = {"clean": np.array([[0, 0, 0, 1], [2, 2, 2, 2]]), "printed": np.array([[1, 2, 0, 1], [1, 1, 1, 1]])}
    answers |= dict.fromkeys(("digital", "moved", "grey"), answers["clean"])
    read = Read((3.0, 76.2), (15.0, 0.0), (250.0, 9.8), answers)
    rows = DriveTable(subject, read).to_json()["rows"]
    assert spots(rows) == [Spot(3.0, 15.0, 1 / 3, 3, 250.0), Spot(76.2, 0.0, None, 0, 9.8)]
    assert spots(rows, kind="untargeted")[0].share == 2 / 3
    assert spots(rows, "digital")[0].share == 0
    with pytest.raises(InputError, match="nothing is aimed at"):
        spots(DriveTable(replace(subject, target=None), read).to_json()["rows"])


def test_an_approach_shows_every_frame_for_its_time(tmp_path: Path) -> None:
    path = tmp_path / "drive.gif"
    verdicts = ("right", "misread", "target")
    approach(path, [Frame(plain(i / 10), f"{76 - 7 * i} m", "stop", 0.5, verdicts[i % 3]) for i in range(10)], fps=15)
    with Image.open(path) as seen:
        assert seen.n_frames == 10
        assert seen.info["loop"] == 0
        lasting = 0
        for number in range(10):
            seen.seek(number)
            lasting += seen.info["duration"]
            shown = np.asarray(seen.convert("RGB")).astype(int)
            assert np.abs(shown[150, 150] - round(255 * number / 10)).max() <= 3
            assert np.abs(shown[2, 2] - np.array(COLOURS[verdicts[number % 3]])).max() <= 3
    assert lasting == pytest.approx(1000 * 10 / 15, abs=15)


def test_a_long_approach_is_thinned_and_keeps_its_time(tmp_path: Path) -> None:
    path = tmp_path / "drive.gif"
    approach(path, [Frame(plain(i / 700)) for i in range(650)], fps=30, side=32)
    with Image.open(path) as seen:
        assert seen.n_frames == 217
        total = 0
        for number in range(seen.n_frames):
            seen.seek(number)
            total += seen.info["duration"]
    assert total == pytest.approx(1000 * 651 / 30, rel=0.01)


def test_nothing_and_wrong_names_are_refused(tmp_path: Path) -> None:
    for draw, name in ((contact_sheet, "a.png"), (heat_map, "a.png"), (approach, "a.gif")):
        with pytest.raises(InputError, match="nothing to draw"):
            draw(tmp_path / name, [])
    with pytest.raises(InputError, match=r"\.gif"):
        approach(tmp_path / "a.png", [Frame(plain(0.5))])
    with pytest.raises(InputError, match="fps is 0"):
        approach(tmp_path / "a.gif", [Frame(plain(0.5))], fps=0)
    with pytest.raises(InputError, match="figure cannot be written"):
        contact_sheet(tmp_path / "a.gif", [Frame(plain(0.5))])
