"""Picture files, decoded when they are needed: what the sources that read files have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from advkit.data.base import Data
from advkit.errors import DataError
from advkit.image_file import UnreadableImage, image_size, read_image, upright
from advkit.paths import file_problem, reason_of

__all__ = ["PictureFiles", "check_size", "interleaved", "read_problem"]

_LARGEST = 8192  # pixels: the side of pictures, 800 MB each as they are attacked
_LONG = 16  # times as long as wide: only the middle of such a picture is scaled
_Pixels = NDArray[np.uint8]


class PictureFiles(Data):
    """Files with a label each. Where ``size`` is given, pictures are scaled and cut to (size, size).

    A picture that is (size, size) already stays as it is. Any other is scaled until the middle square of width ``size``
    shows the share ``crop`` of its shorter side; None stands for 0.875 from 128 pixels on, which is how ImageNet models
    are tested (256, then the middle 224), and for 1 below. Without ``size`` all files must be equally large.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        labels: Sequence[int],
        classes: Sequence[str],
        *,
        size: int | None = None,
        crop: float | None = None,
        gray: bool = False,
    ) -> None:
        check_size(name, size, crop)
        if not files:
            raise DataError(f"{name}: there is no picture; give at least one.")
        self.name, self.classes = name, tuple(classes)
        self.files = tuple(files)
        self.labels = torch.tensor(list(labels), dtype=torch.int64)
        self._size, self._gray = size, gray
        self._crop = crop if crop is not None else 0.875 if size is not None and size >= 128 else 1.0
        self._fingerprint: str | None = None
        if size is None:
            _check_equal_sizes(name, self.files)

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """Decode the files at ``indices``."""
        decoded = np.stack([self._fitted(_read(self.files[i], self._gray)) for i in indices])
        x = torch.from_numpy(decoded)
        x = x[:, None] if self._gray else x.permute(0, 3, 1, 2)
        return x.contiguous().float() / 255

    def fingerprint(self) -> str:
        """Hash of the files' bytes, the labels and the size; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{self._size} {self._crop} {self._gray} {self.labels.tolist()}".encode())
            for file in self.files:
                digest.update(hashlib.sha256(_bytes(file)).digest())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def _fitted(self, picture: Image.Image) -> _Pixels:
        size = self._size
        if size is None or picture.size == (size, size):
            return np.asarray(picture)
        side = round(size / self._crop)
        scale = side / min(picture.size)
        if max(picture.size) > _LONG * min(picture.size):  # scaled as a whole it could fill the memory
            half = size / scale / 2
            across, down = (length / 2 for length in picture.size)
            middle = (across - half, down - half, across + half, down + half)
            return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=middle))
        # The longer side is rounded down, as torchvision does: the numbers published for its models depend on it.
        width, height = (side if length == min(picture.size) else int(length * scale) for length in picture.size)
        scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = round((width - size) / 2), round((height - size) / 2)
        return np.asarray(scaled.crop((left, top, left + size, top + size)))


def check_size(name: str, size: int | None, crop: float | None) -> None:
    """Refuse a size or a crop that no picture can have, and what no memory holds."""
    if size is not None and not 1 <= size <= _LARGEST:
        raise DataError(f"{name}: size is {size}; give the width in pixels, from 1 to {_LARGEST}, for example 224.")
    if crop is not None and not 0 < crop <= 1:
        raise DataError(f"{name}: crop is {crop}; give the share of the shorter side to keep, above 0 and at most 1.")
    if size is not None and crop is not None and size / crop > 2 * _LARGEST:
        raise DataError(
            f"{name}: crop is {crop}, for which pictures would be scaled to {size / crop:.0f} pixels; give a larger crop."
        )


def interleaved(groups: Sequence[Sequence[Path]]) -> tuple[list[Path], list[int]]:
    """The first file of every group, then the second of every group ...; and the group of each.

    So the first n examples of a set that is stored class by class are spread over the classes.
    """
    ranked = [(rank, label, path) for label, group in enumerate(groups) for rank, path in enumerate(group)]
    ranked.sort(key=lambda item: item[:2])
    return [path for _, _, path in ranked], [label for _, label, _ in ranked]


def read_problem(path: Path) -> str | None:
    """Why a file cannot be decoded, or None; JPEGs are decoded at an eighth of their size, which is quick."""
    try:
        read_image(path, _glanced)
    except UnreadableImage as error:
        return error.reason
    return None


def _glanced(image: Image.Image) -> Image.Image:
    image.draft("L", (max(1, image.width // 8), max(1, image.height // 8)))
    return image


def _read(path: Path, gray: bool) -> Image.Image:
    """One file, turned upright, as 8-bit RGB or gray; what is transparent is shown on white."""
    return read_image(path, lambda image: _to_8_bits(upright(image)).convert("L" if gray else "RGB"))


def _to_8_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion would clip it at 255
        return Image.fromarray((np.asarray(picture).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("it holds floating-point values without a known range; save it in 8 or 16 bits")
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA"))
    return picture


def _check_equal_sizes(name: str, files: Sequence[Path]) -> None:
    first: tuple[int, int] | None = None
    for file in files:
        size = image_size(file)
        first = first or size
        if size != first:
            raise DataError(
                f"{name}: the pictures differ in size: {files[0].name} is {first[0]}x{first[1]}, "
                f"{file.name} is {size[0]}x{size[1]}. Give size (for example size=224) to bring them to one."
            )


def _bytes(path: Path) -> bytes:
    if problem := file_problem(path):
        raise UnreadableImage(path, problem)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(path, reason_of(error)) from error
