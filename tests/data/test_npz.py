from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advkit.data.load import load_data
from advkit.errors import DataError

X = np.random.default_rng(0).integers(0, 256, (4, 8, 9, 3), dtype=np.uint8)
Y = np.array([0, 2, 1, 1])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "set.npz"


def _expected() -> torch.Tensor:
    return torch.from_numpy(X).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(
    "stored",
    [
        X,
        X.transpose(0, 3, 1, 2),
        X.astype(np.float32) / 255,
        X.astype(np.float64) / 255,
        (X.astype(np.float32) / 255).astype(">f4"),
        X.transpose(0, 3, 1, 2).astype(np.float32) / 255,
    ],
)
def test_every_layout_gives_the_same_pictures(file: Path, stored: np.ndarray[Any, Any]) -> None:
    np.savez(file, x=stored, y=Y.astype(np.uint8))
    data = load_data(file)
    x, y = data.tensors()
    assert torch.allclose(x, _expected(), atol=1e-7)
    assert x.is_contiguous()
    assert y.tolist() == [0, 2, 1, 1]
    assert data.name == "set"
    assert data.classes == ("0", "1", "2")


def test_gray_pictures_have_one_channel(file: Path) -> None:
    np.savez(file, x=X[..., 0], y=Y)
    assert load_data(file).shape == (1, 8, 9)


def test_classes_may_be_more_than_the_labels_show(file: Path) -> None:
    np.savez(file, x=X, y=Y, classes=np.array(["a", "b", "c", "d"]))
    assert load_data(str(file)).classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": X}, r"has no array y; it holds x\. Save pictures as x"),
        ({"images": X}, r"has no array x and no array y; it holds images\."),
        ({"x": X.astype(np.int64), "y": Y}, r"x is int64; give uint8"),
        ({"x": X, "y": Y.astype(float)}, r"y is float64; give class indices as whole numbers: y\.astype"),
        ({"x": X, "y": Y[:3]}, r"y has shape \(3,\) but x holds 4 pictures; give y as \(4,\)"),
        ({"x": X, "y": Y[:, None]}, r"y has shape \(4, 1\) but x holds 4 pictures"),
        ({"x": X, "y": Y - 1}, r"the label -1 is negative"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b"])}, r"the label 2 is out of range for 2 classes"),
        ({"x": X, "y": Y, "classes": np.arange(3)}, r"classes is int64 of shape \(3,\); give a list of names"),
        ({"x": X.astype(np.float32), "y": Y}, r"pixel values run from 0 to 255; give them in \[0, 1\]"),
        ({"x": X / -255.0, "y": Y}, r"pixel values run from -1 to -?0"),
        ({"x": np.full((4, 8, 8, 3), np.nan), "y": Y}, r"pixel values run from nan"),
        (
            {"x": np.zeros((4, 3, 8, 3), np.uint8), "y": Y},
            r"shape \(4, 3, 8, 3\), in which the channels cannot be told",
        ),
        ({"x": np.zeros((4, 8, 8, 4), np.uint8), "y": Y}, r"the channels cannot be told"),
        ({"x": np.zeros((4, 8), np.uint8), "y": Y}, r"the channels cannot be told"),
        ({"x": np.zeros((0, 8, 8, 3), np.uint8), "y": Y[:0]}, r"it holds no pixel; give at least one"),
        ({"x": X, "y": Y.astype(object)}, r"y holds Python objects, which are not loaded because"),
        ({"x": X, "y": Y, "classes": np.array(["a", "b", "c"], dtype=object)}, r"classes holds .* as an array of text"),
    ],
)
def test_bad_arrays_are_refused_with_a_sentence(file: Path, arrays: dict[str, Any], sentence: str) -> None:
    np.savez(file, **arrays)
    with pytest.raises(DataError, match=sentence):
        load_data(file)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 cut off"])
def test_a_file_that_is_no_npz_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz cannot be read as an \.npz file"):
        load_data(file)


def test_a_truncated_file_is_refused(file: Path) -> None:
    np.savez_compressed(file, x=X, y=Y)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file"):
        load_data(file)


def test_a_single_array_is_refused(file: Path) -> None:
    with file.open("wb") as out:
        np.save(out, X)
    with pytest.raises(DataError, match=r"holds a single array; save two with numpy\.savez"):
        load_data(file)


def test_a_missing_file_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match=r"set\.npz does not exist; give the path of an \.npz file"):
        load_data(file)


@pytest.mark.parametrize("beside", ["real_signs_test_classes.json", "real_signs_classes.json", "real_classes.json"])
def test_a_file_beside_it_names_the_classes(tmp_path: Path, beside: str) -> None:
    np.savez(tmp_path / "real_signs_test.npz", x=X, y=Y)
    (tmp_path / beside).write_text('["stop", "yield", "ahead", "curve"]')
    (tmp_path / "other_classes.json").write_text("[1]")
    data = load_data(tmp_path / "real_signs_test.npz")
    assert data.classes == ("stop", "yield", "ahead", "curve")
    assert data.named


def test_the_nearest_name_of_a_file_and_the_file_itself_win(tmp_path: Path) -> None:
    (tmp_path / "signs_classes.json").write_text('["a", "b", "c"]')
    (tmp_path / "signs_test_classes.json").write_text('{"0": "d", "1": "e", "2": "f"}')
    np.savez(tmp_path / "signs_test.npz", x=X, y=Y)
    assert load_data(tmp_path / "signs_test.npz").classes == ("d", "e", "f")
    np.savez(tmp_path / "signs_test.npz", x=X, y=Y, classes=np.array(["g", "h", "i"]))
    assert load_data(tmp_path / "signs_test.npz").classes == ("g", "h", "i")


def test_too_few_names_beside_a_file_or_none_at_all_are_refused(file: Path) -> None:
    np.savez(file, x=X, y=Y)
    beside = file.with_name("set_classes.json")
    beside.write_text('["a", "b"]')
    with pytest.raises(DataError, match="set: the label 2 is out of range for 2 classes"):
        load_data(file)
    beside.write_text("[1, 2, 3]")
    with pytest.raises(DataError, match=r"set_classes\.json must be a list of names"):
        load_data(file)
