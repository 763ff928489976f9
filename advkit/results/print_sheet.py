"""How a sticker is laid out on paper at its true size: what stands where, in millimetres. No files, no PDF.

Places on a page are measured from its upper left corner, x to the right and y down; places on the sign from the upper left
corner of its face square. What is known of a sheet (marks, patches, pieces) is what lets a photograph of it be measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from advkit.documents import MISFIT
from advkit.errors import DataError, InputError, UnknownName
from advkit.results.sealed import Broken, read_sealed

__all__ = [
    "FIRST_TAG", "MARKERS", "PAPERS", "REFERENCES", "Box", "Card", "Marker", "Page", "Patch", "Sheet", "Tile", "lay_out",
]  # fmt: skip

PAPERS = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}  # mm
MARKERS = "DICT_5X5_1000"  # OpenCV's name
FIRST_TAG = 992  # the tags at the sign's corners have the last ids, those of pages and cards count from 0
_GREYS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 1.0)
_PURE = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0))
REFERENCES = (*((grey, grey, grey) for grey in _GREYS), *_PURE)  # sRGB, on every card
_MARGIN = 10.0  # mm that printers leave white
_PAGE_MARKER, _CARD_MARKER, _PATCH = 12.0, 10.0, 8.0
_ROWS = 3  # of patches
_GAP = 8.0  # around a tile: crop marks and its label
_OVERLAP = 10.0
_MOST_PAGES = 120
_MOST_PIECES = 64
_VERSION = 2

Values = npt.NDArray[np.float64]


class Box(NamedTuple):
    """A rectangle in mm."""

    x: float
    y: float
    width: float
    height: float


class Marker(NamedTuple):
    """A square fiducial marker: which, its upper left corner, and its side in mm."""

    id: int
    x: float
    y: float
    side: float

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Upper left, upper right, lower right, lower left: the order in which OpenCV finds them."""
        right, below = self.x + self.side, self.y + self.side
        return [(self.x, self.y), (right, self.y), (right, below), (self.x, below)]


class Patch(NamedTuple):
    """A square of one colour: its upper left corner on the card, its side in mm, its sRGB value."""

    x: float
    y: float
    side: float
    colour: tuple[float, float, float]

    @property
    def grey(self) -> bool:
        """Whether it has no hue."""
        return len(set(self.colour)) == 1


@dataclass(frozen=True)
class Card:
    """The colour card: patches of known values between four markers, whose ids count from that of the page."""

    width: float
    height: float
    patches: tuple[Patch, ...]

    def markers(self, first: int, x: float = 0.0, y: float = 0.0) -> tuple[Marker, ...]:
        """Its markers where its upper left corner lies at (x, y)."""
        right, below = x + self.width - _CARD_MARKER, y + self.height - _CARD_MARKER
        places = ((x, y), (right, y), (right, below), (x, below))
        return tuple(Marker(first + i, *place, _CARD_MARKER) for i, place in enumerate(places))


@dataclass(frozen=True)
class Tile:
    """A part of a piece of the sticker on a page: ``box`` is where it belongs on the sign, (x, y) where it is printed."""

    box: Box
    x: float
    y: float
    piece: int
    row: int = 0
    column: int = 0
    rows: int = 1
    columns: int = 1


@dataclass(frozen=True)
class Page:
    """A page of tiles, with a marker in each corner and a colour card."""

    tiles: tuple[Tile, ...]
    markers: tuple[Marker, ...]
    card: tuple[float, float]
    first_card_marker: int


