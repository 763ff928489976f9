"""Photographs of a printed sticker, measured: where the sign lies, what its face looks like straight on, in true colours.

Pixel coordinates: x to the right, y down, the pixel in row r and column c covers (c..c+1, r..r+1). Colours are sRGB in [0, 1],
(H, W, 3) float32; light is linear (sRGB squared).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from advkit.errors import DataError, InputError, MissingExtra
from advkit.image_file import UnreadableImage, read_image, upright
from advkit.results.print_sheet import MARKERS, Marker, Page, Sheet

__all__ = [
    "Light",
    "Place",
    "by_corners",
    "by_page",
    "by_tags",
    "face_view",
    "find_markers",
    "light_of",
    "printed",
    "read_photo",
]

Values = npt.NDArray[np.floating[Any]]
Correction = Literal["light", "full", "none"]
CORRECTIONS: tuple[Correction, ...] = ("light", "full", "none")
_LEAST_SIDE = 8.0  # px: a smaller sign shows nothing
_LEAST_PATCH = 3.0  # px
_LEAST_TAGS = 3
_FINEST = 4096  # px: side of the raster that is averaged
_CLIPPED = (0.01, 0.99)
_NAMES = ("upper left", "upper right", "lower right", "lower left")


def read_photo(path: Path) -> Values:
    """The picture of a file, turned as the camera was held. Raises DataError where it is none."""
    try:
        picture = read_image(path, lambda image: upright(image).convert("RGB"))
    except UnreadableImage as error:
        raise DataError(
            f"the photo {path} cannot be read ({error.reason}); give the path of a jpg, png, webp or bmp file."
        ) from None
    return np.asarray(picture, np.float32) / 255


def find_markers(photo: Values) -> dict[int, Values]:
    """The corners (4, 2) in pixels of every marker in a photo, by its id: upper left, upper right, lower right, lower left."""
    cv2 = _cv2()
    settings = cv2.aruco.DetectorParameters()
    settings.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    settings.minMarkerPerimeterRate = 0.005  # of the longer side: a tag may be small in a large photo
    known = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, MARKERS))
    grey = cv2.cvtColor(np.ascontiguousarray(np.round(photo * 255).astype(np.uint8)), cv2.COLOR_RGB2GRAY)
    corners, ids, _ = cv2.aruco.ArucoDetector(known, settings).detectMarkers(grey)
    if ids is None:
        return {}
    # OpenCV's whole numbers are the centres of pixels.
    return {int(i): np.asarray(found[0], np.float64) + 0.5 for found, i in zip(corners, ids.ravel(), strict=True)}


@dataclass(frozen=True)
class Place:
    """Where the face square lies in a photo: the map (3, 3) from mm of the face to pixels, and how it was found.

    ``misfit`` is how far off the markers are from it in the mean (root of squares), in pixels; none where corners were given.
    """

    matrix: Values
    how: Literal["corners", "tags", "page"]
    square_mm: float
    misfit: float | None = None

    @property
    def corners(self) -> Values:
        """The face square's corners (4, 2) in pixels: upper left, upper right, lower right, lower left."""
        return _mapped(self.matrix, _square(0.0, self.square_mm))

    @property
    def pixels(self) -> float:
        """The mean length of its sides in pixels."""
        corners = self.corners
        return float(np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1).mean())


def by_corners(corners: Sequence[Sequence[float]], photo: Values, sheet: Sheet, name: str) -> Place:
    """The place of a sign by the corners in pixels of the upright rectangle around it: see ``Sheet.bounds``.

    They go round from the upper left one, clockwise. Raises InputError where they cannot be those of a sign in the photo.
    """
    given = np.asarray(corners, np.float64)
    if given.shape != (4, 2) or not np.isfinite(given).all():
        raise InputError(f"{len(given)} corners were given for {name}; give four: x,y;x,y;x,y;x,y.")
    height, width = photo.shape[:2]
    for (x, y), which in zip(given, _NAMES, strict=True):
        if not (0 <= x <= width and 0 <= y <= height):
            raise InputError(
                f"the {which} corner ({x:g}, {y:g}) lies outside {name}, which is {width} x {height} pixels; give corners "
                "within it."
            )
    _check(given, f"the corners given for {name}")
    bounds = sheet.bounds
    box = np.array([[bounds.x, bounds.y]]) + _square(0.0, 1.0) * np.array([[bounds.width, bounds.height]])
    return Place(_fitted(box, given)[0], "corners", sheet.square_mm)


def by_tags(found: Mapping[int, Values], sheet: Sheet, name: str) -> Place | None:
    """The place of a sign by the tags fixed at its corners; None where fewer than three are seen."""
    seen = [tag for tag in sheet.tags if tag.id in found]
    if len(seen) < _LEAST_TAGS:
        return None
    return _by(seen, found, "tags", sheet, name)


