"""Well-known data sets that torchvision fetches, kept under advkit's cache folder."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs
import torch

from advkit.catalog import DATASETS
from advkit.data._files import PictureFiles, interleaved
from advkit.data._listing import Listing
from advkit.data.base import Data, TensorData
from advkit.data.folder import class_folders
from advkit.errors import DataError
from advkit.paths import expanded

__all__ = ["cifar10", "cifar100", "fashion_mnist", "gtsrb", "imagenet", "mnist", "svhn"]

Split = Literal["train", "test"]
_INCOMPLETE = (RuntimeError, OSError, EOFError, ValueError, AssertionError)  # what torchvision raises

_GTSRB_CLASSES = (
    *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by lorries",
    "priority at next crossing",
    "priority road",
    "yield",
    "stop",
    "no vehicles",
    "no lorries",
    "no entry",
    "caution",
    "curve left",
    "curve right",
    "double curve",
    "bumpy road",
    "slippery road",
    "road narrows on the right",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by lorries",
)


@DATASETS.register("cifar10")
def cifar10(split: Split = "test", download: bool = True) -> Data:
    """CIFAR-10: 32x32 colour photos of 10 classes (Krizhevsky 2009)."""
    source = _fetch(
        "CIFAR10", "cifar10", "cifar-10-batches-py/ (data_batch_1 to 5, test_batch, batches.meta)", split, download
    )
    return _tested(
        _colour("cifar10", source.data, source.targets, source.classes), split, partial(cifar10, "train", download)
    )


@DATASETS.register("cifar100")
def cifar100(split: Split = "test", download: bool = True) -> Data:
    """CIFAR-100: 32x32 colour photos of 100 classes (Krizhevsky 2009)."""
    source = _fetch("CIFAR100", "cifar100", "cifar-100-python/ (train, test, meta)", split, download)
    return _tested(
        _colour("cifar100", source.data, source.targets, source.classes), split, partial(cifar100, "train", download)
    )


@DATASETS.register("mnist")
def mnist(split: Split = "test", download: bool = True) -> Data:
    """MNIST: 28x28 handwritten digits (LeCun et al. 1998)."""
    source = _fetch("MNIST", "mnist", "MNIST/raw/ (the four idx-ubyte files, unpacked)", split, download)
    return _tested(
        TensorData(source.data[:, None], source.targets, name="mnist", classes=[str(i) for i in range(10)]),
        split,
        partial(mnist, "train", download),
    )


@DATASETS.register("fashion_mnist")
def fashion_mnist(split: Split = "test", download: bool = True) -> Data:
    """Fashion-MNIST: 28x28 gray pictures of 10 kinds of clothing (Xiao et al. 2017)."""
    files = "FashionMNIST/raw/ (the four idx-ubyte files, unpacked)"
    source = _fetch("FashionMNIST", "fashion_mnist", files, split, download)
    return _tested(
        TensorData(source.data[:, None], source.targets, name="fashion_mnist", classes=source.classes),
        split,
        partial(fashion_mnist, "train", download),
    )


@DATASETS.register("svhn")
def svhn(split: Split = "test", download: bool = True) -> Data:
    """SVHN: 32x32 colour photos of house numbers, one digit each (Netzer et al. 2011)."""
    source = _fetch("SVHN", "svhn", f"{split}_32x32.mat", split, download)
    return _tested(
        _colour("svhn", source.data.transpose(0, 2, 3, 1), source.labels, [str(i) for i in range(10)]),
        split,
        partial(svhn, "train", download),
    )


@DATASETS.register("gtsrb")
def gtsrb(split: Split = "test", size: int = 32, download: bool = True) -> Data:
    """GTSRB: photos of German traffic signs of 43 classes, scaled to ``size`` (Stallkamp et al. 2012)."""
    wanted = "Training/<class>/*.ppm" if split == "train" else "Final_Test/Images/*.ppm and gtsrb/GT-final_test.csv"
    _fetch("GTSRB", "gtsrb", f"gtsrb/GTSRB/{wanted}", split, download)
    base = _home() / "gtsrb"
    if split == "train":
        training = base / "GTSRB" / "Training"
        listing = Listing(training)
        folders = [training / f"{i:05d}" for i in range(len(_GTSRB_CLASSES))]
        files, labels = interleaved([listing.pictures(each) if each.is_dir() else [] for each in folders])
    else:
        with (base / "GT-final_test.csv").open(newline="") as table:
            rows = list(csv.DictReader(table, delimiter=";", skipinitialspace=True))
        files = [base / "GTSRB" / "Final_Test" / "Images" / row["Filename"] for row in rows]
        labels = [int(row["ClassId"]) for row in rows]
    return _tested(
        PictureFiles("gtsrb", files, labels, _GTSRB_CLASSES, size=size, crop=1.0),
        split,
        partial(gtsrb, "train", size, download),
    )


@DATASETS.register("imagenet")
def imagenet(root: str | Path, split: Literal["train", "val"] = "val", size: int = 224, crop: float = 0.875) -> Data:
    """ImageNet (ILSVRC 2012) from your own copy: ``root`` holds val/ or train/ with 1,000 folders n01440764 ..."""
    folder = expanded(root)
    folder = folder / split if (folder / split).is_dir() else folder
    if not folder.is_dir():
        raise DataError(f"imagenet: there is no folder {folder}; give as root the folder that holds {split}/.")
    wordnet, groups = class_folders(folder)
    if len(wordnet) != 1000:
        raise DataError(
            f"imagenet: {folder} holds {len(wordnet)} class folders instead of 1000, so class numbers cannot be told "
            "from their order. For a part of ImageNet use the data set 'folder' with labels.json or class_names.json."
        )
    files, labels = interleaved(groups)
    return PictureFiles("imagenet", files, labels, _imagenet_names(), size=size, crop=crop)


def _imagenet_names() -> list[str]:
    from torchvision.models import ResNet18_Weights

    names: list[str] = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return names


def _home() -> Path:
    """Where data sets are kept: under ADVKIT_HOME if that is set, else under the user's cache folder."""
    return Path(os.environ.get("ADVKIT_HOME") or platformdirs.user_cache_dir("advkit")).expanduser() / "data"


