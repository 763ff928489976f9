"""Photographs of printed stickers, made up with a known camera: what is measured is what was put in."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data.signs import Signs
from advkit.engine.photo import frames, look, score
from advkit.engine.rectify import by_corners, by_tags, face_view, find_markers, light_of, read_photo
from advkit.errors import DataError, InputError, UnknownName
from advkit.results.print_pdf import pdf
from advkit.results.print_sheet import Sheet, lay_out
from advkit.scene.sticker import Sticker

cv2 = pytest.importorskip("cv2")
pdfium = pytest.importorskip("pypdfium2")

SIDE = 900  # px of the scene that is photographed
CAST, LIFT, NOISE = np.array([0.85, 0.6, 0.45]), 0.02, 0.01
CORNERS = np.float32([[210, 120], [1010, 170], [960, 990], [150, 905]])  # of the scene in the photo
ROOM = 0.35  # around the face square in the scene, of its side


@cache
def face() -> torch.Tensor:
    signs = Signs(count=1)
    return signs.face(signs.classes.index("stop"), 512)


@cache
def sticker(sign_mm: float = 180.0) -> Sticker:
    rgba = torch.zeros(4, 96, 96)
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    rgba[:3] = torch.nn.functional.interpolate(coarse, scale_factor=8)[0]
    rgba[3, 16:32, 16:80] = 1
    rgba[3, 64:80, 16:80] = 1
    return Sticker(rgba, sign_mm, {"class": "stop", "target": "yield"})


@cache
def sheet(sign_mm: float = 180.0) -> Sheet:
    return lay_out(sticker(sign_mm).rgba[3].numpy(), sign_mm, [], "a4", face()[3].numpy())


@cache
def pages(dpi: int = 110) -> list[np.ndarray]:
    found = pdfium.PdfDocument(pdf(sheet(), sticker().rgba.numpy()))
    return [page.render(scale=dpi / 72).to_numpy()[..., ::-1] / 255.0 for page in found]


@cache
def scene(*, tags: bool = True, card: bool = True) -> np.ndarray:
    """The sign with the sticker, its tags and the colour card on a board, (SIDE, SIDE, 3) sRGB."""
    board = np.full((SIDE, SIDE, 3), 0.55, np.float32)
    per_mm = SIDE / (1 + 2 * ROOM) / sheet().square_mm
    start = ROOM * sheet().square_mm
    side = round(per_mm * sheet().square_mm)
    sign = sticker().on(torch.nn.functional.interpolate(face()[None], (side, side), mode="area")[0]).numpy()
    at = round(start * per_mm)
    patch = board[at : at + side, at : at + side]
    patch[:] = sign[:3].transpose(1, 2, 0) * sign[3][..., None] + patch * (1 - sign[3][..., None])
    kind = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_5X5_1000)

    def mark(number: int, x: float, y: float, width: float) -> None:
        big = round(width * per_mm)
        left, top = round((start + x) * per_mm), round((start + y) * per_mm)
        quiet = big // 7
        board[top - quiet : top + big + quiet, left - quiet : left + big + quiet] = 1
        board[top : top + big, left : left + big] = cv2.aruco.generateImageMarker(kind, number, big)[..., None] / 255

    for tag in sheet().tags if tags else ():
        mark(tag.id, tag.x, tag.y, tag.side)
    if card:
        own = sheet()
        page, (x, y) = pages()[0], own.pages[0].card
        mm = 110 / 25.4
        cut = page[round((y - 1.5) * mm) : round((y + own.card.height + 1.5) * mm)]
        cut = cut[:, round((x - 1.5) * mm) : round((x + own.card.width + 1.5) * mm)]
        wide = round((own.card.width + 3) * per_mm * 1.4)
        shown = cv2.resize(
            np.float32(cut), (wide, round(wide * cut.shape[0] / cut.shape[1])), interpolation=cv2.INTER_AREA
        )
        board[-shown.shape[0] - 4 : -4, 40 : 40 + wide] = shown
    return board


def shot(path: Path, picture: np.ndarray, corners: np.ndarray = CORNERS, *, cast: bool = True) -> np.ndarray:
    """A photo of a flat scene under coloured light, with noise; the map from pixels of the scene to those of the photo."""
    height, width = picture.shape[:2]
    matrix = cv2.getPerspectiveTransform(np.float32([[0, 0], [width, 0], [width, height], [0, height]]), corners)
    about = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]])
    about = about @ matrix @ np.linalg.inv(about)
    seen, size = np.float32(picture) ** 2, (1150, 1100)
    light = cv2.warpPerspective(seen, about, size, flags=cv2.INTER_AREA, borderValue=(0.2,) * 3)
    if cast:
        light = light * CAST + LIFT
        light = light + np.random.default_rng(0).normal(0, NOISE, light.shape)
    Image.fromarray(np.uint8(np.round(np.sqrt(np.clip(light, 0, 1)) * 255))).save(path, quality=95)
    return matrix


def true_corners(matrix: np.ndarray) -> np.ndarray:
    """Of the face square in the photo."""
    near, far = ROOM / (1 + 2 * ROOM) * SIDE, (1 + ROOM) / (1 + 2 * ROOM) * SIDE
    points = np.array([[[near, near], [far, near], [far, far], [near, far]]])
    return cv2.perspectiveTransform(points, matrix)[0]


def bounds_corners(matrix: np.ndarray) -> np.ndarray:
    """Of the sign's own bounds in the photo."""
    own, scale = sheet(), SIDE / (1 + 2 * ROOM) / sheet().square_mm
    left, top = own.bounds.x, own.bounds.y
    right, below = left + own.bounds.width, top + own.bounds.height
    points = np.array([[[left, top], [right, top], [right, below], [left, below]]]) + ROOM * own.square_mm
    return cv2.perspectiveTransform(points * scale, matrix)[0]