def by_page(found: Mapping[int, Values], sheet: Sheet, name: str) -> tuple[Page, Place] | None:
    """The printed page that a photo shows by at least two of its corner markers, and the map from its mm to pixels."""
    counted = [sum(marker.id in found for marker in page.markers) for page in sheet.pages]
    if max(counted) < 2:
        return None
    page = sheet.pages[int(np.argmax(counted))]
    card = sheet.card.markers(page.first_card_marker, *page.card)
    seen = [marker for marker in (*page.markers, *card) if marker.id in found]
    return page, _by(seen, found, "page", sheet, name)


def face_view(photo: Values, place: Place, size: int, margin: float = 0.1, *, upright: bool = False) -> Values:
    """The sign in a picture (size, size, 3) with a margin, a share of the face's side: seen straight on, or ``upright`` as the
    photo shows it, in the square box around it.

    Areas are averaged, so that nothing aliases; beyond the photo's edge its last pixels go on.
    """
    far = place.square_mm
    region = _mapped(place.matrix, _square(-margin * far, (1 + margin) * far))
    if upright:
        corners = place.corners
        low, high = corners.min(0), corners.max(0)
        half = (high - low).max() * (0.5 + margin)
        region = (low + high) / 2 + _square(-half, half)
    return _looked(photo, region, (size, size))


def printed(
    photo: Values, page: Page, matrix: Values, shape: tuple[int, int], square_mm: float
) -> tuple[Values, Values]:
    """What a photo of a page shows of the sticker: colours (h, w, 3) in the raster of the face square, and where (h, w)."""
    height, width = shape
    colours = np.zeros((height, width, 3), np.float32)
    known = np.zeros(shape, bool)
    per_mm = np.array([width, height]) / square_mm
    for tile in page.tiles:
        first = np.array([tile.box.x, tile.box.y]) * per_mm
        last = first + np.array([tile.box.width, tile.box.height]) * per_mm
        # Whole pixels of the face only: what is cut through is on the neighbouring tile too, or is the sticker's edge.
        left, top = np.ceil(first - 1e-6).astype(int)
        right, below = np.floor(last + 1e-6).astype(int)
        if right <= left or below <= top:
            continue
        edges = np.array([[left, top], [right, top], [right, below], [left, below]]) / per_mm
        on_page = edges - np.array([tile.box.x, tile.box.y]) + np.array([tile.x, tile.y])
        colours[top:below, left:right] = _looked(photo, _mapped(matrix, on_page), (below - top, right - left))
        known[top:below, left:right] = True
    return colours, known


@dataclass(frozen=True)
class Light:
    """The map from the light of a photo to that of the colours as printed: light @ matrix + offset.

    ``before`` and ``residual`` are the root mean square differences of the grey patches from their values, in sRGB, without
    and with it; ``printer`` is that of the other patches with it: what the printer made of the colours.
    """

    matrix: Values
    offset: Values
    before: float
    residual: float
    printer: float

    def __call__(self, picture: Values) -> Values:
        """A picture (..., 3) in corrected sRGB."""
        light = np.square(picture) @ self.matrix + self.offset
        return np.sqrt(np.clip(light, 0.0, 1.0)).astype(np.float32)


def light_of(
    photo: Values, found: Mapping[int, Values], sheet: Sheet, correction: Correction = "light"
) -> Light | None:
    """What the colour card in a photo says of its light, by least squares; None where no card is seen large enough.

    ``light`` fits a gain and an offset for each channel to the grey patches: it takes away the colour and the strength of
    the light, and leaves what the printer did to the colours, for that is part of the attack. ``full`` fits any mixture of
    the channels to all patches, which takes away the printer's errors too.
    """
    if correction not in CORRECTIONS:
        raise InputError(f"the correction is {correction!r}; allowed are {', '.join(CORRECTIONS)}.")
    if correction == "none":
        return None
    cards = [
        (first, [marker for marker in sheet.card.markers(first) if marker.id in found])
        for first in (page.first_card_marker for page in sheet.pages)
    ]
    _, seen = max(cards, key=lambda card: len(card[1]))
    if len(seen) < 2:
        return None
    matrix, _ = _fitted(*_pairs(seen, found))
    side = sheet.card.patches[0].side
    edge = _mapped(matrix, np.array([[0.0, 0.0], [side, 0.0], [0.0, side]]))
    if np.linalg.norm(edge[1:] - edge[0], axis=1).min() < _LEAST_PATCH:
        return None
    measured = np.array([_patch(photo, matrix, patch.x, patch.y, side) for patch in sheet.card.patches])
    known = np.array([patch.colour for patch in sheet.card.patches])
    grey = np.array([patch.grey for patch in sheet.card.patches])
    return _light(measured, known, grey, correction)