@dataclass(frozen=True)
class Sheet:
    """A sticker on paper.

    ``square_mm`` is the side of the face square, ``bounds`` the smallest upright rectangle of it that holds the sign, which
    is what can be measured on a real one. ``tag`` is the side in mm of the markers that go to the corners of ``bounds``.
    """

    paper: str
    width: float
    height: float
    square_mm: float
    bounds: Box
    pieces: tuple[Box, ...]
    pages: tuple[Page, ...]
    card: Card
    tag: float
    overlap: float = _OVERLAP

    @property
    def tags(self) -> tuple[Marker, ...]:
        """The markers outside the corners of the sign's bounds, in mm of the face square: a quiet zone lies between."""
        left, top = self.bounds.x - self.quiet - self.tag, self.bounds.y - self.quiet - self.tag
        right = self.bounds.x + self.bounds.width + self.quiet
        below = self.bounds.y + self.bounds.height + self.quiet
        places = ((left, top), (right, top), (right, below), (left, below))
        return tuple(Marker(FIRST_TAG + i, *place, self.tag) for i, place in enumerate(places))

    @property
    def quiet(self) -> float:
        """The white around a tag in mm: what a finder of markers needs."""
        return self.tag / 5

    def to_json(self) -> dict[str, Any]:
        """All of it, for print.json."""
        return {"version": _VERSION, "markers": MARKERS, **asdict(self)}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The sheet of a print.json."""
        pages = tuple(
            Page(
                tuple(Tile(**{**tile, "box": Box(*tile["box"])}) for tile in page["tiles"]),
                tuple(Marker(*marker) for marker in page["markers"]),
                (page["card"][0], page["card"][1]),
                page["first_card_marker"],
            )
            for page in found["pages"]
        )
        patches = tuple(Patch(x, y, side, tuple(colour)) for x, y, side, colour in found["card"]["patches"])
        card = Card(found["card"]["width"], found["card"]["height"], patches)
        pieces = tuple(Box(*piece) for piece in found["pieces"])
        plain = {name: found[name] for name in ("paper", "width", "height", "tag", "overlap")}
        plain["square_mm"] = found["square_mm" if found["version"] > 1 else "sign_mm"]  # the same under another name
        return cls(bounds=Box(*found["bounds"]), pieces=pieces, pages=pages, card=card, **plain)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The sheet of a file. Raises DataError where it is none."""
        try:
            found, _ = read_sealed(path)
            if found["version"] not in range(1, _VERSION + 1):
                raise DataError(
                    f"{path} is of version {found['version']}, this advkit reads up to {_VERSION}; print anew."
                )
            return cls.from_json(found)
        except Broken as error:
            if error.kind == "missing":
                raise DataError(f"there is no {path}; write it by: advkit print {path.parent}.") from None
            raise DataError(f"{error}; write it again by: advkit print.") from None
        except (OSError, *MISFIT) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path} cannot be read as a printed sheet; write it again by: advkit print.") from None


def lay_out(
    alpha: Values,
    square_mm: float,
    palette: Sequence[Sequence[float]] = (),
    paper: str = "a4",
    cover: Values | None = None,
) -> Sheet:
    """The sheet of a sticker that covers ``alpha`` (h, w) > 0 of a face square ``square_mm`` wide.

    Its bounding box is printed in one piece, or each connected piece alone where that takes fewer pages; upright or
    across, whichever takes fewer. ``palette`` (n, 3) are sRGB colours to be shown on the card, the most important first;
    ``cover`` (s, s) is the sign's own coverage of the face square, all of it where it is not known.
    Raises InputError where the sticker is empty, the paper unknown, or the pages too many.
    """
    if paper not in PAPERS:
        raise UnknownName("paper", paper, PAPERS)
    if alpha.ndim != 2 or not (alpha > 0).any():
        raise InputError("the sticker is empty: it covers nothing of the sign, so there is nothing to print.")
    if not (math.isfinite(square_mm) and 10 <= square_mm <= 5000):
        raise InputError(
            f"the sign's square is {square_mm:g} mm wide; a sticker can be printed for one of 10 to 5000 mm."
        )
    pieces = _pieces(alpha > 0, square_mm)
    bounds = Box(0.0, 0.0, square_mm, square_mm) if cover is None else _bounds(cover, square_mm)
    tag = float(min(max(round(square_mm / 12), 15), 50))
    short, long = PAPERS[paper]
    card = _card(palette, short)
    sheets = []
    for width, height in ((short, long), (long, short)):
        for boxes in dict.fromkeys(((_around(pieces),), pieces)):
            room = _room(width, height, card)
            placed = _packed(_tiled(boxes, room), room)
            pages = tuple(_page(number, tiles, width, height, card) for number, tiles in enumerate(placed))
            sheets.append(Sheet(paper, width, height, square_mm, bounds, boxes, pages, card, tag))
    best = min(sheets, key=lambda sheet: len(sheet.pages))  # the first of equals: upright, in one piece
    if len(best.pages) > _MOST_PAGES:
        raise InputError(
            f"the sticker takes {len(best.pages)} pages of {paper}, more than {_MOST_PAGES}; make it smaller, or let a "
            "print shop print it from sticker.png."
        )
    return best


def _bounds(cover: Values, square_mm: float) -> Box:
    """The upright rectangle around a sign by its coverage (s, s): a pixel at its edge counts by the share that is covered."""
    ends = []
    for most in (cover.max(axis=0), cover.max(axis=1)):
        middle = len(most) // 2
        ends.append((square_mm * (middle - most[:middle].sum()) / len(most), square_mm * most.sum() / len(most)))
    (left, width), (top, height) = ends
    return Box(float(left), float(top), float(width), float(height))


