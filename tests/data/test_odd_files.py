"""What is no image or no folder of images ends in one sentence: at once, and before memory is taken."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import advkit
from advkit import image_file
from advkit.data import _listing
from advkit.data.base import TensorData
from advkit.data.folder import Folder
from advkit.data.load import load_data
from advkit.errors import DataError, InputError

Save = Callable[..., Path]
X = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
Y = np.array([0, 2, 1, 1])
ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------------- folders


def test_a_class_folder_that_cannot_be_read_is_refused(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat", "dog", "owl"):
        save(f"{name}/1.png")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(_listing.os, "scandir", refusing)
    for skip_bad in (False, True):  # left out, it would take its class along
        with pytest.raises(DataError, match=r"the folder .*dog cannot be read: permission denied\."):
            Folder(tmp_path, skip_bad=skip_bad)


def test_a_class_folder_that_is_a_link_to_nothing_is_refused(save: Save, tmp_path: Path) -> None:
    save("cat/1.png")
    (tmp_path / "dog").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"dog is a link that cannot be followed: there is no such file"):
        Folder(tmp_path)
    (tmp_path / "dog").unlink()
    (tmp_path / "dog").symlink_to(tmp_path / "dog")
    with pytest.raises(DataError, match=r"dog is a link that cannot be followed: too many levels"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: os.mkfifo(path), "it is a named pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a device"),
        (lambda path: path.symlink_to("/nowhere/at/all.png"), "there is no such file"),
    ],
)
def test_what_is_no_file_is_refused_as_a_damaged_file_is(
    save: Save, tmp_path: Path, make: Callable[[Path], object], why: str
) -> None:
    save("a/1.png")
    make(tmp_path / "a" / "2.png")
    with pytest.raises(DataError, match=rf"the picture .*2\.png cannot be read: {why}"):
        Folder(tmp_path)
    data = Folder(tmp_path, size=8)
    for use in (lambda: data.pictures([1]), data.fingerprint):
        with pytest.raises(DataError, match=rf"2\.png cannot be read: {why}"):
            use()
    with pytest.warns(UserWarning, match=rf"left out 1 of 2 files: a/2\.png \({why}\)"):
        assert len(Folder(tmp_path, skip_bad=True)) == 1


def test_the_whole_disk_is_no_data_set() -> None:
    with pytest.raises(DataError, match="the folder / is the whole disk"):
        load_data("/")


def test_a_folder_with_hardly_a_picture_is_given_up_soon(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_listing, "_STRAYS", 10)
    save("a/1.png")
    for i in range(20):
        (tmp_path / "a" / f"{i}.txt").touch()
    assert len(Folder(tmp_path)) == 1  # ten for each picture besides
    for i in range(21):
        (tmp_path / "a" / f"b{i}.txt").touch()
    with pytest.raises(DataError, match=r"is no data set: of \d+ entries in it [01] are pictures"):
        Folder(tmp_path)


# ---------------------------------------------------------------------- paths


@pytest.mark.parametrize("path", ["a" * 5000, "a/" * 3000, "null\0byte", "~nosuchuser/x", "/dev/zero"])
@pytest.mark.parametrize("ending", ["", ".npz"])
def test_a_path_that_can_name_nothing_is_refused_in_a_short_sentence(path: str, ending: str) -> None:
    said = r"neither the name of a data set|does not exist|a name has at most|null character"
    with pytest.raises(InputError, match=said) as told:
        load_data(path + ending)
    assert len(str(told.value)) < 1000
    for make in ("folder", "picture", "npz"):
        with pytest.raises(DataError) as caught:
            load_data(make, path=path + ending)
        assert len(str(caught.value)) < 1000


# ---------------------------------------------------------------------- images


def test_only_formats_that_hold_pixels_are_opened(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a" / "1.eps")
    (tmp_path / "a" / "1.eps").rename(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=r"1\.png cannot be read: it is no picture that Pillow knows as BMP"):
        Folder(tmp_path)


@pytest.mark.parametrize(("call", "home"), [("Image.open(", "image_file.py"), ("np.load(", "")])
def test_files_are_opened_in_one_place(call: str, home: str) -> None:
    found = {
        path.name
        for folder in ("advkit", "attacks", "defenses")
        for path in (ROOT / folder).rglob("*.py")
        if call in path.read_text(encoding="utf-8")
    }
    assert found - {"_codec.py"} == ({home} if home else set())  # the codec decodes what it has encoded


def test_a_decompression_bomb_is_one_sentence(save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save("a/1.png", size=(64, 64))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"1\.png cannot be read: it has more pixels than are read from one file"):
        Folder(tmp_path)


def test_a_decoder_that_fails_in_its_own_way_is_one_sentence(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import struct

    def broken(*args: object, **settings: object) -> None:
        raise struct.error("unpack requires a buffer of 4 bytes")

    save("a/1.png")
    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(image_file.UnreadableImage, match="unpack requires a buffer"):
        Folder(tmp_path)


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000), (400, 10)])
def test_a_very_long_picture_is_scaled_without_filling_the_memory(
    save: Save, tmp_path: Path, size: tuple[int, int]
) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    middle = [slice(length // 2 - 5, length // 2 + 5) if length > 10 else slice(None) for length in reversed(size)]
    pixels[middle[0], middle[1]] = 255
    save("a/1.png", pixels)
    x = Folder(tmp_path, size=224).pictures([0])
    assert x.shape == (1, 3, 224, 224)
    assert float(x[..., 100:124, 100:124].min()) == 1
    plain = Folder(tmp_path).pictures([0])
    assert plain.shape == (1, 3, size[1], size[0])


@pytest.mark.parametrize("size", [0, -1, 8193, 1_000_000])
def test_a_size_that_no_memory_holds_is_refused(save: Save, tmp_path: Path, size: int) -> None:
    save("a/1.png")
    with pytest.raises(DataError, match=rf"size is {size}; give the width in pixels, from 1 to 8192"):
        Folder(tmp_path, size=size)
    with pytest.raises(DataError, match=r"crop is 1e-06, for which pictures would be scaled"):
        Folder(tmp_path, size=224, crop=1e-6)


def test_images_that_are_not_square_are_evaluated(save: Save, tmp_path: Path) -> None:
    for i in range(4):
        save(f"{i % 2}/{i}.png", size=(44, 20))
    np.savez(tmp_path / "set.npz", x=np.zeros((4, 20, 44, 3), np.uint8), y=np.arange(4) % 2)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    for source in (tmp_path, tmp_path / "set.npz"):
        assert len(advkit.evaluate(net, load_data(source), "fgsm", doubts=False)) == 4


# ---------------------------------------------------------------------- arrays


def _npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    out = BytesIO()
    np.save(out, array)
    content = out.getvalue()
    if shape is not None:
        header = np.lib.format.header_data_from_array_1_0(array) | {"shape": shape}
        head = BytesIO()
        np.lib.format.write_array_header_1_0(head, header)
        content = head.getvalue() + array.tobytes()
    return content


def _packed(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            [("x.npy", _npy(X, (10**5, 1000, 1000, 3))), ("y.npy", _npy(Y))],
            r"x says that it is uint8 of shape \(100000, 1000, 1000, 3\), 300.0 GB, and what follows is 768 bytes",
        ),
        ([("x.npy", _npy(X, (-4, -8, 8, 3))), ("y.npy", _npy(Y))], r"x says that it is uint8 of shape \(-4, -8"),
        ([("x.npy", _npy(X)), ("x.npy", _npy(X)), ("y.npy", _npy(Y))], "holds the array x twice"),
        (
            [("x.npy", b"\x93NUMPY\x01\x00\x04\x00((((" + bytes(9)), ("y.npy", _npy(Y))],
            "the header of x cannot be read",
        ),
        ([("x.npy", b"no array"), ("y.npy", _npy(Y))], "the header of x cannot be read"),
        (
            [("x.npy", _npy(X)), ("y.npy", _npy(Y)), ("classes.npy", _npy(np.array([b"a", b"\xff\xfe", b"c"])))],
            r"classes holds the bytes b'\\xff\\xfe', which are no UTF-8; save the names as text",
        ),
        ([("x.npy", _npy(X)), ("y.npy", _npy(Y + 2**62))], r"the label 46\d+ is too high for a class index, of 3 diff"),
        ([("x.npy", _npy(X)), ("y.npy", _npy(Y * 15_000_000))], r"the label 30000000 is too high"),
        (
            [("x.npy", _npy(X)), ("y.npy", _npy(Y.astype(np.uint64) + np.uint64(2**63)))],
            r"y holds 9223372036854775810; labels",
        ),
        (
            [("x.npy", _npy(X)), ("y.npy", _npy(Y - 1))],
            r"the label -1 is negative.*\(an ignore index\), leave those out",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_of_arrays_that_is_not_what_it_says_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes]], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        load_data(_packed(tmp_path / "set.npz", members))


def test_what_would_fill_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advkit import arrays

    np.savez_compressed(tmp_path / "set.npz", x=X, y=Y)
    monkeypatch.setattr(arrays, "free_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"x unpacks to 768 bytes, and of 1.0 kB of free memory at most half"):
        load_data(tmp_path / "set.npz")
    monkeypatch.undo()
    monkeypatch.setattr(arrays, "_LARGE", 1000)
    np.savez_compressed(tmp_path / "set.npz", x=np.zeros((4, 256, 256, 3), np.uint8), y=Y)
    with pytest.raises(DataError, match=r"x unpacks from .* to 786.4 kB, as no pictures do"):
        load_data(tmp_path / "set.npz")


def test_free_memory_is_known_where_the_system_tells() -> None:
    from advkit.arrays import free_memory

    found = free_memory()
    assert found is None or found > 10**6


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2"])
def test_arrays_come_back_as_they_were_saved(tmp_path: Path, order: str, kind: str) -> None:
    from advkit.arrays import read_arrays

    stored = np.asarray(X / 255.0, dtype=kind, order=order)  # type: ignore[call-overload]
    np.savez_compressed(
        tmp_path / "set.npz", x=stored, empty=np.zeros((0, 3)), one=np.float32(2), names=np.array(["a"])
    )
    found, held = read_arrays(tmp_path / "set.npz", ["x", "empty", "one", "names", "none"])
    assert held == ["x", "empty", "one", "names"]
    assert found["x"].dtype == stored.dtype
    assert np.array_equal(found["x"], stored)
    assert (found["empty"].shape, float(found["one"]), found["names"].tolist()) == ((0, 3), 2.0, ["a"])


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize("label", [-1, -100])
def test_an_index_that_means_no_class_is_named(label: int) -> None:
    x = torch.zeros(3, 3, 8, 8)
    with pytest.raises(DataError, match=rf"the label {label} is negative.*If {label} marks examples without a class"):
        TensorData(x, torch.tensor([0, label, 1]))


def test_a_label_255_is_named_where_the_model_has_no_such_class() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    data = TensorData(torch.zeros(3, 3, 8, 8), torch.tensor([0, 255, 1]))
    with pytest.raises(
        DataError, match=r"label of example 1 .* is 255, out of range for .* 2 classes.*an ignore index"
    ):
        advkit.evaluate(net, data, "fgsm")
