from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from advkit.catalog import DATASETS
from advkit.data import Data, TensorData, load_data
from advkit.errors import DataError, InputError

Save = Callable[..., Path]


def test_a_name_gives_the_registered_data_set() -> None:
    data = load_data("signs", split="train", count=50, samples=7)
    assert len(data) == 7
    assert data.name == "signs"
    assert len(data.classes) == 35


def test_settings_may_be_texts_as_on_the_command_line() -> None:
    assert len(load_data("signs", count="12", size="16")) == 12


def test_a_path_gives_what_it_holds(save: Save, tmp_path: Path) -> None:
    picture = save("one/a.png")
    np.savez(tmp_path / "set.npz", x=np.zeros((2, 8, 8, 3), np.uint8), y=np.array([0, 1]))
    assert load_data(tmp_path / "set.npz").name == "set"
    assert load_data(str(tmp_path)).classes == ("one",)
    assert load_data(picture, size=4).shape == (3, 4, 4)


def test_a_name_wins_over_a_folder_and_a_path_does_not(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save("signs/a/1.png")
    monkeypatch.chdir(tmp_path)
    assert len(load_data("signs")) == 1000
    assert len(load_data("./signs")) == 1
    assert len(load_data(Path("signs"))) == 1


def test_tensors_and_data_pass_through() -> None:
    x, y = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
    data = load_data((x, y))
    assert torch.equal(data.tensors()[0], x)
    assert load_data(data) is data
    assert len(load_data(data, samples=2)) == 2


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("sings", "'sings' is neither the name of a data set nor an existing file or folder. Did you mean 'signs'?"),
        ("no/where", "'no/where' is neither the name of a data set nor an existing file or folder. Known names: "),
        (Path("sings"), "'sings' is neither the name of a data set nor an existing file or folder. Known names: "),
        (42, "data was given as int; give the name of a data set, a path, a pair (pictures, labels) of tensors"),
        ((1, 2), "data was given as tuple; give the name"),
    ],
)
def test_what_means_no_data_is_refused_with_both_possibilities(spec: object, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(spec)  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence)


def test_settings_that_do_not_fit_are_refused(save: Save) -> None:
    data = TensorData(torch.rand(1, 1, 2, 2), torch.tensor([0]))
    with pytest.raises(DataError, match="'size' were given with data that is already made"):
        load_data(data, size=3)
    with pytest.raises(InputError, match="picture has no setting 'sise'"):
        load_data(save("a.png"), sise=3)
    with pytest.raises(DataError, match="0 examples were asked for; give at least 1"):
        load_data(data, samples=0)


def test_every_entry_describes_itself() -> None:
    for entry in DATASETS.entries():
        assert entry.summary.endswith((".", ")", "...")), entry.name
        assert not any(setting.kind is setting.VAR_KEYWORD for setting in entry.settings.values())


def test_importing_data_imports_neither_torchvision_nor_foolbox() -> None:
    heavy = "{'torchvision', 'foolbox'}"
    check = f"import sys, advkit.data, advkit.data.vision, advkit.data.samples; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_picture_without_a_label_is_labelled_minus_one(save: Save) -> None:
    data = load_data(save("a.png", size=(20, 10)))
    assert data.labels.tolist() == [-1]
    assert data.shape == (3, 10, 20)
    assert load_data(save("b.png"), label=3).labels.tolist() == [3]


def test_several_pictures_may_be_named(save: Save) -> None:
    data = load_data("picture", path=[save("a.png"), save("b.webp", size=(30, 20))], size=8)
    assert data.pictures([0, 1]).shape == (2, 3, 8, 8)


def test_bad_picture_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png does not exist; give the path"):
        load_data("picture", path=tmp_path / "gone.png")
    with pytest.raises(DataError, match="is a folder; give the path"):
        load_data("picture", path=str(tmp_path))
    with pytest.raises(DataError, match="no file was given"):
        load_data("picture", path=[])
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(DataError, match=r"notes\.txt cannot be read: it is no picture that Pillow knows"):
        load_data(tmp_path / "notes.txt")


def test_a_negative_label_is_refused(save: Save) -> None:
    with pytest.raises(DataError, match="label is -2; give a class index"):
        load_data(save("a.png"), label=-2)


@pytest.mark.parametrize(
    ("dataset", "shape", "first"),
    [
        ("imagenet", (3, 224, 224), 243),
        ("cifar10", (3, 32, 32), 3),
        ("cifar100", (3, 32, 32), 49),
        ("mnist", (1, 28, 28), 7),
        ("fashionMNIST", (1, 28, 28), 9),
    ],
)
def test_foolbox_samples_come_with_their_labels(dataset: str, shape: tuple[int, int, int], first: int) -> None:
    data = load_data("samples", dataset=dataset)
    assert len(data) == 20
    assert data.shape == shape
    assert int(data.labels[0]) == first
    assert int(data.labels.max()) < len(data.classes)


def test_unknown_samples_are_refused() -> None:
    with pytest.raises(InputError, match="samples: dataset is 'mnits'"):
        load_data("samples", dataset="mnits")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_fingerprints_of_tensors_follow_their_content(dtype: torch.dtype) -> None:
    x, y = torch.zeros(2, 1, 2, 2, dtype=dtype), torch.tensor([0, 1])
    changed = x.clone()
    changed[1, 0, 1, 1] = 1
    prints = {TensorData(*pair).fingerprint() for pair in ((x, y), (changed, y), (x, 1 - y), (x.view(2, 1, 1, 4), y))}
    assert len(prints) == 4
    assert TensorData(x.clone(), y).fingerprint() in prints


@pytest.mark.real
def test_the_imagenet_photos_load_at_224_with_their_labels(real: Path) -> None:
    data = load_data(real / "imagenet_sample", size=224)
    assert len(data) == 201
    assert len(data.classes) == 1000
    assert data.pictures(range(201)).shape == (201, 3, 224, 224)
    panda = next(i for i, file in enumerate(getattr(data, "files", ())) if "giant_panda" in file.name)
    assert data.classes[int(data.labels[panda])] == "giant panda"


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "count", "shape", "classes"),
    [
        ("gtsrb_test.npz", 4000, (3, 32, 32), 43),
        ("cifar10_test_1000.npz", 1000, (3, 32, 32), 10),
        ("mnist_test_5000.npz", 5000, (1, 28, 28), 10),
    ],
)
def test_the_real_arrays_load(real: Path, file: str, count: int, shape: tuple[int, int, int], classes: int) -> None:
    data: Data = load_data(real / file)
    assert len(data) == count
    assert data.shape == shape
    assert len(data.classes) == classes


def test_a_pair_may_be_of_arrays_and_a_list_and_its_labels_are_blamed_where_they_are_none() -> None:
    x, y = torch.rand(4, 3, 8, 8), [0, 1, 2, 1]
    expected = load_data((x, torch.tensor(y)))
    for pair in ((x.numpy(), np.array(y)), (x, y), (x.numpy(), torch.tensor(y, dtype=torch.int16))):
        made = load_data(pair)  # type: ignore[arg-type]
        assert torch.equal(made.labels, expected.labels)
        assert torch.equal(made.pictures(range(4)), expected.pictures(range(4)))
    with pytest.raises(DataError, match=r"^the labels are None; give one class index for each picture"):
        load_data((x, None))  # type: ignore[arg-type]