def _pieces(covered: npt.NDArray[np.bool_], square_mm: float) -> tuple[Box, ...]:
    """The boxes of the connected pieces in mm; one around all where there are too many to cut out."""
    from scipy.ndimage import find_objects, label

    found, count = label(covered, structure=np.ones((3, 3)))
    tall, wide = square_mm / covered.shape[0], square_mm / covered.shape[1]
    boxes = tuple(
        Box(cols.start * wide, rows.start * tall, (cols.stop - cols.start) * wide, (rows.stop - rows.start) * tall)
        for rows, cols in find_objects(found)
    )
    return boxes if count <= _MOST_PIECES else (_around(boxes),)


def _around(boxes: Sequence[Box]) -> Box:
    left, top = min(box.x for box in boxes), min(box.y for box in boxes)
    right, below = max(box.x + box.width for box in boxes), max(box.y + box.height for box in boxes)
    return Box(left, top, right - left, below - top)


def _card(palette: Sequence[Sequence[float]], page_width: float) -> Card:
    """The references first, then as many colours of the palette as there is room for."""
    beside = _CARD_MARKER + 2
    most = _ROWS * int((page_width - 2 * _MARGIN - 2 * beside) / _PATCH)
    wanted = [(float(r), float(g), float(b)) for r, g, b in palette]
    colours = list(dict.fromkeys([*REFERENCES, *wanted]))[:most]
    columns = -(-len(colours) // _ROWS)
    patches = tuple(
        Patch(beside + (i % columns) * _PATCH, (i // columns) * _PATCH, _PATCH, colour)
        for i, colour in enumerate(colours)
    )
    return Card(2 * beside + columns * _PATCH, _ROWS * _PATCH, patches)


def _room(width: float, height: float, card: Card) -> Box:
    """Where tiles may stand on a page: between the heading and the card."""
    top = _MARGIN + _PAGE_MARKER + 2
    bottom = height - _MARGIN - _PAGE_MARKER - 4 - card.height - 2
    return Box(_MARGIN, top, width - 2 * _MARGIN, bottom - top)


def _tiled(boxes: Sequence[Box], room: Box) -> list[Tile]:
    """Each piece, cut where it is larger than a page; neighbours overlap."""
    wide, tall = room.width - 2 * _GAP, room.height - 2 * _GAP
    tiles = []
    for piece, box in enumerate(boxes):
        columns, rows = _cuts(box.width, wide), _cuts(box.height, tall)
        tiles += [
            Tile(Box(box.x + x, box.y + y, w, h), 0.0, 0.0, piece, row, column, len(rows), len(columns))
            for row, (y, h) in enumerate(rows)
            for column, (x, w) in enumerate(columns)
        ]
    return tiles


def _cuts(length: float, most: float) -> list[tuple[float, float]]:
    """Beginnings and lengths of equal parts no longer than ``most`` that overlap."""
    if length <= most:
        return [(0.0, length)]
    count = math.ceil((length - _OVERLAP) / (most - _OVERLAP))
    part = (length + (count - 1) * _OVERLAP) / count
    return [(i * (part - _OVERLAP), part) for i in range(count)]


def _packed(tiles: Sequence[Tile], room: Box) -> list[list[Tile]]:
    """Tiles on pages, shelf by shelf, in their order."""
    pages: list[list[Tile]] = [[]]
    x = y = shelf = 0.0
    for tile in tiles:
        wide, tall = tile.box.width + 2 * _GAP, tile.box.height + 2 * _GAP
        if x and x + wide > room.width + 1e-9:
            x, y, shelf = 0.0, y + shelf, 0.0
        if pages[-1] and y + tall > room.height + 1e-9:
            pages.append([])
            x = y = shelf = 0.0
        placed = {**tile.__dict__, "x": room.x + x + _GAP, "y": room.y + y + _GAP}
        pages[-1].append(Tile(**placed))
        x, shelf = x + wide, max(shelf, tall)
    return pages


def _page(number: int, tiles: Sequence[Tile], width: float, height: float, card: Card) -> Page:
    right, below = width - _MARGIN - _PAGE_MARKER, height - _MARGIN - _PAGE_MARKER
    places = ((_MARGIN, _MARGIN), (right, _MARGIN), (right, below), (_MARGIN, below))
    markers = tuple(Marker(8 * number + i, *place, _PAGE_MARKER) for i, place in enumerate(places))
    at = ((width - card.width) / 2, below - 4 - card.height)
    return Page(tuple(tiles), markers, at, 8 * number + 4)
