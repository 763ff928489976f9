"""The official layouts, made small on the spot: nothing is downloaded."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data.load import load_data
from advkit.errors import DataError

Save = Callable[..., Path]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no network."""

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    for module in ("cifar", "gtsrb", "mnist"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", offline)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", offline)
    monkeypatch.setenv("ADVKIT_HOME", str(tmp_path))
    return tmp_path / "data"


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist", "svhn", "gtsrb"])
def test_without_a_network_the_error_says_where_to_put_which_files(cache: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(name)
    assert str(caught.value).startswith(
        f"{name}: no complete copy was found under {cache}, and could not be downloaded"
    )
    assert "Put " in str(caught.value)
    with pytest.raises(DataError, match="download is off"):
        load_data(name, download=False)


def test_the_reason_of_a_failed_download_is_given(cache: Path) -> None:
    with pytest.raises(DataError, match="no route to host"):
        load_data("cifar10")


def test_a_wrong_split_is_refused(cache: Path) -> None:
    from advkit.data.vision import mnist

    with pytest.raises(DataError, match="split is 'val'; allowed are 'train' and 'test'"):
        mnist("val")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_mnist_is_read_from_its_idx_files(cache: Path, name: str, folder: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    raw = cache / folder / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, 3, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 3) + bytes([7, 0, 9]))
    for split in ("train", "test"):
        data = load_data(name, split=split, download=False)
        assert torch.equal(data.tensors()[0], torch.from_numpy(pixels)[:, None] / 255)
        assert data.labels.tolist() == [7, 0, 9]
        assert len(data.classes) == 10
        assert data.name == name
        learned = data.head(2).training()
        assert (learned is None) == (split == "train")
    assert learned is not None
    assert learned.training() is None


def test_a_broken_idx_file_is_refused(cache: Path) -> None:
    raw = cache / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, 3, 28, 28) + b"cut off")
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, 3) + bytes([7, 0, 9]))
    with pytest.raises(DataError, match="mnist: no complete copy"):
        load_data("mnist")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_from_its_batches(cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    kind: Any = getattr(datasets, name.upper())
    rows = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
    labels, names = ("labels", "label_names") if name == "cifar10" else ("fine_labels", "fine_label_names")
    folder = cache / kind.base_folder
    folder.mkdir(parents=True)

    def put(file: str, content: object) -> str:
        blob = pickle.dumps(content)
        (folder / file).write_bytes(blob)
        return hashlib.md5(blob).hexdigest()

    batch = {"data": rows, labels: [4, 1]}
    monkeypatch.setattr(kind, "train_list", [[file, put(file, batch)] for file, _ in kind.train_list])
    monkeypatch.setattr(kind, "test_list", [[file, put(file, batch)] for file, _ in kind.test_list])
    digest = put(kind.meta["filename"], {names: [f"class {i}" for i in range(10)]})
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": digest})
    data = load_data(name)
    assert torch.equal(data.tensors()[0], torch.from_numpy(rows).view(2, 3, 32, 32) / 255)
    assert data.labels.tolist() == [4, 1]
    assert data.classes[9] == "class 9"
    assert len(load_data(name, split="train")) == 2 * len(kind.train_list)


def test_svhn_is_read_from_its_matrix_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat
    from torchvision import datasets

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 2), dtype=np.uint8)
    cache.mkdir()
    savemat(cache / "test_32x32.mat", {"X": pixels, "y": np.array([[10], [3]], dtype=np.uint8)})
    digest = hashlib.md5((cache / "test_32x32.mat").read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.SVHN, "split_list", {"test": ["", "test_32x32.mat", digest]})
    data = load_data("svhn")
    assert torch.equal(data.tensors()[0], torch.from_numpy(pixels).permute(3, 2, 0, 1) / 255)
    assert data.labels.tolist() == [0, 3]


def test_gtsrb_is_read_from_its_folders(cache: Path) -> None:
    base = cache / "gtsrb"
    for place in (
        "GTSRB/Training/00014/00000_00000.ppm",
        "GTSRB/Training/00001/1.ppm",
        "GTSRB/Final_Test/Images/0.ppm",
    ):
        (base / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50), (200, 0, 0)).save(base / place)
    (base / "GT-final_test.csv").write_text("Filename;Width;ClassId\n0.ppm;40;14\n")
    train, test = load_data("gtsrb", split="train"), load_data("gtsrb", size=16)
    assert train.labels.tolist() == [1, 14]
    assert train.shape == (3, 32, 32)
    assert test.labels.tolist() == [14]
    assert test.shape == (3, 16, 16)
    assert test.classes[14] == "stop"
    learned = test.training()
    assert learned is not None
    assert (learned.labels.tolist(), learned.shape) == ([1, 14], (3, 16, 16))
    assert len(test.classes) == 43


def test_imagenet_is_read_from_the_caller_s_copy(tmp_path: Path) -> None:
    for i in range(1000):
        (tmp_path / "val" / f"n{i:08d}").mkdir(parents=True)
    Image.new("RGB", (300, 260), (200, 0, 0)).save(tmp_path / "val" / "n00000388" / "a.JPEG")
    data = load_data("imagenet", root=str(tmp_path))
    assert data.labels.tolist() == [388]
    assert data.shape == (3, 224, 224)
    assert data.classes[388] == "giant panda"


def test_a_part_of_imagenet_is_refused_because_its_class_numbers_cannot_be_told(save: Save, tmp_path: Path) -> None:
    save("val/n01440764/1.png")
    with pytest.raises(DataError, match=r"holds 1 class folders instead of 1000.*use the data set 'folder'"):
        load_data("imagenet", root=tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        load_data("imagenet", root=tmp_path / "nowhere")
