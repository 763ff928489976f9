"""The patch: what it covers, where it lies, and what it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import linear, pictures, trained
from PIL import Image

from advkit.attacks import Patch
from advkit.core import Area, Linf, Margin, Rng, Targeted, Untargeted
from advkit.core.rng import identify
from advkit.data import TensorData
from advkit.engine.fitting import fit
from advkit.errors import InputError


@pytest.fixture
def cross(tmp_path):
    on = np.zeros((12, 12), dtype=np.uint8)
    on[4:8], on[:, 4:8] = 255, 255
    Image.fromarray(on).save(tmp_path / "cross.png")
    return str(tmp_path / "cross.png")


@pytest.mark.parametrize("form", ["round", "square", "cross"])
@pytest.mark.parametrize("eps", [0.02, 0.1, 0.5, 1.0])
def test_no_place_or_angle_covers_more_than_its_area_or_much_less(form, eps, cross):
    x = 0.1 + 0.3 * pictures(200, (3, 16, 16))
    patch = Patch(Area(eps), shape=cross if form == "cross" else form, rotation=180)
    rng = Rng.of(0, identify(x))
    thing = torch.ones_like(patch.begin(x[:1], rng.take(slice(1))).thing)
    covered = (patch.shown(thing, x, rng) != x).any(1).double().mean((1, 2))
    assert float(covered.max()) <= eps
    assert float(covered.mean()) >= 0.7 * eps * (1 if eps < 0.5 else 0.7)  # what is turned out of the picture is lost


def test_a_white_patch_on_white_leaves_white():
    x = torch.ones(20, 3, 16, 16)
    shown = Patch(Area(0.2), rotation=180).shown(torch.ones(3, 8, 8), x, Rng.of(0, torch.arange(20)))
    torch.testing.assert_close(shown, x, rtol=0, atol=1e-6)  # without a dark edge


def test_places_and_angles_are_the_pictures_own():
    x = 0.1 + 0.3 * pictures(60, (3, 16, 16))
    patch, rng = Patch(Area(0.05), shape="square", rotation=0), Rng.of(0, identify(x))
    shown = patch.shown(torch.ones(3, 4, 4), x, rng)
    assert torch.equal(patch.shown(torch.ones(3, 4, 4), x[7:9], rng.take(slice(7, 9))), shown[7:9])
    middle = torch.stack([(part.nonzero().double().mean(0)) for part in (shown != x).any(1)])
    assert bool((middle.amin(0) < 4).all())
    assert bool((middle.amax(0) > 11).all())


def test_an_upright_patch_as_large_as_the_picture_becomes_the_sign_of_the_weights():
    model, x = linear(2, seed=3), pictures(60)
    y = model(x).argmax(1)
    label = int(y.mode().values)
    x, y = x[y == label], y[y == label]
    slope = (model[1].weight[1 - label] - model[1].weight[label]).detach().reshape(3, 8, 8)
    patch = Patch(Area(1.0), shape="square", rotation=0, smallest=1, steps=60, loss=Margin())
    for optimizer in ("adam", "sign"):
        found = fit(replace(patch, optimizer=optimizer), model, TensorData(x.float(), y))
        assert torch.equal(found.thing, (slope > 0).to(found.thing))
        torch.testing.assert_close(found(model, x, y, keep="last"), (slope > 0).to(x).expand_as(x))


def test_what_it_learned_holds_on_pictures_that_it_never_saw():
    model, x, y = trained()
    seen, others = TensorData(x[:20].float(), y[:20]), slice(20, None)
    patch = Patch(Area(0.25), steps=60)
    for goal, target in ((Untargeted(y[others]), None), (Targeted(torch.full_like(y[others], 2)), "2")):
        found = fit(patch, model, seen, target=target)
        gains = {}
        for name, attack in (("patch", found), *found.controls()):
            shown = attack(model, x[others], goal, keep="last")
            gains[name] = float(goal.gain(model(shown).log_softmax(1)).detach().mean())
        assert gains["patch"] > max(gains["random"], gains["grey"]) + 0.3, gains


def test_restarts_are_other_places_and_the_worst_counts():
    model, x, y = trained()
    patch = fit(Patch(Area(0.15), steps=20), model, TensorData(x[:16].float(), y[:16]))
    once, often = (int((model(replace(patch, restarts=n)(model, x, y)).argmax(1) != y).sum()) for n in (1, 12))
    assert often > once


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threat": Linf(0.1)}, "Patch works in Area, where eps is a share of the picture, not in Linf 0.1."),
        ({"steps": 0}, "Patch: steps is 0; give 1 or more."),
        ({"rotation": 200}, "Patch: rotation is 200; give degrees from 0 to 180."),
        ({"smallest": 0}, r"Patch: smallest is 0; give a share of the full width, in \(0, 1\]."),
        ({"shape": "star"}, "Patch: shape is 'star', and there is no such file; give round, square, or a picture file"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_a_sentence(settings, message):
    with pytest.raises(InputError, match=message):
        Patch(**settings)


def test_an_area_below_a_pixel_is_refused():
    model, x, y = trained()
    with pytest.raises(InputError, match="the area is less than one pixel of a picture of 8x8"):
        fit(Patch(Area(0.01)), model, TensorData(x.float(), y))