def test_tags_find_the_sign_within_a_pixel(tmp_path: Path) -> None:
    matrix = shot(tmp_path / "photo.jpg", scene())
    photo = read_photo(tmp_path / "photo.jpg")
    place = by_tags(find_markers(photo), sheet(), "photo.jpg")
    assert place is not None
    assert np.linalg.norm(place.corners - true_corners(matrix), axis=1).max() < 1
    assert place.misfit < 1


def test_corners_of_the_sign_place_its_face_square(tmp_path: Path) -> None:
    matrix = shot(tmp_path / "photo.png", scene(tags=False))
    place = by_corners(bounds_corners(matrix), read_photo(tmp_path / "photo.png"), sheet(), "photo.png")
    np.testing.assert_allclose(place.corners, true_corners(matrix), atol=0.01)


def test_the_rectified_sign_has_its_own_colours(tmp_path: Path) -> None:
    shot(tmp_path / "photo.jpg", scene())
    photo = read_photo(tmp_path / "photo.jpg")
    found = find_markers(photo)
    place, light = by_tags(found, sheet(), "photo.jpg"), light_of(photo, found, sheet())
    size = 192
    seen = face_view(photo, place, size, margin=0.0)
    true = sticker().on(torch.nn.functional.interpolate(face()[None], (size, size), mode="area")[0]).numpy()
    inside = true[3] > 0.999
    inside[:3], inside[-3:], inside[:, :3], inside[:, -3:] = False, False, False, False
    wanted = true[:3].transpose(1, 2, 0)
    # An edge that falls within a pixel is averaged in another place of the raster: away from edges colours agree.
    flat = np.abs(cv2.dilate(wanted, np.ones((7, 7))) - cv2.erode(wanted, np.ones((7, 7)))).max(-1) < 0.02
    flat &= inside
    assert flat.sum() > 3000
    before, after = (np.abs(picture - wanted)[flat].mean() for picture in (seen, light(seen)))
    assert after < 0.03 < before
    assert np.abs(light(seen) - wanted)[inside].mean() < 0.05
    assert light.residual < 0.02 < light.before


