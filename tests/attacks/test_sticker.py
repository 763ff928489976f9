"""Stickers for one picture: what they cover, with which colours, and that they are the best there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import linear, pictures, trained
from PIL import Image
from test_roa import Window

from advkit.attacks import Sticker
from advkit.attacks._masks import fitted_mask, read_mask
from advkit.core import Area, Linf, Margin
from advkit.errors import InputError
from advkit.scene.printing import Palette, nps, total_variation


@pytest.fixture
def mask(tmp_path):
    """A file that is light in 3 x 4 of 8 x 8 pixels, and those pixels."""
    on = np.zeros((8, 8), dtype=np.uint8)
    on[2:5, 1:5] = 255
    path = tmp_path / "mask.png"
    Image.fromarray(on).save(path)
    return str(path), torch.from_numpy(on > 0)


def test_on_a_linear_model_the_colours_become_the_sign_of_the_weights(mask):
    path, on = mask
    model, x = linear(2, seed=3), pictures(5)
    y = model(x).argmax(1)
    slope = (model[1].weight[1] - model[1].weight[0]).detach() * torch.where(y == 0, 1.0, -1.0)[:, None]
    found = Sticker(Area(0.2), mask=path, steps=60, loss=Margin())(model, x, y, keep="last")
    assert torch.equal(found, torch.where(on, (slope.reshape(x.shape) > 0).to(x), x))


@pytest.mark.parametrize("corner", [(0, 0), (5, 5), (0, 4)], ids=str)
def test_the_mask_auto_lies_where_the_model_looks(corner):
    x = 0.6 + 0.4 * pictures(3)
    found = Sticker(Area(9 / 64), pieces=1, steps=40)(Window(*corner), x, torch.zeros(3, dtype=torch.long), keep="last")
    top, left = corner
    changed = (found != x).any(1)
    assert bool(changed[:, top : top + 3, left : left + 3].all())
    assert int(changed.sum()) == 27


def test_one_step_lays_a_sticker_already():
    model, x, y = trained()
    found = Sticker(Area(0.1), pieces=1, steps=1)(model, x[:4], y[:4], keep="last")
    assert bool(((found != x[:4]).any(1).flatten(1).sum(1) == 6).all())


def test_pieces_are_rectangles_apart_within_the_area():
    model, x, y = trained()
    x, y = x[:8], y[:8]
    for pieces, covered in ((1, 16), (2, 12), (4, 16)):
        found = Sticker(Area(16 / 64), pieces=pieces, steps=20)(model, x, y, keep="last")
        count = (found != x).any(1).flatten(1).sum(1)
        assert bool((count == covered).all())


def test_colours_of_a_palette_are_exactly_those():
    model, x, y = trained()
    found = Sticker(Area(0.2), colours="palette", palette="tape", steps=40)(model, x[:8], y[:8], keep="best")
    x = x[:8]
    changed = (found != x).any(1)
    assert bool(changed.any())
    assert float(nps(found, Palette.of("tape"), changed).max()) == 0


def test_a_cell_has_one_colour(mask):
    path, _ = mask
    model, x, y = trained()
    found = Sticker(Area(0.2), mask=path, cell=2, steps=10)(model, x, y, keep="last")
    assert torch.equal(found[:, :, 2, 2:4], found[:, :, 3, 2:4])
    assert torch.equal(found[:, :, 2, 2], found[:, :, 2, 3])
    assert not torch.equal(found[:, :, 2, 3], found[:, :, 2, 4])


@pytest.mark.parametrize("weight", ["nps", "tv", "lam"])
def test_a_penalty_lowers_what_it_is_on(mask, weight):
    path, on = mask
    model, x, y = trained()
    x, y = x[:8], y[:8]
    measures = {
        "nps": lambda found: nps(found, Palette.of("ink"), on),
        "tv": lambda found: total_variation(found, on),
        "lam": lambda found: (found - x).flatten(1).norm(dim=1),
    }
    plain, held = (
        Sticker(Area(0.2), mask=path, steps=40, **{weight: value})(model, x, y, keep="last") for value in (0.0, 30.0)
    )
    assert float(measures[weight](held).mean()) < 0.7 * float(measures[weight](plain).mean())


def test_views_steer_and_the_picture_itself_is_judged(mask):
    path, on = mask
    model, x, y = trained()
    x, y = x[:4], y[:4]
    found = Sticker(Area(0.2), mask=path, steps=8, views=3)(model, x, y, keep="last")
    assert torch.equal(found.where(~on, 0.0), x.where(~on, 0.0))
    assert not torch.equal(found, Sticker(Area(0.2), mask=path, steps=8)(model, x, y, keep="last"))


def test_a_preset_gives_way_to_what_is_set():
    paper, code = Sticker(preset="rp2-paper"), Sticker(preset="rp2-code")
    assert (paper.lam, paper.nps, paper.views, paper.compose) == (0.02, 5.0, 8, "replace")
    assert (code.lam, code.nps, code.views, code.compose) == (0.02, 0.0, 1, "add")
    assert Sticker(preset="rp2-paper", nps=0.0, views=2).nps == 0
    assert Sticker(preset="rp2-paper", nps=0.0, views=2).views == 2
    assert (Sticker().lam, Sticker().nps, Sticker().tv, Sticker().views) == (0, 0, 0, 1)


def test_the_code_of_the_authors_adds(mask):
    path, on = mask
    model, x, y = trained()
    found = Sticker(Area(0.2), mask=path, preset="rp2-code", steps=1, step_size=1e-9)(model, x, y, keep="last")
    assert bool((found >= x)[:, :, on].all())  # what it adds is drawn from [0, 1]


def test_controls_of_a_mask_have_that_mask(mask):
    path, on = mask
    model, x, y = trained()
    for _, control in Sticker(Area(0.2), mask=path).controls():
        assert torch.equal((control(model, x, y, keep="last") != x).any(1), on.expand(len(x), -1, -1))


def test_settings_that_make_no_sense_are_refused_by_a_sentence(mask, tmp_path):
    path, _ = mask
    Image.new("L", (8, 8)).save(tmp_path / "dark.png")
    (tmp_path / "text.png").write_text("no picture")
    for settings, message in (
        ({"threat": Linf(0.1)}, "Sticker works in Area"),
        ({"pieces": 0}, "Sticker: pieces is 0; give 1 or more."),
        ({"nps": -1.0}, r"Sticker: nps is -1.0; give a weight of 0 or more."),
        ({"mask": "nowhere.png"}, "Sticker: mask is 'nowhere.png', and there is no such file; give auto, or a picture"),
        ({"mask": str(tmp_path / "dark.png")}, "has no light pixel: nothing would be covered"),
        ({"mask": str(tmp_path / "text.png")}, "which is no picture file"),
        ({"colours": "palette", "palette": "rainbow"}, "'rainbow' is not the name of a palette"),
        ({"colours": "palette", "compose": "add"}, "colours of a palette are stuck on, not added"),
    ):
        with pytest.raises(InputError, match=message):
            Sticker(**settings)
    model, x, y = trained()
    with pytest.raises(
        InputError, match=r"covers 12 of the 64 pixels .* and eps allows 3; give an eps of 0.1875 or more"
    ):
        Sticker(Area(0.05), mask=path)(model, x, y)
    with pytest.raises(
        InputError, match="palettes and views are for pictures in three colours, and these have 1 channels"
    ):
        Sticker(Area(0.1), views=2)(linear(3, (1, 8, 8)), pictures(2, (1, 8, 8)), torch.zeros(2, dtype=torch.long))


def test_a_mask_of_another_size_is_scaled_and_one_of_other_proportions_refused_with_both_sizes(tmp_path: Path) -> None:
    for name, size in (("large", (64, 64)), ("wide", (64, 32))):
        picture = Image.new("L", size)
        picture.paste(255, (0, 0, size[0] // 4, size[1] // 4))
        picture.save(tmp_path / f"{name}.png")
    x = torch.rand(2, 3, 16, 16)
    large, wide = (read_mask(str(tmp_path / f"{name}.png"), "mask", "a file") for name in ("large", "wide"))
    assert int(fitted_mask(large, "large.png", 16, x).sum()) == 16
    with pytest.raises(InputError) as caught:
        fitted_mask(wide, "wide.png", 16, x)
    assert str(caught.value) == (
        "the mask wide.png is 64 x 32 pixels and the pictures are 16 x 16, so it would be stretched; give one of their "
        "proportions, of any size."
    )
    assert fitted_mask(wide, "wide.png", 32, torch.rand(1, 3, 10, 21)).any(), "21 x 10 is within a pixel of it"
