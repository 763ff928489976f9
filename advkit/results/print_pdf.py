"""A laid-out sticker as a PDF at its true size: tiles, a sketch of where they go, and tags for the sign's corners."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from advkit.atomic import put_whole
from advkit.errors import MissingExtra
from advkit.results.print_sheet import MARKERS, Box, Marker, Page, Sheet, Tile

__all__ = ["pdf", "write_pdf"]

Values = npt.NDArray[np.float64]
_MM = 72 / 25.4  # points
_PIXELS = 1024  # across a face, at least
_SCALE = 100.0  # mm that the scale bar measures
_FONT, _BOLD = "Helvetica", "Helvetica-Bold"
_MOST_LISTED = 24  # pieces, below the sketch
_RED, _BLUE = (0.84, 0.0, 0.0), (0.0, 0.3, 0.7)
_BEHIND = (0.88, 0.9, 0.92)
_ONLY_SHOWN = 0.35  # how strongly the sign stands in the sketch, under the sticker


def write_pdf(path: Path, sheet: Sheet, rgba: Values, *, title: str = "", face: Values | None = None) -> None:
    """Write the PDF of a sheet; see ``pdf``."""
    put_whole(path, pdf(sheet, rgba, title=title, face=face))


def pdf(sheet: Sheet, rgba: Values, *, title: str = "", face: Values | None = None) -> bytes:
    """The PDF of a sticker ``rgba`` (4, h, w) in the face square; the same input gives the same bytes.

    ``title`` says what it is; ``face`` (4, s, s) is the sign, for the sketch. Nothing is scaled: a point is 1/72 inch.
    """
    try:
        from reportlab.pdfgen.canvas import Canvas
    except ImportError:
        raise MissingExtra("reportlab", "physical", "printing a sticker") from None

    held = io.BytesIO()
    canvas = Canvas(held, pagesize=(sheet.width * _MM, sheet.height * _MM), invariant=1, pageCompression=1)
    canvas.setTitle(title or "sticker")
    canvas.setCreator("advkit")
    # Else a viewer offers to fit the page to the paper.
    canvas.setViewerPreference("PrintScaling", "None")
    draw = _Draw(canvas, sheet, len(sheet.pages) + 2, title)
    sticker = _picture(rgba)
    for number, page in enumerate(sheet.pages):
        draw.tiles(number, page, sticker)
    upright = replace(sheet, width=min(sheet.width, sheet.height), height=max(sheet.width, sheet.height))
    canvas.setPageSize((upright.width * _MM, upright.height * _MM))
    draw = replace(draw, sheet=upright)
    draw.sketch(rgba, face)
    draw.tags()
    canvas.save()
    return held.getvalue()


def _picture(rgba: Values) -> Any:
    """What reportlab draws: one picture in the PDF, however often it is drawn."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader

    levels = np.round(np.clip(rgba, 0.0, 1.0) * 255).astype(np.uint8)
    # Viewers smooth between pixels: small ones keep that from the cells' edges.
    fine = max(1, -(-_PIXELS // levels.shape[-1]))
    levels = levels.repeat(fine, 1).repeat(fine, 2)
    return ImageReader(Image.fromarray(np.ascontiguousarray(levels.transpose(1, 2, 0)), "RGBA"))


@dataclass(frozen=True)
class _Draw:
    """A canvas that measures in mm from the upper left corner."""

    canvas: Any
    sheet: Sheet
    count: int
    title: str

    def tiles(self, number: int, page: Page, sticker: Any) -> None:
        """A page of the sticker."""
        self._heading(number, "Print at 100 %, without scaling.")
        for tile in page.tiles:
            self._tile(tile, sticker)
        for marker in page.markers:
            self._marker(marker)
        self._card(page, page.card)
        self._scale_bar()
        self.canvas.showPage()

    def sketch(self, rgba: Values, face: Values | None) -> None:
        """Where the pieces go: the sign, the sticker on it, and distances from the outermost edges of the sign."""
        sheet = self.sheet
        self._heading(len(sheet.pages), "Where the sticker goes (not at true size).")
        side = min(120.0, sheet.height - 130)
        square = Box((sheet.width - side) / 2, 45.0, side, side)
        per_mm = side / sheet.square_mm

        def shown(box: Box) -> Box:
            return Box(square.x + box.x * per_mm, square.y + box.y * per_mm, box.width * per_mm, box.height * per_mm)

        self.canvas.setFillColorRGB(*_BEHIND)
        self.canvas.rect(*self._rectangle(square), stroke=0, fill=1)
        for picture in ([] if face is None else [_faded(face)]) + [rgba]:
            self._image(_picture(picture), square)
        sign = shown(sheet.bounds)
        self._frame(sign, dash=(1.5, 1))
        self._dimension(sign.x, square.y - 5, sign.x + sign.width, square.y - 5, f"{sheet.bounds.width:.1f} mm")
        for index, piece in enumerate(sheet.pieces):
            box = shown(piece)
            self._frame(box, colour=_RED)
            if len(sheet.pieces) > 1:
                self._text(box.x + 0.8, box.y + 2.8, f"{index + 1}", 7, colour=_RED)
            else:
                self._around(sign, box, piece)
        self._listed(square.y + side + 12)
        self.canvas.showPage()

    def tags(self) -> None:
        """The four tags that tell ``advkit photo`` where the sign is."""
        sheet = self.sheet
        self._heading(len(sheet.pages) + 1, "Tags for photographs. Print at 100 %, without scaling.")
        lines = (
            "Cut out the four tags along their dashed frames. Fix each outside the sign, in the plane of its face, so that the",
            "arrow's tip lies at that corner of the upright rectangle around the sign, and the tag's edges are parallel to it.",
            "advkit photo then finds the sign by itself. Without tags give the corners: advkit photo DIR --corners ...",
            "Cut out the colour card below too, and hold it beside the sign, in the same light.",
        )
        for line, text in enumerate(lines):
            self._text(10, 32 + 4.2 * line, text, 8)
        whole = sheet.tag + 2 * sheet.quiet
        names = ("upper left", "upper right", "lower right", "lower left")
        top, gap = 54.0, 8.0
        left = (sheet.width - 2 * whole - gap) / 2
        for marker, name, (column, row) in zip(sheet.tags, names, ((0, 0), (1, 0), (1, 1), (0, 1)), strict=True):
            x, y = left + column * (whole + gap), top + row * (whole + gap + 2)
            self._frame(Box(x, y, whole, whole), dash=(2, 1.5))
            self._marker(Marker(marker.id, x + sheet.quiet, y + sheet.quiet, marker.side))
            self._arrow(x + (1 - column) * whole, y + (1 - row) * whole, 1 - 2 * column, 1 - 2 * row)
            self._text(x, y + whole + 3, name, 7)
        card = sheet.card
        self._card(sheet.pages[0], ((sheet.width - card.width) / 2, sheet.height - 26 - card.height))
        self._scale_bar()
        self.canvas.showPage()

    def _tile(self, tile: Tile, sticker: Any) -> None:
        """A part of the sticker, cut marks at its corners, and marks where its neighbours begin."""
        sheet, box = self.sheet, tile.box
        with self._kept():
            edge = self.canvas.beginPath()
            edge.rect(*self._rectangle(Box(tile.x, tile.y, box.width, box.height)))
            self.canvas.clipPath(edge, stroke=0, fill=0)
            self._image(sticker, Box(tile.x - box.x, tile.y - box.y, sheet.square_mm, sheet.square_mm))
        right, below = tile.x + box.width, tile.y + box.height
        for x, outwards in ((tile.x, -1), (right, 1)):
            for y, away in ((tile.y, -1), (below, 1)):
                self._line(x + 1.5 * outwards, y, x + 5 * outwards, y)
                self._line(x, y + 1.5 * away, x, y + 5 * away)
        for x in _joints(tile.x, box.width, tile.column, tile.columns, sheet.overlap):
            self._line(x, tile.y - 5, x, tile.y - 1.5, dash=(1, 0.7))
            self._line(x, below + 1.5, x, below + 5, dash=(1, 0.7))
        for y in _joints(tile.y, box.height, tile.row, tile.rows, sheet.overlap):
            self._line(tile.x - 5, y, tile.x - 1.5, y, dash=(1, 0.7))
            self._line(right + 1.5, y, right + 5, y, dash=(1, 0.7))
        name = f"piece {tile.piece + 1}" if len(sheet.pieces) > 1 else "sticker"
        if tile.rows * tile.columns > 1:
            name += f", row {tile.row + 1} of {tile.rows}, column {tile.column + 1} of {tile.columns}: "
            name += f"neighbours share {sheet.overlap:.0f} mm, up to the dashed marks"
        self._text(tile.x + 1, below + 4.5, name, 6)

    def _card(self, page: Page, at: tuple[float, float]) -> None:
        x, y = at
        card = self.sheet.card
        for patch in card.patches:
            self.canvas.setFillColorRGB(*patch.colour)
            self.canvas.rect(*self._rectangle(Box(x + patch.x, y + patch.y, patch.side, patch.side)), stroke=0, fill=1)
        for marker in card.markers(page.first_card_marker, x, y):
            self._marker(marker)
        self._frame(Box(x - 1.9, y - 1.9, card.width + 3.8, card.height + 3.8), dash=(1, 1.5))

    def _scale_bar(self) -> None:
        x, y = (self.sheet.width - _SCALE) / 2, self.sheet.height - 14
        for part in range(10):
            shade = 0.0 if part % 2 == 0 else 1.0
            self.canvas.setFillColorRGB(shade, shade, shade)
            self.canvas.rect(*self._rectangle(Box(x + part * _SCALE / 10, y, _SCALE / 10, 2.5)), stroke=0, fill=1)
        self._frame(Box(x, y, _SCALE, 2.5), width=0.1)
        self._text(x, y - 1.5, f"{_SCALE:.0f} mm: measure it before you cut", 7)

    def _heading(self, number: int, said: str) -> None:
        """Between the markers of the page."""
        self._text(27, 14, f"advkit · {self.title}" if self.title else "advkit", 9, font=_BOLD)
        self._text(27, 18.2, said, 8)
        self._text(27, 22, f"page {number + 1} of {self.count} · for a sign {self.sheet.bounds.width:.1f} mm wide", 7)

    def _marker(self, marker: Marker) -> None:
        """Black modules, each run of a row as one rectangle."""
        bits = _modules(marker.id)
        module = marker.side / len(bits)
        self.canvas.setFillColorRGB(0, 0, 0)
        for row, line in enumerate(bits):
            for start, stop in _runs(line == 0):
                box = Box(marker.x + start * module, marker.y + row * module, (stop - start) * module, module)
                self.canvas.rect(*self._rectangle(box), stroke=0, fill=1)

    def _arrow(self, x: float, y: float, right: int, down: int) -> None:
        """From within the white of a tag to its corner at (x, y)."""
        path = self.canvas.beginPath()
        reach = 0.8 * self.sheet.quiet
        tip = self._point(x, y)
        path.moveTo(*tip)
        path.lineTo(*self._point(x - right * reach, y - down * reach * 0.35))
        path.lineTo(*self._point(x - right * reach * 0.35, y - down * reach))
        path.close()
        self.canvas.setFillColorRGB(*_RED)
        self.canvas.drawPath(path, stroke=0, fill=1)

    def _around(self, sign: Box, box: Box, piece: Box) -> None:
        """The distances of the only piece from the four edges."""
        left, right, top, bottom = self._distances(piece)
        middle, centre = box.y + box.height / 2, box.x + box.width / 2
        self._dimension(sign.x, middle, box.x, middle, f"{left:.1f}")
        self._dimension(box.x + box.width, middle, sign.x + sign.width, middle, f"{right:.1f}")
        self._dimension(centre, sign.y, centre, box.y, f"{top:.1f}")
        self._dimension(centre, box.y + box.height, centre, sign.y + sign.height, f"{bottom:.1f}")

    def _distances(self, piece: Box) -> tuple[float, float, float, float]:
        """From the left, right, top and bottom edge of the sign's bounds, in mm."""
        bounds = self.sheet.bounds
        left, top = piece.x - bounds.x, piece.y - bounds.y
        return left, bounds.width - left - piece.width, top, bounds.height - top - piece.height

    def _listed(self, top: float) -> None:
        """Each piece in numbers."""
        sheet = self.sheet
        said = "Distances in mm of each piece from the sign's outermost edges (dashed), and its size; below 0 it stands out:"
        self._text(20, top, said, 8)
        heads = ("piece", "left", "right", "top", "bottom", "width", "height")
        shown = sheet.pieces[:_MOST_LISTED]
        numbers = [(*self._distances(piece), piece.width, piece.height) for piece in shown]
        rows = [(f"{i + 1}", *(f"{number:.1f}" for number in row)) for i, row in enumerate(numbers)]
        step = min(4.2, (sheet.height - top - 20) / (len(rows) + 2))
        for line, row in enumerate([heads, *rows]):
            for column, text in enumerate(row):
                self._text(20 + 24 * column, top + (line + 1.4) * step, text, 7, font=_FONT if line else _BOLD)
        if len(shown) < len(sheet.pieces):
            more = f"and {len(sheet.pieces) - len(shown)} more: see print.json"
            self._text(20, top + (len(rows) + 2.4) * step, more, 7)

    def _dimension(self, x1: float, y1: float, x2: float, y2: float, text: str) -> None:
        """A line with its length written beside its middle."""
        self._line(x1, y1, x2, y2, colour=_BLUE)
        for x, y in ((x1, y1), (x2, y2)):
            self._line(x - 0.8, y + 0.8, x + 0.8, y - 0.8, colour=_BLUE)
        self._text((x1 + x2) / 2 + 0.7, (y1 + y2) / 2 - 0.8, text, 7, colour=_BLUE)

    def _image(self, picture: Any, box: Box) -> None:
        x, y, width, height = self._rectangle(box)
        self.canvas.drawImage(picture, x, y, width, height, mask="auto")

    def _frame(
        self, box: Box, *, dash: tuple[float, ...] = (), width: float = 0.2, colour: tuple[float, ...] = (0, 0, 0)
    ) -> None:
        with self._stroke(dash, colour, width):
            self.canvas.rect(*self._rectangle(box), stroke=1, fill=0)

    def _line(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        *,
        dash: tuple[float, ...] = (),
        colour: tuple[float, ...] = (0, 0, 0),
    ) -> None:
        with self._stroke(dash, colour, 0.15):
            self.canvas.line(*self._point(x1, y1), *self._point(x2, y2))

    def _text(
        self, x: float, y: float, text: str, points: float, *, font: str = _FONT, colour: tuple[float, ...] = (0, 0, 0)
    ) -> None:
        self.canvas.setFillColorRGB(*colour)
        self.canvas.setFont(font, points)
        # The fonts that every viewer has know Latin letters only.
        self.canvas.drawString(*self._point(x, y), text.encode("latin-1", "replace").decode("latin-1"))

    @contextmanager
    def _kept(self) -> Iterator[None]:
        self.canvas.saveState()
        yield
        self.canvas.restoreState()

    @contextmanager
    def _stroke(self, dash: tuple[float, ...], colour: tuple[float, ...], width: float) -> Iterator[None]:
        with self._kept():
            self.canvas.setStrokeColorRGB(*colour)
            self.canvas.setLineWidth(width * _MM)
            if dash:
                self.canvas.setDash([part * _MM for part in dash])
            yield

    def _point(self, x: float, y: float) -> tuple[float, float]:
        return x * _MM, (self.sheet.height - y) * _MM

    def _rectangle(self, box: Box) -> tuple[float, float, float, float]:
        """As PDF wants it: the lower left corner, width and height in points."""
        return (*self._point(box.x, box.y + box.height), box.width * _MM, box.height * _MM)


def _joints(start: float, length: float, place: int, count: int, overlap: float) -> list[float]:
    """Where the neighbours of a tile begin and end on it."""
    before = [start + overlap] if place else []
    return before + ([start + length - overlap] if place < count - 1 else [])


def _faded(face: Values) -> Values:
    """The sign, pale enough for the sticker to stand out."""
    pale = 1 - (1 - face[:3]) * _ONLY_SHOWN
    return np.concatenate([pale, face[3:]])


def _modules(number: int) -> npt.NDArray[np.uint8]:
    """The marker's modules with its black border, 0 is black."""
    try:
        from cv2 import aruco
    except ImportError:
        raise MissingExtra("opencv-python-headless", "physical", "printing a sticker") from None
    kind = aruco.getPredefinedDictionary(getattr(aruco, MARKERS))
    side = kind.markerSize + 2
    return np.asarray(aruco.generateImageMarker(kind, number, side))


def _runs(black: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Where each run of black begins and ends."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], black, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
