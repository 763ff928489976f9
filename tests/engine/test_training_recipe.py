"""Recipes: what can be asked for, the learning rate of each step, augmentation, recipe files."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from advkit.core import L1, L2, Linf, Rng
from advkit.engine.training import Recipe, ball_of, learning_rate
from advkit.engine.training.augment import augmented, mixed, read_augmentation
from advkit.engine.training.file import aimed, read_recipe
from advkit.errors import InputError, UnknownName

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"schedule": "cosin"}, "'cosin'.*Did you mean 'cosine'"),
        ({"optimizer": "sgdm"}, "'sgdm'.*'sgd'"),
        ({"augment": "crop+flipp"}, "'flipp'.*'flip'"),
        ({"augment": "crop:x"}, "'crop:x' has wrong numbers"),
        ({"augment": "mixup:0"}, "'mixup:0' has wrong numbers"),
        ({"schedule": "piecewise"}, "milestones"),
        ({"milestones": "10,5", "schedule": "piecewise"}, "rising epochs"),
        ({"milestones": "5"}, "give both"),
        ({"warmup": 2.0}, "rises by itself"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is -0.1"),
        ({"validation": -1}, "validation is -1"),
        ({"clip_norm": math.inf}, "clip_norm is inf"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Recipe(**settings)  # type: ignore[arg-type]


def rates(total: int = 40, **settings: object) -> list[float]:
    recipe = Recipe(epochs=10, learning_rate=0.5, **settings)  # type: ignore[arg-type]
    return [learning_rate(recipe, step, total) for step in range(total)]


def test_the_one_cycle_rate_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    torchs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=40, pct_start=0.3, cycle_momentum=False)
    for rate in rates():
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if torchs.last_epoch < 39:
            torchs.step()


def test_a_piecewise_rate_falls_at_its_milestones() -> None:
    found = rates(schedule="piecewise", milestones="5,8", gamma=0.1)
    assert found == pytest.approx([0.5] * 20 + [0.05] * 12 + [0.005] * 8)


def test_a_cosine_rate_falls_from_the_highest_towards_0_after_a_linear_rise() -> None:
    found = rates(schedule="cosine", warmup=2.5)
    assert max(found) == found[10] == 0.5
    assert all(b > a for a, b in pairwise(found[:11]))
    assert all(b < a for a, b in pairwise(found[10:]))
    assert 0 < found[-1] < 0.01


def test_a_cyclic_rate_rises_and_falls_on_straight_lines() -> None:
    found = rates(39, schedule="cyclic")
    assert found[19] == 0.5
    assert found == pytest.approx(found[::-1])
    assert found[1] - found[0] == pytest.approx(found[11] - found[10])


def streams(count: int) -> Rng:
    return Rng.of(0, torch.arange(count))


def test_cropped_and_flipped_pictures_are_torchvisions() -> None:
    x = torch.rand(30, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    moved = augmented(x, read_augmentation("crop:2+flip"), 0, streams(30))
    seen = set()
    for i in range(30):
        padded = functional.pad(x[i], [2, 2, 2, 2])
        for top in range(5):
            for left in range(5):
                window = functional.crop(padded, top, left, 6, 6)
                for flipped, picture in ((False, window), (True, functional.horizontal_flip(window))):
                    if torch.equal(picture, moved[i]):
                        seen.add((top, left, flipped))
    assert len(seen) > 15
    assert {flipped for _, _, flipped in seen} == {True, False}


def test_a_turned_picture_shows_a_point_no_further_off_than_the_angle_allows() -> None:
    """A spot of light, in pictures that are wider than high: turning keeps its distance from the centre."""
    x = torch.zeros(40, 1, 33, 65)
    x[:, :, 15:18, 51:54] = 1  # centre at (16.5, 52.5): 20 pixels to the right of the picture's centre
    turned = augmented(x, read_augmentation("affine:30,0,0,0"), 0, streams(40))
    down, across = (torch.arange(side) + 0.5 - side / 2 for side in (33, 65))
    light = turned.sum((1, 2, 3))
    y, z = (turned.sum((1, 3)) * down).sum(1) / light, (turned.sum((1, 2)) * across).sum(1) / light
    angle = torch.atan2(y, z).rad2deg()
    assert (y.square() + z.square()).sqrt().sub(20).abs().max() < 0.2
    assert angle.abs().max() <= 30
    assert angle.min() < -20
    assert angle.max() > 20


def test_zoom_and_place_stay_in_what_was_asked_for() -> None:
    x = torch.zeros(40, 1, 32, 32)
    x[:, :, 12:20, 12:20] = 1
    zoomed = augmented(x, read_augmentation("affine:0,0,0.25,0"), 0, streams(40)).sum((1, 2, 3)) / 64
    assert zoomed.min() >= 1 / 1.25**2 - 0.02
    assert zoomed.max() <= 1.25**2 + 0.02
    assert zoomed.max() > 1.3
    moved = augmented(x, read_augmentation("affine:0,0.125,0,0"), 0, streams(40))
    places = (moved.sum((1, 3)) * torch.arange(32)).sum(1) / moved.sum((1, 2, 3)) - 15.5
    assert places.abs().max() <= 4.01
    assert places.abs().max() > 3
    assert torch.equal(augmented(x, read_augmentation("affine:0,0,0,0"), 0, streams(40)), x)


def test_light_and_colour_change_by_no_more_than_asked() -> None:
    x = 0.2 + 0.2 * torch.rand(50, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    brighter = augmented(x, read_augmentation("jitter:0.5,0,0"), 0, streams(50))
    factor = (brighter / x).flatten(1)
    assert (factor.amax(1) - factor.amin(1)).max() < 1e-4
    assert 1 / 1.5 - 1e-4 <= factor.min() < 0.75
    assert 1.35 < factor.max() <= 1.5 + 1e-4
    contrast = augmented(x, read_augmentation("jitter:0,0.5,0"), 0, streams(50))
    assert torch.allclose(contrast.mean((1, 2, 3)), x.mean((1, 2, 3)), atol=1e-5)
    assert ((contrast.std((1, 2, 3)) / x.std((1, 2, 3))).amax() - 1.5).abs() < 0.15
    grey = x.mean(1, keepdim=True).expand_as(x)
    assert torch.allclose(augmented(grey, read_augmentation("jitter:0,0,0.9"), 0, streams(50)), grey, atol=1e-6)
    assert not torch.allclose(augmented(x, read_augmentation("jitter:0,0,0.9"), 0, streams(50)), x, atol=0.02)


@pytest.mark.parametrize(
    "chain", ["shift:1", "crop", "flip", "randaugment:2,9", "affine", "jitter", "crop:1+flip+randaugment"]
)
def test_a_picture_is_augmented_alone_as_in_a_batch_and_torchs_generator_is_left_alone(chain: str) -> None:
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    whole = augmented(x, read_augmentation(chain), 2, streams(8))
    assert torch.equal(before, torch.get_rng_state())
    alone = augmented(x[3:4], read_augmentation(chain), 2, streams(8).take(slice(3, 4)))
    assert torch.equal(whole[3:4], alone)
    assert not torch.equal(whole, x)
    assert torch.equal(x, torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("name", ["cutmix", "mixup"])
def test_mixing_is_torchvisions_of_each_picture_with_the_one_before(name: str) -> None:
    x, y = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 3
    before = torch.get_rng_state()
    pictures, labels = mixed(x, y, read_augmentation(f"{name}:0.7"), 3, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs, of_theirs = {"cutmix": v2.CutMix, "mixup": v2.MixUp}[name](alpha=0.7, num_classes=3)(x, y)
    assert torch.equal(pictures, theirs)
    assert torch.equal(labels, of_theirs)
    assert labels.sum(1).allclose(torch.ones(6))
    share = labels[1, 1]
    if name == "mixup":
        assert pictures[1].allclose(share * x[1] + (1 - share) * x[0])


def test_the_radius_reaches_the_objective_inside_a_modifier() -> None:
    assert ball_of(aimed("pgd-at:steps=3+awp", {}, "2/255")) == Linf("2/255")
    assert ball_of(aimed("trades", {"beta": "3"}, None)) == Linf("8/255")
    assert ball_of(aimed("standard", {}, None)) is None
    assert ball_of(aimed("pgd-at+awp", {}, "0.5", "l2")) == L2("0.5")
    assert ball_of(aimed("trades", {}, "12", "L1")) == L1("12")
    with pytest.raises(InputError, match="give --eps too"):
        aimed("trades", {}, None, "l2")
    with pytest.raises(UnknownName, match="'l3' is not the name of a norm"):
        aimed("trades", {}, "1", "l3")
    with pytest.raises(InputError, match="--eps reaches nothing"):
        aimed("standard+awp", {}, "2/255")
    with pytest.raises(InputError, match=r"'tradess'.*'trades'"):
        aimed("tradess", {}, None)


def test_the_norm_stays_the_objectives_own() -> None:
    ball = ball_of(aimed("smoothadv", {}, "0.25"))
    assert isinstance(ball, L2)
    assert ball.eps == 0.25


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_that_is_shipped_can_be_followed_and_says_what_it_should_reach(path: Path) -> None:
    held = read_recipe(path)
    assert held.train.keys() >= {"model", "data", "defense"}
    objective = aimed(held.train["defense"], {}, held.train.get("eps"))
    ball = ball_of(objective)
    assert (ball is None) == (held.train["defense"].partition(":")[0] in ("standard", "cutout"))
    if ball is not None:
        assert ball == Linf(held.train["eps"])
    assert held.published["source"]
    assert str(held.published.get("clean", "98.97")) in path.read_text().split("[train]")[0].replace(
        "No number", "98.97"
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("[recipe]\nepoch = 3", ("[recipe]", "'epoch'", "'epochs'")),
        ("[recipe]\nepochs = 'many'", ("[recipe]", "epochs", "whole number")),
        ("[recipe]\nschedule = 'cosin'", ("'cosin'", "'cosine'")),
        ("[train]\nmodle = 'resnet'", ("[train]", "'modle'", "'model'")),
        ("[train]\nsamples = 'all'", ("samples", "a whole number")),
        ("[trian]\nmodel = 'resnet'", ("'trian'", "'train'")),
        ("epochs = 3", ("'epochs'", "belongs under [recipe]")),
        ("train = 3", ("train is 3", "[train]")),
        ("[train", ("is not TOML",)),
    ],
)
def test_recipe_files_that_cannot_be_used_are_refused_by_place(
    tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        read_recipe(path)
    said = str(refused.value)
    assert said.startswith(str(path))
    assert all(part in said for part in parts), said
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")
