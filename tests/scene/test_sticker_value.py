"""One physical sticker as a value: what it covers, and that files hold it exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from advkit.data.signs import Signs
from advkit.errors import InputError
from advkit.scene.sticker import Sticker


def bar(size: int = 16, colour: float = 0.25) -> Sticker:
    rgba = torch.zeros(4, size, size)
    rgba[:3] = colour
    rgba[3, size // 2 :, : size // 4] = 1
    return Sticker(rgba, sign_mm=800.0, facts={"target": "yield", "seed": 3})


def test_a_sticker_hides_what_is_under_it_and_nothing_else():
    face = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    seen, covered = bar().on(face), bar().rgba[3] == 1
    assert torch.equal(seen[:3, covered], torch.full_like(seen[:3, covered], 0.25))
    assert torch.equal(seen[:3, ~covered], face[:3, ~covered])
    assert torch.equal(seen[3], face[3])
    assert torch.equal(bar().on(torch.stack([face, face]))[1], seen)


def test_the_result_does_not_change_the_face_that_was_given():
    face = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    before = face.clone()
    bar().on(face)
    assert torch.equal(face, before)


@pytest.mark.parametrize("size", [8, 16, 48, 100])
def test_a_sticker_has_the_same_colour_and_area_at_any_resolution(size: int):
    face = torch.cat([torch.zeros(3, size, size), torch.ones(1, size, size)])
    assert bar().area(face) == pytest.approx(1 / 8, abs=1e-6)
    inner = bar().on(face)[:3, -size // 4 :, : size // 8]
    assert torch.allclose(inner, torch.full_like(inner, 0.25))


def test_no_fringe_of_hidden_colours_comes_out_of_the_averaging():
    rgba = torch.zeros(4, 16, 16)
    rgba[:, 3:9, 3:9] = 1
    white = torch.ones(4, 6, 6)
    assert torch.allclose(Sticker(rgba).on(white), white)


def test_only_what_lies_on_the_sign_counts_as_area():
    face = Signs(count=1).face(0, 64)
    everything = Sticker(torch.ones(4, 64, 64))
    assert everything.area(face) == pytest.approx(1.0)
    assert float(face[3].mean()) < 0.95


def test_added_colours_are_added_and_clipped():
    rgba = torch.full((4, 8, 8), 0.5)
    rgba[0], rgba[3] = -20.0, 1.0
    seen = Sticker(rgba, mode="add").on(torch.full((4, 8, 8), 0.25))
    assert float(seen[0].max()) == 0
    assert torch.allclose(seen[1:3], torch.tensor(0.75))


def test_files_hold_a_sticker_exactly(tmp_path):
    rgba = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(1))
    Sticker(rgba, 750.0, {"target": "yield", "success": [1, 2]}).save(tmp_path / "new")
    found = Sticker.load(tmp_path / "new")
    assert torch.equal(found.rgba, rgba)
    assert (found.sign_mm, found.facts, found.mode) == (750.0, {"target": "yield", "success": [1, 2]}, "replace")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "sticker.json",
        "sticker.png",
        "sticker.safetensors",
    ]


def test_lengths_are_in_mm_of_the_sign():
    assert bar().mm_per_pixel == 50
    assert bar().box_mm == (0, 400, 200, 400)


@pytest.mark.parametrize(
    ("rgba", "words"),
    [
        (torch.zeros(3, 8, 8), "shape"),
        (torch.zeros(4, 8, 8), "covers no place"),
        (torch.full((4, 8, 8), 1.5), r"\[0, 1\]"),
        (torch.full((4, 8, 8), torch.nan), "finite"),
    ],
)
def test_what_is_no_sticker_is_refused_in_one_sentence(rgba, words: str):
    with pytest.raises(InputError, match=words):
        Sticker(rgba)


def test_a_folder_without_a_sticker_and_a_damaged_one_are_said(tmp_path):
    with pytest.raises(InputError, match="is missing"):
        Sticker.load(tmp_path)
    bar().save(tmp_path)
    (tmp_path / "sticker.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="damaged"):
        Sticker.load(tmp_path)
    bar().save(tmp_path)
    (tmp_path / "sticker.json").write_text("{}")
    with pytest.raises(InputError, match="damaged"):
        Sticker.load(tmp_path)


def test_the_square_is_wider_than_the_sign_and_is_kept(tmp_path):
    whole = bar()
    octagon = replace(whole, filled=0.8)
    assert octagon.square_mm == whole.square_mm / 0.8
    assert octagon.mm_per_pixel == whole.mm_per_pixel / 0.8
    octagon.save(tmp_path)
    assert Sticker.load(tmp_path).filled == 0.8
    with pytest.raises(InputError, match="filled is 0"):
        replace(whole, filled=0.0)