def test_correcting_the_light_leaves_what_the_printer_did_and_a_full_correction_takes_it_away(tmp_path: Path) -> None:
    mixed = np.array([[0.8, 0.15, 0.05], [0.1, 0.8, 0.1], [0.05, 0.15, 0.8]])
    shot(tmp_path / "photo.png", np.sqrt(np.square(scene()) @ mixed))
    photo = read_photo(tmp_path / "photo.png")
    found = find_markers(photo)
    light, full = (light_of(photo, found, sheet(), how) for how in ("light", "full"))
    assert light.residual < 0.02
    assert light.printer > 0.1
    assert full.printer < 0.03
    assert light_of(photo, found, sheet(), "none") is None


def test_no_card_means_no_correction(tmp_path: Path) -> None:
    shot(tmp_path / "photo.png", scene(card=False))
    photo = read_photo(tmp_path / "photo.png")
    assert light_of(photo, find_markers(photo), sheet()) is None


def test_a_photo_of_the_page_lays_the_printed_colours_on_the_drawn_sign(tmp_path: Path) -> None:
    page = pages()[0]
    shot(tmp_path / "page.jpg", page, np.float32([[150, 60], [900, 30], [960, 1060], [110, 1020]]))
    (seen,) = look([tmp_path / "page.jpg"], sheet(), sticker(), 96, face=face(), margin=0.0)
    assert seen.how == "page"
    assert seen.misfit < 1
    true = sticker().on(torch.nn.functional.interpolate(face()[None], (96, 96), mode="area")[0])
    stuck = torch.nn.functional.avg_pool2d(sticker().rgba[3:], 3, 1, 1)[0] == 1
    assert (seen.picture - true[:3]).abs()[:, stuck].mean() < 0.03
    (bare,) = look([tmp_path / "page.jpg"], sheet(), sticker(), 96, face=face(), margin=0.0, correction="none")
    assert (bare.picture - true[:3]).abs()[:, stuck].mean() > 0.05


def test_upright_shows_the_sign_as_the_photo_has_it(tmp_path: Path) -> None:
    matrix = shot(tmp_path / "photo.png", scene(), cast=False)
    photo = read_photo(tmp_path / "photo.png")
    place = by_tags(find_markers(photo), sheet(), "photo.png")
    corners = true_corners(matrix)
    half = (corners.max(0) - corners.min(0)).max() / 2
    middle = (corners.max(0) + corners.min(0)) / 2
    left, top = np.round(middle - half).astype(int)
    size = round(2 * half)
    cut = photo[top : top + size, left : left + size]
    seen = face_view(photo, place, size, margin=0.0, upright=True)
    assert np.abs(seen - cut).mean() < 0.02


