"""What a data set is to advkit: labelled pictures in [0, 1] that are fetched when they are needed."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Literal

import torch
from torch import Tensor

from advkit.errors import DataError
from advkit.hashes import sha256
from advkit.numbers import shortened

__all__ = ["Data", "OtherOrder", "Subset", "TensorData", "check_pictures", "check_values", "ignored", "numbered"]

_MOST_CLASSES = 2**20  # that a label may count without names: more than any model tells apart
_IGNORED = (-1, -100, 255)  # what is written where an example has no class


@dataclass(frozen=True)
class OtherOrder:
    """A second order that the classes may have been meant in: which was ``taken``, and ``places`` (K,) in the other."""

    taken: Literal["number", "text"]
    places: tuple[int, ...]

    @property
    def other(self) -> Literal["number", "text"]:
        """The order that was not taken."""
        return "text" if self.taken == "number" else "number"


class Data(ABC):
    """Labelled pictures: ``labels`` (N,) int64 and, on demand, ``pictures(indices)`` (B, C, H, W) float32 in [0, 1].

    Nothing is held that need not be: memory does not grow with N unless a source is a tensor already.
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor
    trains: Callable[[], Data] | None = None
    """Loads the training pictures, where these are the test pictures of a data set that has both."""
    other_order: OtherOrder | None = None
    """The order of the classes that was not taken, where there are two."""

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def pictures(self, indices: Sequence[int]) -> Tensor:
        """The pictures at ``indices``: (B, C, H, W) float32 in [0, 1], contiguous."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the pictures and labels, or of all that determines them."""

    @property
    def named(self) -> bool:
        """Whether the classes have names; else they are numbers, up to the highest label that occurs."""
        return any(name != str(number) for number, name in enumerate(self.classes))

    @property
    def remark(self) -> str:
        """What a line on the data says besides its name and size; empty where there is nothing to say."""
        order = self.other_order
        if order is None:
            return ""
        return f", class folders in the order of their {order.taken}s (--class-order {order.other}: the other one)"

    def training(self) -> Data | None:
        """The pictures that models learn from, where these are the test pictures of a data set that has both."""
        return None if self.trains is None else self.trains()

    def without(self, classes: Sequence[int]) -> Data:
        """The examples of the other classes."""
        kept = [i for i, label in enumerate(self.labels.tolist()) if label not in classes]
        if not kept:
            raise DataError(f"{self.name} has no examples of other classes than those left out.")
        return self if len(kept) == len(self) else Subset(self, kept)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one picture."""
        channels, height, width = self.pictures([0]).shape[1:]
        return channels, height, width

    def head(self, count: int | None) -> Data:
        """The first ``count`` examples (all where None)."""
        if count is not None and count < 1:
            raise DataError(f"{count} examples were asked for; give at least 1.")
        return self if count is None or count >= len(self) else Subset(self, range(count))

    def tensors(self) -> tuple[Tensor, Tensor]:
        """All pictures and labels at once, for research code on small data."""
        return self.pictures(range(len(self))), self.labels


class Subset(Data):
    """Some examples of another data set, in the given order."""

    def __init__(self, data: Data, indices: Sequence[int]) -> None:
        if not isinstance(data, Data):
            raise DataError(
                f"the data are given as {type(data).__name__}; give what advkit.load_data returns, or another Data."
            )
        self.data, self.indices = data, _places(indices, len(data))
        self.name, self.classes = data.name, data.classes
        self.labels = data.labels[self.indices]
        self.other_order = data.other_order

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """The pictures at ``indices`` of the subset."""
        return self.data.pictures([self.indices[i] for i in indices])

    def fingerprint(self) -> str:
        """Hash of the whole data set's and of the indices."""
        return sha256(f"{self.data.fingerprint()} {self.indices}")

    def training(self) -> Data | None:
        """The training pictures of the whole data set."""
        return self.data.training()