def _fetch(kind: str, name: str, files: str, split: str, download: bool) -> Any:
    """The data set object of torchvision, downloaded first where that is wanted and needed."""
    if split not in ("train", "test"):
        raise DataError(f"{name}: split is {split!r}; allowed are 'train' and 'test'.")
    from torchvision import datasets

    make: Callable[..., Any] = getattr(datasets, kind)
    chosen = {"split": split} if kind in ("SVHN", "GTSRB") else {"train": split == "train"}
    root = _home()
    why = "and download is off"
    try:
        return make(root, download=False, **chosen)
    except _INCOMPLETE:
        if download:
            try:
                root.mkdir(parents=True, exist_ok=True)
                return make(root, download=True, **chosen)
            except _INCOMPLETE as error:
                why = f"and could not be downloaded ({str(error).partition(chr(10))[0].rstrip(': .')})"
    raise DataError(
        f"{name}: no complete copy was found under {root}, {why}. "
        f"Put {files} there, or set ADVKIT_HOME to the folder whose data/ holds it."
    )


def _tested(data: Data, split: str, training: Callable[[], Data]) -> Data:
    """Pictures that know their training pictures, if they are those of a test."""
    data.trains = training if split == "test" else None
    return data


def _colour(name: str, data: Any, labels: Any, classes: list[str]) -> TensorData:
    x = torch.from_numpy(np.ascontiguousarray(data)).permute(0, 3, 1, 2)
    return TensorData(x, torch.as_tensor(labels), name=name, classes=classes)