class Reads(torch.nn.Module):
    """Class 1 for pictures darker than 0.5 in the mean, else class 0."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dark = 20 * (0.5 - x.flatten(1).mean(1))
        return torch.stack([torch.zeros_like(dark), dark, torch.full_like(dark, -9)], 1)


def test_photos_are_counted_with_an_interval(tmp_path: Path) -> None:
    shot(tmp_path / "photo.jpg", scene())
    (seen,) = look([tmp_path / "photo.jpg"], sheet(), sticker(), 32)
    from dataclasses import replace

    bright = replace(seen, picture=torch.ones(3, 32, 32), name="bright")
    dark = replace(seen, picture=torch.zeros(3, 32, 32), name="dark")
    found = score(Reads(), [bright, dark, dark, bright], 0, 1, ("stop", "yield", "other"))
    told = found.to_json()
    assert told["targeted"]["count"] == told["untargeted"]["count"] == 2
    assert told["targeted"]["low"] < 0.5 < told["targeted"]["high"]
    assert [row["success"] for row in told["photos"]] == [False, True, True, False]
    assert [row["prediction"] for row in told["photos"]] == ["stop", "yield", "yield", "stop"]
    assert told["photos"][1]["confidence"] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-4)
    assert "2 of 4 photos: 50.0 [" in found.sentence
    assert [frame.verdict for frame in frames(found)] == ["right", "target", "target", "right"]
    missed = score(Reads(), [dark], 0, 2, ("stop", "yield", "other"))
    assert missed.to_json()["untargeted"]["count"] == 1
    assert missed.to_json()["targeted"]["count"] == 0
    assert [frame.verdict for frame in frames(missed)] == ["misread"]


@pytest.mark.parametrize(
    ("corners", "part"),
    [
        ([(200, 200), (600, 600), (600, 200), (200, 600)], "cross"),
        ([(200, 200), (200, 600), (600, 600), (600, 200)], "wrong way round"),
        ([(200, 200), (1200, 200), (600, 600), (200, 600)], "outside photo.png"),
        ([(200, 200), (600, 200), (600, 600)], "3 corners"),
        ([(200, 200), (203, 200), (203, 203), (200, 203)], "pixels apart"),
        ([(200, 200), (600, 200), (600, float("nan")), (200, 600)], "give four"),
    ],
)
def test_corners_that_cannot_be_are_refused(tmp_path: Path, corners: list[tuple[float, float]], part: str) -> None:
    Image.new("RGB", (1150, 1100)).save(tmp_path / "photo.png")
    with pytest.raises(InputError, match=part):
        look([tmp_path / "photo.png"], sheet(), sticker(), 32, corners=[corners])


def test_photos_that_show_no_sign_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (400, 300), "grey").save(tmp_path / "empty.png")
    with pytest.raises(InputError, match=r"no sign was found in empty\.png: 0 markers"):
        look([tmp_path / "empty.png"], sheet(), sticker(), 32)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(DataError, match="no picture"):
        look([tmp_path / "text.jpg"], sheet(), sticker(), 32)
    with pytest.raises(DataError, match="there is no such file"):
        look([tmp_path / "none.jpg"], sheet(), sticker(), 32)
    with pytest.raises(InputError, match="allowed are light, full, none"):
        light_of(np.zeros((10, 10, 3), np.float32), {}, sheet(), "some")
    with pytest.raises(UnknownName):
        lay_out(np.ones((4, 4)), 100.0, paper="a3")


def test_a_page_of_several_and_a_sign_that_is_not_drawn_are_refused(tmp_path: Path) -> None:
    shot(tmp_path / "page.png", pages()[0], np.float32([[150, 60], [900, 30], [960, 1060], [110, 1020]]))
    with pytest.raises(InputError, match="not one that advkit draws"):
        look([tmp_path / "page.png"], sheet(), sticker(), 32)
    with pytest.raises(InputError, match="takes 6 pages, and page 2 is in none"):
        look([tmp_path / "page.png"], lay_out(sticker().rgba[3].numpy(), 750.0), sticker(750.0), 32, face=face())


def test_photos_of_all_pages_of_a_large_sticker_make_one_sign(tmp_path: Path) -> None:
    rgba = torch.zeros(4, 24, 24)
    rgba[:3] = torch.linspace(0.1, 0.9, 24)[None, None]
    rgba[3, 4:12, 3:21] = 1
    own = Sticker(rgba, 480.0)
    layout = lay_out(rgba[3].numpy(), 480.0)
    assert len(layout.pages) > 1
    paths = []
    for number, page in enumerate(list(pdfium.PdfDocument(pdf(layout, rgba.numpy())))[: len(layout.pages)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(page.render(scale=90 / 72).to_numpy()[..., ::-1]).save(paths[-1])
    (seen,) = look(paths, layout, own, 96, face=torch.full((4, 96, 96), 1.0), margin=0.0, correction="none")
    true = own.on(torch.ones(4, 96, 96))[:3]
    assert seen.name == f"0.png and {len(paths) - 1} more"
    assert (seen.picture - true).abs().mean() < 0.02
    assert (seen.picture - true).abs()[:, 20:44, 16:80].mean() < 0.03  # no seam is missing