def _light(measured: Values, known: Values, grey: npt.NDArray[np.bool_], correction: Correction) -> Light | None:
    light, wanted = np.square(measured), np.square(known)
    clear = ((measured > _CLIPPED[0]) & (measured < _CLIPPED[1])).all(1)
    if correction == "light":
        matrix, offset = np.zeros((3, 3)), np.zeros(3)
        for channel in range(3):
            # Where the sensor was full or empty it says nothing.
            own = grey & (measured[:, channel] > _CLIPPED[0]) & (measured[:, channel] < _CLIPPED[1])
            if own.sum() < 2:
                return None
            system = np.stack([light[own, channel], np.ones(own.sum())], 1)
            (gain, shift), *_ = np.linalg.lstsq(system, wanted[own, channel], rcond=None)
            matrix[channel, channel], offset[channel] = gain, shift
    else:
        if clear.sum() < 8:
            return None
        system = np.concatenate([light[clear], np.ones((clear.sum(), 1))], 1)
        solved, *_ = np.linalg.lstsq(system, wanted[clear], rcond=None)
        matrix, offset = solved[:3], solved[3]
    fitted = Light(matrix, offset, 0.0, 0.0, 0.0)
    after = fitted(measured)

    def apart(colours: Values, rows: npt.NDArray[np.bool_]) -> float:
        return float(np.sqrt(np.mean(np.square(colours[rows] - known[rows]))))

    return Light(matrix, offset, apart(measured, grey), apart(after, grey), apart(after, ~grey))


def _patch(photo: Values, matrix: Values, x: float, y: float, side: float) -> Values:
    """The mean colour of the inner part of a patch of the card."""
    inner = np.array([x + side / 2, y + side / 2]) + _square(-0.28, 0.28) * side
    light = _looked(np.square(photo), _mapped(matrix, inner), (4, 4))
    return np.asarray(np.sqrt(light.reshape(-1, 3).mean(0)))


def _by(
    seen: Sequence[Marker], found: Mapping[int, Values], how: Literal["tags", "page"], sheet: Sheet, name: str
) -> Place:
    known, pixels = _pairs(seen, found)
    matrix, misfit = _fitted(known, pixels)
    place = Place(matrix, how, sheet.square_mm, misfit)
    _check(place.corners if how == "tags" else pixels[:4], f"the markers found in {name}")
    return place


def _pairs(seen: Sequence[Marker], found: Mapping[int, Values]) -> tuple[Values, Values]:
    return np.array([corner for marker in seen for corner in marker.corners]), np.concatenate(
        [found[m.id] for m in seen]
    )


def _fitted(known: Values, pixels: Values) -> tuple[Values, float]:
    """The homography (3, 3) that takes known points to pixels by least squares, and the root mean square misfit in px."""
    cv2 = _cv2()
    matrix, _ = cv2.findHomography(known.astype(np.float64), pixels.astype(np.float64), 0)
    if matrix is None:
        raise InputError("the corners or markers found lie on a line; give those of a sign that can be seen.")
    return matrix, float(np.sqrt(np.mean(np.sum(np.square(_mapped(matrix, known) - pixels), 1))))


def _check(corners: Values, what: str) -> None:
    """Refuse four points that cannot be the corners of something seen from its front."""
    import torch

    from advkit.scene.geometry import crossed

    if bool(crossed(torch.from_numpy(corners)[None])[0]):
        raise InputError(
            f"{what} cross, or run the wrong way round; give the sign's own upper left, upper right, lower right and lower "
            "left, in this order."
        )
    least = float(np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1).min())
    if least < _LEAST_SIDE:
        raise InputError(f"{what} are {least:.1f} pixels apart; a sign must be at least {_LEAST_SIDE:g} pixels wide.")


def _looked(photo: Values, region: Values, shape: tuple[int, int]) -> Values:
    """The quadrilateral ``region`` (4, 2) of a photo as a picture (h, w, 3), areas averaged."""
    cv2 = _cv2()
    height, width = shape
    edges = np.linalg.norm(region - np.roll(region, -1, 0), axis=1)
    least = max(edges[[0, 2]].max() / width, edges[[1, 3]].max() / height)
    fine = int(np.clip(np.ceil(least), 1, max(1, _FINEST // max(shape))))
    corners = _square(0.0, 1.0) * np.array([[width * fine, height * fine]])
    matrix = cv2.getPerspectiveTransform(np.float32(corners - 0.5), np.float32(region - 0.5))
    wanted = (width * fine, height * fine)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(np.float32(photo), matrix, wanted, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(seen if fine == 1 else cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA))


def _square(low: float, high: float) -> Values:
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def _mapped(matrix: Values, points: Values) -> Values:
    lifted = np.concatenate([points, np.ones((len(points), 1))], 1) @ matrix.T
    return np.asarray(lifted[:, :2] / lifted[:, 2:])


def _cv2() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtra("opencv-python-headless", "physical", "measuring a photograph") from None
    return cv2