class TensorData(Data):
    """Pictures (N, C, H, W) and labels (N,) held in memory: uint8, or float in [0, 1]."""

    def __init__(self, x: Tensor, y: Tensor, *, name: str = "tensors", classes: Sequence[str] | None = None) -> None:
        for what, given in (("pictures", x), ("labels", y)):
            if not isinstance(given, Tensor):
                raise DataError(f"{what} are given as {type(given).__name__}; give tensors: torch.as_tensor(...).")
            check_values(what, given)
        if x.ndim != 4 or len(x) == 0 or y.shape != x.shape[:1]:
            raise DataError(
                f"{name}: pictures have shape {tuple(x.shape)} and labels {tuple(y.shape)}; "
                "give pictures (N, C, H, W) and one label each, (N,), with N at least 1."
            )
        if y.is_floating_point() or y.dtype == torch.bool:
            raise DataError(f"{name}: labels are {y.dtype}; give whole numbers (class indices).")
        if x.dtype != torch.uint8:
            check_pictures(x, name)
        self.name, self._x, self.labels = name, x, y.long()
        lowest, highest = int(self.labels.min()), int(self.labels.max())
        if lowest < 0:
            raise DataError(f"{name}: the label {lowest} is negative; labels count from 0.{ignored(lowest)}")
        if classes is None:
            self.classes = tuple(numbered(name, highest, len(set(self.labels.tolist()))))
        else:
            self.classes = tuple(classes)
        if highest >= len(self.classes):
            raise DataError(
                f"{name}: the label {highest} is out of range for {len(self.classes)} classes.{ignored(highest)}"
            )

    def pictures(self, indices: Sequence[int]) -> Tensor:
        """The pictures at ``indices``, scaled to [0, 1] where they are stored in 8 bits."""
        x = self._x[torch.as_tensor(list(indices), dtype=torch.long)]
        return (x.float() / 255 if x.dtype == torch.uint8 else x.float()).contiguous()

    def fingerprint(self) -> str:
        """Hash of all pictures and labels."""
        digest = hashlib.sha256(f"{self._x.dtype} {tuple(self._x.shape)}".encode())
        for part in (self._x, self.labels):  # seen as bytes, because numpy has no bfloat16
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def _places(indices: Sequence[int], count: int) -> list[int]:
    """Places among so many examples. Refuses what is none."""
    try:
        places = [*map(index, indices)]
    except (TypeError, RuntimeError):  # RuntimeError: of a tensor
        raise DataError(f"the indices are {shortened(indices)}; give whole numbers, such as range(10).") from None
    if wrong := [place for place in places if not -count <= place < count]:
        raise DataError(f"the index {wrong[0]} is out of range for {count:,} examples.")
    return places


def numbered(name: str, highest: int, distinct: int) -> list[str]:
    """Names for classes that have none: their numbers. Refuses a label that no class index can be."""
    if highest >= _MOST_CLASSES:
        raise DataError(
            f"{name}: the label {highest} is too high for a class index, of {distinct:,} different labels; number the "
            "classes from 0: numpy.unique(y, return_inverse=True)[1]."
        )
    return [str(i) for i in range(highest + 1)]


def ignored(label: int) -> str:
    """What is added to an error about a label that usually marks examples without a class; else nothing."""
    if label not in _IGNORED:
        return ""
    return f" If {label} marks examples without a class (an ignore index), leave those out: x[y != {label}], y[y != {label}]."


def check_values(what: str, given: Tensor) -> None:
    """Refuse tensors that hold no values, or only some."""
    if given.layout is not torch.strided:
        raise DataError(f"the {what} are {given.layout}; give all of their values: to_dense().")
    if given.is_meta:
        raise DataError(f"the {what} are on the device meta, where tensors hold no values; give them on cpu or cuda.")


def check_pictures(x: Tensor, name: str) -> None:
    """Refuse pictures with NaN or values outside [0, 1] (an ulp of rounding is let pass)."""
    if x.is_complex():
        raise DataError(f"{name}: pixel values are {x.dtype}; give floats in [0, 1].")
    low, high = float(x.min()), float(x.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):  # also false for NaN
        raise DataError(
            f"{name}: pixel values run from {low:.4g} to {high:.4g}; give them in [0, 1] "
            "(or as 8-bit integers), without normalisation: that lives inside the model."
        )
