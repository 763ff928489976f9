"""Traffic signs that advkit draws itself: needs no download, has as many pictures as are asked for, at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advkit.catalog import DATASETS
from advkit.data._draws import Draws
from advkit.data._faces import FACES, face, filled
from advkit.data._scene import Pose, background, draw_pose, photograph, sign_layer
from advkit.data.base import Data
from advkit.errors import DataError
from advkit.hashes import sha256

__all__ = ["Signs"]

_VERSION = "signs 1"  # raise it with every change that alters a picture: stored results then no longer match
_SPLITS = {"test": 0, "train": 1}
_COUNTS = {"test": 1000, "train": 20000}
_POSE, _VIEW, _CAMERA, _ORDER = range(4)
_CACHE_BYTES = 256 * 2**20


@DATASETS.register("signs")
class Signs(Data):
    """Traffic signs drawn by advkit, 35 classes in the manner of European and US ones, in varied scenes.

    A picture is a pure function of (seed, split, index, size): it does not depend on what else is drawn. The splits
    share no random number. Every run of 35 examples that starts at a multiple of 35 holds each class once. Where
    ``count`` is None there are 1,000 test and 20,000 training examples.
    """

    def __init__(
        self, split: Literal["train", "test"] = "test", size: int = 32, count: int | None = None, seed: int = 0
    ) -> None:
        if split not in _SPLITS:
            raise DataError(f"signs: split is {split!r}; allowed are 'train' and 'test'.")
        if not 16 <= size <= 512:
            raise DataError(f"signs: size is {size}; give a width from 16 to 512 pixels.")
        if count is not None and count < 1:
            raise DataError(f"signs: count is {count}; give at least 1.")
        if not 0 <= seed < 2**64:
            raise DataError(f"signs: seed is {seed}; give a whole number from 0 to 2**64 - 1.")
        self.name, self.classes = "signs", tuple(FACES)
        self.split, self.size, self.seed = split, size, seed
        self.labels = _labels(seed, _SPLITS[split], _COUNTS[split] if count is None else count, len(FACES))
        self._drawn: dict[int, NDArray[np.uint8]] = {}

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """The pictures at ``indices``, (B, 3, size, size); drawn at the first asking."""
        drawn = np.stack([self._picture(self._checked(i)) for i in indices])
        return torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous().float() / 255

    def fingerprint(self) -> str:
        """Hash of the drawing's version and of the settings."""
        facts = f"{_VERSION} {self.split} {self.size} {len(self)} {self.seed}"
        return sha256(facts)

    def training(self) -> Data | None:
        """The training split of the same size and seed."""
        return Signs("train", self.size, None, self.seed) if self.split == "test" else None

    def homography(self, index: int) -> Tensor:
        """The map (3, 3), float64, from the face square [0, 1] x [0, 1] to pixels (x, y) of the picture.

        x runs to the right and y down; the pixel in row r and column c has its centre at (c + 0.5, r + 0.5).
        """
        return torch.from_numpy(self._pose(self._checked(index)).to_pixels(self.size))

    def corners(self, index: int) -> Tensor:
        """Pixel coordinates (4, 2) of the face square: top left, top right, bottom right, bottom left."""
        square = torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]], dtype=torch.float64)
        mapped = self.homography(index) @ square
        return (mapped[:2] / mapped[2]).T.contiguous()

    def mask(self, index: int) -> Tensor:
        """How much of each pixel the sign covers, (H, W) in [0, 1], before the lens blurs it."""
        layer, window = sign_layer(self._class(index), self._pose(self._checked(index)), self.size)
        cover = np.zeros((self.size, self.size), dtype=np.float32)
        cover[window] = layer[..., 3]
        return torch.from_numpy(np.clip(cover, 0.0, 1.0))

    def face(self, label: int, size: int) -> Tensor:
        """The sign of class ``label``, flat and frontal, (4, size, size): sRGB and coverage, in [0, 1]."""
        if not 0 <= label < len(self.classes):
            raise DataError(f"signs: there is no class {label}; classes run from 0 to {len(self.classes) - 1}.")
        if size < 1:
            raise DataError(f"signs: a face of size {size} was asked for; give its width in pixels.")
        drawn = torch.from_numpy(face(self.classes[label], size)).permute(2, 0, 1).clone()
        light = drawn[:3] / drawn[3:].clamp(min=1e-6)
        return torch.cat([light.clamp(0.0, 1.0).sqrt(), drawn[3:]])

    def filled(self, label: int) -> float:
        """The width of the sign of class ``label``, as traffic rules state it, as a share of the side of its face square."""
        return filled(self.classes[label])

    def background(self, index: int, size: int) -> Tensor:
        """What is around the sign of the picture at ``index``, without the sign, (3, size, size) sRGB in [0, 1]."""
        if size < 1:
            raise DataError(f"signs: a background of size {size} was asked for; give its width in pixels.")
        chosen = self._checked(index)
        light = background(self._draws(chosen, _VIEW), self._pose(chosen), size)
        return torch.from_numpy(np.sqrt(np.clip(light, 0.0, 1.0))).permute(2, 0, 1).float().contiguous()

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"signs has {len(self)} examples, 0 to {len(self) - 1}; {index} was asked for")
        return int(index)

    def _class(self, index: int) -> str:
        return self.classes[int(self.labels[index])]

    def _draws(self, index: int, purpose: int) -> Draws:
        return Draws(self.seed, _SPLITS[self.split], index, purpose)

    def _pose(self, index: int) -> Pose:
        return draw_pose(self._draws(index, _POSE))

    def _picture(self, index: int) -> NDArray[np.uint8]:
        """One picture (H, W, 3), kept while there is room."""
        kept = self._drawn.get(index)
        if kept is not None:
            return kept
        pose = self._pose(index)
        layer, window = sign_layer(self._class(index), pose, self.size)
        view = background(self._draws(index, _VIEW), pose, self.size)
        drawn = photograph(self._draws(index, _CAMERA), layer, window, view)
        if (len(self._drawn) + 1) * drawn.nbytes <= _CACHE_BYTES:
            self._drawn[index] = drawn
        return drawn


def _labels(seed: int, split: int, count: int, classes: int) -> Tensor:
    """The classes in a fresh order for every ``classes`` examples."""
    cycles = -(-count // classes)
    orders = [np.argsort(Draws(seed, split, cycle, _ORDER).grid(classes), kind="stable") for cycle in range(cycles)]
    return torch.from_numpy(np.concatenate(orders)[:count].astype(np.int64))
