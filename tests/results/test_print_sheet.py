"""Stickers on paper: the PDF is rasterised at a known resolution and measured, as with a ruler."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from advkit.errors import DataError, InputError, MissingExtra, UnknownName
from advkit.results.print_pdf import pdf, write_pdf
from advkit.results.print_sheet import FIRST_TAG, MARKERS, REFERENCES, Sheet, lay_out

DPI = 127  # 5 pixels a mm
MM = DPI / 25.4  # pixels
MAGENTA = (0.9, 0.1, 0.8)


def sticker(left: int, top: int, right: int, bottom: int, side: int = 100) -> np.ndarray:
    """A magenta rectangle in a face square of ``side`` pixels."""
    rgba = np.zeros((4, side, side))
    rgba[:3] = np.array(MAGENTA)[:, None, None]
    rgba[3, top:bottom, left:right] = 1
    return rgba


def pages(sheet: Sheet, rgba: np.ndarray, dpi: int = DPI) -> list[np.ndarray]:
    """Each page as sRGB (H, W, 3)."""
    pdfium = pytest.importorskip("pypdfium2")
    return [page.render(scale=dpi / 72).to_numpy()[..., ::-1] / 255.0 for page in pdfium.PdfDocument(pdf(sheet, rgba))]


def magenta(page: np.ndarray, sheet: Sheet) -> np.ndarray:
    """Where a page shows the sticker: not the card, nor the sketch."""
    seen = np.abs(page - np.array(MAGENTA)).max(-1) < 0.1
    seen[int((sheet.pages[0].card[1] - 3) * MM) :] = False
    return seen


def extent(seen: np.ndarray) -> tuple[float, float, float, float]:
    """Left, top, width and height in mm of what is true."""
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    return (
        columns[0] / MM,
        rows[0] / MM,
        (columns[-1] + 1 - columns[0]) / MM,
        (rows[-1] + 1 - rows[0]) / MM,
    )


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_a_sticker_of_one_page_has_its_true_size_and_stands_where_the_sheet_says(paper: str) -> None:
    rgba = sticker(20, 30, 80, 55)
    sheet = lay_out(rgba[3], 200.0, paper=paper)
    (page,) = sheet.pages
    (tile,) = page.tiles
    found = extent(magenta(pages(sheet, rgba)[0], sheet))
    assert found == pytest.approx((tile.x, tile.y, 120.0, 50.0), abs=0.5)


def test_tiles_of_a_large_sticker_have_their_size_and_join_to_the_whole() -> None:
    rgba = sticker(10, 20, 90, 80)
    rgba[3, 50:, 50:] = 0  # so that a tile has a shape
    sheet = lay_out(rgba[3], 600.0)
    assert len(sheet.pages) > 2
    whole = np.zeros((int(600 * MM) + 40, int(600 * MM) + 40), dtype=bool)
    seen = pages(sheet, rgba)
    for number, page in enumerate(sheet.pages):
        shown = magenta(seen[number], sheet)
        for tile in page.tiles:
            wide, tall = round(tile.box.width * MM), round(tile.box.height * MM)
            cut = shown[round(tile.y * MM) :, round(tile.x * MM) :][:tall, :wide]
            y, x = round(tile.box.y * MM), round(tile.box.x * MM)
            whole[y : y + tall, x : x + wide] |= cut
    assert extent(whole) == pytest.approx((60.0, 120.0, 480.0, 360.0), abs=0.5)
    area = whole.sum() / MM**2
    assert area == pytest.approx((80 * 60 - 40 * 30) * 36, rel=0.005)  # no gap, nothing twice
    assert not whole[int(310 * MM) :, int(310 * MM) :].any()


def test_neighbouring_tiles_share_the_overlap() -> None:
    sheet = lay_out(sticker(0, 40, 100, 60)[3], 500.0)
    tiles = sorted((tile for page in sheet.pages for tile in page.tiles), key=lambda tile: tile.column)
    assert len(tiles) > 1
    for one, other in itertools.pairwise(tiles):
        assert one.box.x + one.box.width - other.box.x == pytest.approx(sheet.overlap)
        assert one.columns == len(tiles)


def test_two_far_pieces_are_printed_alone_where_that_saves_pages_and_together_where_it_does_not() -> None:
    rgba = sticker(0, 0, 20, 20) + sticker(80, 80, 100, 100)
    apart, together = lay_out(rgba[3], 700.0), lay_out(rgba[3], 150.0)
    assert len(apart.pieces) == 2
    assert len(apart.pages) < 4
    assert [tuple(piece) for piece in apart.pieces] == [(0, 0, 140, 140), (560, 560, 140, 140)]
    assert len(together.pieces) == len(together.pages) == 1


def test_the_scale_bar_measures_100_mm() -> None:
    rgba = sticker(20, 30, 80, 55)
    sheet = lay_out(rgba[3], 200.0)
    for number in (0, 2):
        page = pages(sheet, rgba)[number]
        row = (
            page[round((sheet.height - 14 + 1.25) * MM), round(30 * MM) : round((sheet.width - 30) * MM)].mean(-1) < 0.5
        )
        dark = np.flatnonzero(row)
        assert (dark[-1] + 1 - dark[0]) / MM == pytest.approx(100.0, abs=0.3)  # black parts first, its frame last


def test_markers_are_where_the_sheet_says_and_patches_have_their_values() -> None:
    cv2 = pytest.importorskip("cv2")
    rgba = sticker(20, 30, 80, 55)
    palette = np.random.default_rng(0).random((20, 3))
    sheet = lay_out(rgba[3], 200.0, palette)
    seen = pages(sheet, rgba, 2 * DPI)
    finder = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKERS)))
    corners, ids, _ = finder.detectMarkers((seen[0] * 255).astype(np.uint8).copy())
    page = sheet.pages[0]
    card = sheet.card.markers(page.first_card_marker, *page.card)
    known = {marker.id: marker for marker in (*page.markers, *card)}
    assert sorted(ids.ravel().tolist()) == sorted(known)
    for found, number in zip(corners, ids.ravel().tolist(), strict=True):
        np.testing.assert_allclose((found[0] + 0.5) / (2 * MM), known[number].corners, atol=0.25)
    assert {patch.colour for patch in sheet.card.patches} >= {*REFERENCES, *(tuple(row) for row in palette.tolist())}
    for patch in sheet.card.patches:
        y, x = page.card[1] + patch.y + patch.side / 2, page.card[0] + patch.x + patch.side / 2
        np.testing.assert_allclose(seen[0][round(2 * y * MM), round(2 * x * MM)], patch.colour, atol=0.006)
    _, ids, _ = finder.detectMarkers((seen[2] * 255).astype(np.uint8).copy())
    assert {FIRST_TAG, FIRST_TAG + 1, FIRST_TAG + 2, FIRST_TAG + 3} <= set(ids.ravel().tolist())


def test_tags_stand_outside_the_corners_of_what_the_sign_covers() -> None:
    cover = np.zeros((100, 100))
    cover[10:80, 5:95] = 1
    sheet = lay_out(sticker(20, 30, 80, 55)[3], 300.0, cover=cover)
    assert tuple(sheet.bounds) == pytest.approx((15, 30, 270, 210))
    first, _, third, _ = sheet.tags
    assert first.corners[2] == pytest.approx((15 - sheet.quiet, 30 - sheet.quiet))
    assert third.corners[0] == pytest.approx((285 + sheet.quiet, 240 + sheet.quiet))


def test_nothing_overlaps_on_any_page() -> None:
    for side in (90.0, 300.0, 750.0, 1200.0):
        rgba = sticker(0, 0, 20, 20) + sticker(70, 10, 100, 100)
        sheet = lay_out(rgba[3], side, np.random.default_rng(0).random((40, 3)))
        for page in sheet.pages:
            places = [(tile.x, tile.y, tile.box.width, tile.box.height) for tile in page.tiles]
            places += [(marker.x, marker.y, marker.side, marker.side) for marker in page.markers]
            places.append((*page.card, sheet.card.width, sheet.card.height))
            for x, y, wide, tall in places:
                assert min(x, y, sheet.width - x - wide, sheet.height - y - tall) >= 10 - 1e-9
            for number, (x, y, wide, tall) in enumerate(places):
                for u, v, broad, high in places[:number]:
                    assert x >= u + broad or u >= x + wide or y >= v + high or v >= y + tall


def test_a_sheet_is_read_as_it_was_written(tmp_path: Path) -> None:
    sheet = lay_out(sticker(0, 0, 100, 100)[3], 400.0, [(0.1, 0.2, 0.3)], "letter")
    path = tmp_path / "print.json"
    path.write_text(json.dumps(sheet.to_json()))
    assert Sheet.load(path) == sheet
    for text in ("{", "[]", '{"version": 1}', '{"version": 99}'):
        path.write_text(text)
        with pytest.raises(DataError):
            Sheet.load(path)
    with pytest.raises(DataError, match="advkit print"):
        Sheet.load(tmp_path / "none.json")


def test_the_same_sticker_gives_the_same_bytes(tmp_path: Path) -> None:
    rgba = sticker(20, 30, 80, 55)
    sheet = lay_out(rgba[3], 200.0)
    write_pdf(tmp_path / "one.pdf", sheet, rgba)
    assert (tmp_path / "one.pdf").read_bytes() == pdf(sheet, rgba)


def test_what_cannot_be_printed_is_refused() -> None:
    empty, small = np.zeros((10, 10)), np.ones((10, 10))
    with pytest.raises(InputError, match="empty"):
        lay_out(empty, 100.0)
    with pytest.raises(InputError, match="pages"):
        lay_out(small, 4000.0)
    with pytest.raises(InputError, match="mm wide"):
        lay_out(small, float("nan"))
    with pytest.raises(UnknownName, match="letter"):
        lay_out(small, 100.0, paper="a5")


@pytest.mark.parametrize("paper", ["a4", "letter"])
def test_tags_of_the_largest_signs_are_found_on_their_page(paper: str) -> None:
    cv2 = pytest.importorskip("cv2")
    rgba = sticker(40, 40, 50, 50)
    sheet = lay_out(rgba[3], 1500.0, np.random.default_rng(0).random((40, 3)), paper)
    finder = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKERS)))
    corners, ids, _ = finder.detectMarkers((pages(sheet, rgba)[-1] * 255).astype(np.uint8).copy())
    found = dict(zip(ids.ravel().tolist(), corners, strict=True))
    assert set(found) == {FIRST_TAG, FIRST_TAG + 1, FIRST_TAG + 2, FIRST_TAG + 3, 4, 5, 6, 7}
    for tag in range(FIRST_TAG, FIRST_TAG + 4):
        across = np.linalg.norm(found[tag][0][1] - found[tag][0][0]) / MM
        assert across == pytest.approx(sheet.tag, abs=0.3)


@pytest.mark.parametrize("package", ["reportlab.pdfgen.canvas", "cv2"])
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    rgba = sticker(20, 30, 80, 55)
    with pytest.raises(MissingExtra, match=r"advkit\[physical\]"):
        pdf(lay_out(rgba[3], 200.0), rgba)
