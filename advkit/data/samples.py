"""The twenty pictures of each of five data sets that come with Foolbox."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles
from advkit.errors import DataError

__all__ = ["Samples"]

_CLASSES = {"imagenet": 1000, "cifar10": 10, "cifar100": 100, "mnist": 10, "fashionMNIST": 10}
_GRAY = ("mnist", "fashionMNIST")


@DATASETS.register("samples")
class Samples(PictureFiles):
    """Twenty pictures with labels that come with Foolbox: of ImageNet, CIFAR, MNIST or Fashion-MNIST.

    ImageNet photos are scaled to 224 where ``size`` is None; the others are all of one size, 32 or 28.
    """

    def __init__(
        self,
        dataset: Literal["imagenet", "cifar10", "cifar100", "mnist", "fashionMNIST"] = "imagenet",
        size: int | None = None,
    ) -> None:
        if dataset not in _CLASSES:
            raise DataError(f"samples: dataset is {dataset!r}; allowed are {', '.join(_CLASSES)}.")
        if size is None and dataset == "imagenet":
            size = 224
        # Found, not imported: importing foolbox takes seconds and configures other frameworks.
        spec = find_spec("foolbox")
        folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin is not None else None
        files = sorted(folder.glob(f"{dataset}_*_*.*")) if folder is not None else []
        if not files:
            where = f"under {folder}" if folder is not None else "because foolbox is not installed"
            raise DataError(f"samples: no {dataset} pictures were found {where}; install foolbox 3.3 or later.")
        labels = [int(file.stem.rpartition("_")[2]) for file in files]
        classes = [str(i) for i in range(_CLASSES[dataset])]
        super().__init__(f"samples-{dataset}", files, labels, classes, size=size, crop=1.0, gray=dataset in _GRAY)
