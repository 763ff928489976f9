"""The only place that opens image files: which formats, how large, and what is said of one that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from advkit.errors import DataError
from advkit.paths import file_problem, shown

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

__all__ = ["FORMATS", "UnreadableImage", "image_size", "read_image", "upright"]

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that hold pixels and nothing else: Pillow knows some (EPS) that are programs, run by another program."""

_ORIENTATION = 0x0112  # the Exif tag
_SIDES_SWAPPED = 5  # orientations from here on


class UnreadableImage(DataError):
    """An image file that cannot be read; ``reason`` is the end of a sentence."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"the picture {shown(path)} cannot be read: {reason}. Replace or remove it.")
        self.reason = reason


def read_image(
    path: str | Path, convert: Callable[[Image], Image] | None = None, formats: Sequence[str] = FORMATS
) -> Image:
    """The image of a file, decoded, or what ``convert`` makes of it. Raises UnreadableImage.

    All that Pillow does happens in here, since it decodes late and raises whatever its decoders meet.
    """

    def decoded(image: Image) -> Image:
        found = image if convert is None else convert(image)
        found.load()
        return found

    return _opened(path, decoded, formats)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) as the image is seen, from the head of the file alone. Raises UnreadableImage."""

    def seen(image: Image) -> tuple[int, int]:
        turned = int(image.getexif().get(_ORIENTATION, 1)) >= _SIDES_SWAPPED
        return (image.height, image.width) if turned else (image.width, image.height)

    return _opened(path, seen, FORMATS)


def upright(image: Image) -> Image:
    """The image turned as the camera was held."""
    from PIL import ImageOps

    turned: Image = ImageOps.exif_transpose(image)
    return turned


def _opened(path: str | Path, use: Callable[[Image], T], formats: Sequence[str]) -> T:
    from PIL import Image

    if problem := file_problem(path):
        raise UnreadableImage(path, problem)
    try:
        with Image.open(path, formats=list(formats)) as image:
            return use(image)
    except Exception as error:  # struct.error, IndexError, zlib.error ...: what a decoder meets in a damaged file
        raise UnreadableImage(path, _reason(error, path, formats)) from error


def _reason(error: Exception, path: str | Path, formats: Sequence[str]) -> str:
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        empty = Path(path).stat().st_size == 0
        return "the file is empty" if empty else f"it is no picture that Pillow knows as {', '.join(formats)}"
    if isinstance(error, Image.DecompressionBombError):
        return "it has more pixels than are read from one file (179 million)"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return str(error).rstrip(".") or type(error).__name__
