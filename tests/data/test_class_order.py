"""Class folders named by whole numbers have two orders; which was taken is told, and whether the other fits better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import advkit
from advkit.data.base import Data
from advkit.data.folder import Folder
from advkit.data.load import load_data
from advkit.engine.specs import DataSpec
from advkit.errors import DataError

Save = Callable[..., Path]
COUNT = 12


class Reads(nn.Module):
    """Knows the class of an image of one level: its level, in steps of 20, or the place of that among ``places``."""

    def __init__(self, places: list[int]) -> None:
        super().__init__()
        self.register_buffer("places", torch.tensor(places).argsort())
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((1, 2, 3))[:, None] * 255 / 20
        scores = -(level - torch.arange(COUNT, device=x.device)).abs() * self.scale
        return scores[:, self.places]


@pytest.fixture
def levels(save: Save, tmp_path: Path) -> Path:
    """Twelve class folders 0 to 11, not padded, two images in each whose level is the folder's number."""
    for number in range(COUNT):
        for i in range(2):
            save(f"{number}/{i}.png", (20 * number,) * 3)
    return tmp_path


IN_TEXT = [sorted(range(COUNT), key=str).index(i) for i in range(COUNT)]


def test_unpadded_numbers_are_taken_by_their_value(levels: Path) -> None:
    data = load_data(levels)
    assert data.classes == tuple(str(i) for i in range(COUNT))
    assert [int(file.parent.name) for file in data.files] == data.labels.tolist()  # type: ignore[attr-defined]
    assert "numbers (--class-order text" in data.remark


@pytest.mark.parametrize("names", [["-2", "-1", "0", "10"], ["+1", "+2", "+10"], ["-1", "+2", "10"]])
def test_numbers_may_have_a_sign(save: Save, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        save(f"{name}/0.png", (9, 9, 9))
    data = load_data(tmp_path)
    assert data.classes == tuple(names)
    assert "numbers (--class-order text" in data.remark


def test_the_order_of_texts_may_be_asked_for(levels: Path) -> None:
    data = load_data(str(levels), class_order="text")
    assert data.classes[:4] == ("0", "1", "10", "11")
    assert [IN_TEXT[int(file.parent.name)] for file in data.files] == data.labels.tolist()  # type: ignore[attr-defined]
    assert "texts (--class-order number" in data.remark
    assert data.fingerprint() != load_data(levels).fingerprint()
    spec = DataSpec(str(levels), (("class_order", "text"),))
    assert spec.build().labels.tolist() == data.labels.tolist()
    with pytest.raises(DataError, match="class_order is 'length'; allowed are 'number' and 'text'"):
        Folder(levels, class_order="length")  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [("00", "01", "10"), ("0", "1", "2"), ("1", "10", "b"), ("1.0", "10", "2")])
def test_other_names_are_taken_as_texts_and_nothing_is_said(save: Save, tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        save(f"{name}/1.png")
    data = Folder(tmp_path)
    assert data.classes == names
    assert data.remark == ""
    assert Folder(tmp_path, class_order="text").fingerprint() == data.fingerprint()


def test_one_number_written_twice_is_refused_unless_texts_are_meant(save: Save, tmp_path: Path) -> None:
    for name in ("1", "01", "10"):
        save(f"{name}/1.png")
    with pytest.raises(DataError, match=r"the class folders (01 and 1|1 and 01) in .* are the same number; rename one"):
        Folder(tmp_path)
    assert Folder(tmp_path, class_order="text").classes == ("01", "1", "10")


def test_names_in_a_file_decide_the_order_alone(levels: Path) -> None:
    names = [str(i) for i in reversed(range(COUNT))]
    (levels / "class_names.json").write_text(str(names).replace("'", '"'))
    data = Folder(levels)
    assert data.classes == tuple(names)
    assert data.remark == ""


@pytest.mark.parametrize(
    ("order", "places", "told"),
    [
        ("number", list(range(COUNT)), False),
        ("text", IN_TEXT, False),
        ("number", IN_TEXT, True),
        ("text", list(range(COUNT)), True),
    ],
)
def test_it_is_told_where_the_model_learnt_the_other_order(
    levels: Path, order: str, places: list[int], told: bool
) -> None:
    data = load_data(levels, class_order=order)
    result = advkit.evaluate(Reads(places), data, "noise")
    other = {"number": "text", "text": "number"}[order]
    found = [str(doubt) for doubt in result.doubts if f"--class-order {other}" in str(doubt)]
    assert bool(found) == told
    assert result.clean_accuracy.value == (2 / COUNT if told else 1)
    if told:
        assert "100.0 % are right without attack" in found[0]
        assert "16.7 %" in found[0]


def test_a_part_of_the_data_and_a_sweep_tell_it_too(levels: Path) -> None:
    from advkit.core.modes import borrowed
    from advkit.engine.asking import ask
    from advkit.engine.checks import better_order

    part: Data = load_data(levels).without([0]).head(18)
    assert part.other_order is not None
    net = Reads(IN_TEXT).eval()
    with borrowed(net):
        asked = ask(net, part, batch_size=16, seed=0)
    assert [each.code for each in asked if "class_order='text'" in each.advice] == ["P2"]
    guessing = torch.randint(0, COUNT, (18,), generator=torch.Generator().manual_seed(0))
    assert better_order(part.other_order, part.labels, guessing) is None


def test_a_folder_that_may_be_a_part_of_a_models_classes_is_told_how_to_say_so(save: Save, tmp_path: Path) -> None:
    for name in ("n01440764", "n01443537"):
        save(f"{name}/1.png")
    with pytest.raises(
        advkit.errors.ModelError, match=r"have 12 classes and .* has 2; .* in the folder's class_names\.json"
    ):
        advkit.evaluate(Reads(IN_TEXT), load_data(tmp_path), "noise")
