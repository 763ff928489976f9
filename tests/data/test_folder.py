from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data.folder import Folder
from advkit.errors import DataError

Save = Callable[..., Path]


def test_class_folders_are_numbered_by_name_and_read_in_turns(save: Save, tmp_path: Path) -> None:
    for name in ("dog/1.png", "dog/2.png", "cat/1.png", "cat/2.png", "cat/3.png"):
        save(name)
    data = Folder(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    assert [file.name for file in data.files] == ["1.png", "1.png", "2.png", "2.png", "3.png"]
    assert data.shape == (3, 8, 8)


def test_pixels_arrive_as_they_are_stored(save: Save, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    save("a/1.png", pixels)
    x = Folder(tmp_path).pictures([0])
    assert torch.equal(x[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_a_flat_folder_takes_its_labels_from_json(save: Save, tmp_path: Path) -> None:
    save("b.png")
    save("a.png")
    (tmp_path / "labels.json").write_text('{"b.png": 2, "a.png": 0}')
    data = Folder(tmp_path)
    assert data.labels.tolist() == [2, 0]
    assert data.classes == ("0", "1", "2")
    (tmp_path / "class_names.json").write_text(json.dumps({"0": "x", "1": "y", "2": "z", "3": "unseen"}))
    assert Folder(tmp_path).classes == ("x", "y", "z", "unseen")


def test_class_names_give_the_order_of_folders(save: Save, tmp_path: Path) -> None:
    save("cat/1.png")
    save("dog/1.png")
    (tmp_path / "class_names.json").write_text('["dog", "horse", "cat"]')
    data = Folder(tmp_path)
    assert data.labels.tolist() == [0, 2]
    assert data.classes == ("dog", "horse", "cat")


def test_resizing_agrees_with_torchvision(save: Save, tmp_path: Path) -> None:
    from torchvision.transforms import v2

    noise = np.random.default_rng(0).integers(0, 256, (301, 413, 3), dtype=np.uint8)
    for i, pixels in enumerate((noise, noise.transpose(1, 0, 2).copy())):
        path = save(f"a/{i}.png", pixels)
        wanted = v2.functional.center_crop(v2.functional.resize(Image.open(path), [256]), [224])
        got = (Folder(tmp_path, size=224).pictures([i])[0] * 255).round().byte()
        assert torch.equal(got.permute(1, 2, 0), torch.from_numpy(np.array(wanted)))


def test_a_picture_of_the_right_size_is_left_alone(save: Save, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    save("a/1.png", pixels)
    x = Folder(tmp_path, size=128).pictures([0])
    assert torch.equal(x[0], torch.from_numpy(pixels).permute(2, 0, 1) / 255)


def test_crop_keeps_the_share_that_was_asked_for(tmp_path: Path, save: Save) -> None:
    pixels = np.zeros((40, 80, 3), dtype=np.uint8)
    pixels[:, 20:60] = 255
    save("a/1.png", pixels)
    assert Folder(tmp_path, size=20).pictures([0]).mean() > 0.97
    pixels[10:30, 30:50] = 0
    save("a/1.png", pixels)
    assert Folder(tmp_path, size=20, crop=0.5).pictures([0]).mean() < 0.05


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 51, (51, 51, 51)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 51 * 257, (51, 51, 51)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("LA", (51, 255), (51, 51, 51)),
        ("P", 3, None),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    save: Save, tmp_path: Path, mode: str, colour: object, expected: tuple[int, int, int] | None
) -> None:
    save("a/1.png", colour, mode=mode)
    x = (Folder(tmp_path).pictures([0]) * 255).round()
    assert x.shape == (1, 3, 8, 8)
    if expected is not None:
        assert x[0, :, 4, 4].tolist() == list(expected)


def test_cmyk_becomes_rgb(save: Save, tmp_path: Path) -> None:
    save("a/1.jpg", (0, 255, 255, 0), mode="CMYK")
    red, green, blue = Folder(tmp_path).pictures([0])[0, :, 4, 4]
    assert red > 0.95
    assert max(green, blue) < 0.05


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    picture = Image.new("RGB", (6, 4))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").mkdir()
    picture.save(tmp_path / "a" / "1.png", exif=exif)
    x = Folder(tmp_path).pictures([0])
    assert x.shape == (1, 3, 6, 4)
    assert x[0, :, 0, 3].tolist() == [1, 1, 1]


def test_the_fingerprint_follows_the_content(save: Save, tmp_path: Path) -> None:
    save("a/1.png", size=(16, 16))
    first = Folder(tmp_path).fingerprint()
    assert Folder(tmp_path).fingerprint() == first
    assert Folder(tmp_path, size=8).fingerprint() != first
    save("a/1.png", (1, 2, 3), size=(16, 16))
    assert Folder(tmp_path).fingerprint() != first


def test_different_sizes_without_size_are_refused(save: Save, tmp_path: Path) -> None:
    save("a/1.png")
    save("a/2.png", size=(9, 8))
    with pytest.raises(DataError, match=r"1\.png is 8x8, 2\.png is 9x8\. Give size"):
        Folder(tmp_path)
    assert Folder(tmp_path, size=8).pictures([0, 1]).shape == (2, 3, 8, 8)


def test_a_truncated_jpeg_is_named_when_it_is_read(save: Save, tmp_path: Path) -> None:
    _truncated(save, "a/bad.jpg")
    save("a/good.jpg", size=(64, 64))
    data = Folder(tmp_path, size=32)
    with pytest.raises(DataError, match=r"the picture .*bad\.jpg cannot be read: .*truncated.* Replace or remove it"):
        data.pictures([0])


def test_skip_bad_leaves_bad_files_out_and_names_them(save: Save, tmp_path: Path) -> None:
    _truncated(save, "a/bad.jpg")
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "a" / "text.png").write_text("no picture")
    save("b/good.jpg", size=(64, 64))
    with pytest.warns(UserWarning, match=r"left out 3 of 4 files: a/bad\.jpg \(.*truncated") as caught:
        data = Folder(tmp_path, skip_bad=True)
    assert "a/empty.png (the file is empty)" in str(caught[0].message)
    assert "a/text.png (it is no picture that Pillow knows as BMP, GIF, JPEG" in str(caught[0].message)
    assert data.labels.tolist() == [1]
    assert data.classes == ("a", "b")


def test_a_folder_of_only_bad_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.raises(DataError, match=r"none of the 1 pictures .* a/1\.png \(the file is empty\)"):
        Folder(tmp_path, skip_bad=True)


def test_a_folder_that_is_none_is_refused(save: Save, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist; give a folder"):
        Folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"1\.png is a file; give a folder"):
        Folder(save("1.png"))


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("nothing")
    with pytest.raises(DataError, match="holds no pictures; put jpg"):
        Folder(tmp_path)


def test_a_flat_folder_without_labels_is_refused(save: Save, tmp_path: Path) -> None:
    save("1.png")
    with pytest.raises(DataError, match=r"side by side \(1\) and no labels\.json"):
        Folder(tmp_path)


def test_an_unknown_class_folder_is_refused(save: Save, tmp_path: Path) -> None:
    save("cats/1.png")
    (tmp_path / "class_names.json").write_text('["cat"]')
    with pytest.raises(DataError, match=r"cats is none of the classes in .* Did you mean 'cat'\?"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("{", "cannot be read: it is cut off"),
        ("[]", "must be an object of file names"),
        ("{}", "must be an object of file names"),
        ('{"1.png": -1}', r"the label of '1\.png' is -1; give a whole number"),
        ('{"1.png": 1.0}', r"the label of '1\.png' is 1\.0; give a whole number"),
        ('{"1.png": true}', r"the label of '1\.png' is True"),
        ('{"2.png": 0}', r"names the file '2\.png', which is not in"),
        ('{"1.png": 2}', r"the class 2, but class_names\.json names 2 classes \(0 to 1\)"),
    ],
)
def test_bad_labels_are_refused(save: Save, tmp_path: Path, labels: str, sentence: str) -> None:
    save("1.png")
    (tmp_path / "labels.json").write_text(labels)
    (tmp_path / "class_names.json").write_text('["a", "b"]')
    with pytest.raises(DataError, match=sentence):
        Folder(tmp_path)


@pytest.mark.parametrize("names", ["3", "[]", "[1]", '{"1": "a"}'])
def test_bad_class_names_are_refused(save: Save, tmp_path: Path, names: str) -> None:
    save("a/1.png")
    (tmp_path / "class_names.json").write_text(names)
    with pytest.raises(DataError, match="must be a list of names"):
        Folder(tmp_path)


def test_bad_sizes_are_refused(save: Save, tmp_path: Path) -> None:
    save("a/1.png")
    with pytest.raises(DataError, match="size is 0; give the width"):
        Folder(tmp_path, size=0)
    with pytest.raises(DataError, match=r"crop is 1\.5; give the share"):
        Folder(tmp_path, size=8, crop=1.5)


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("F", (8, 8), 0.5).save(tmp_path / "a" / "1.tiff")
    with pytest.raises(DataError, match="floating-point values without a known range"):
        Folder(tmp_path).pictures([0])


def _truncated(save: Save, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(name, noise)
    path.write_bytes(path.read_bytes()[:-800])
