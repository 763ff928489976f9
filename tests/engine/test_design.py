"""One physical sticker: the search, what it may not touch, and how its success is counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import conv_net
from torch import Tensor, nn

from advkit.core.rng import Rng
from advkit.data.signs import Signs
from advkit.engine.design import PRESETS, OnPhotos, OnSign, Recipe, auto_mask, mask_of, optimise, rendered, score
from advkit.engine.design.masks import salient
from advkit.errors import InputError
from advkit.scene import PICTURE_VIEWS, Camera, View, Views
from advkit.scene.printing import Palette, nps
from advkit.scene.sticker import Sticker

INK = Palette.of("ink")
QUICK = Recipe(steps=12, views=4, cell_mm=90.0)
COVER = Signs(count=1).face(Signs(count=1).classes.index("stop"), 64)[3]


class Brightness(nn.Module):
    """Two classes: 0 where the picture's middle is darker than a level, 1 where it is brighter; and a third, never."""

    def __init__(self, level: float = 0.5) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, :, 8:24, 8:24].mean((1, 2, 3)) - self.level
        return torch.stack([-20 * bright, 20 * bright, bright - 50], 1)


def dark_sign(size: int = 32) -> OnSign:
    """A dark square sign before a dark background, seen without much trouble."""
    face = torch.full((4, 64, 64), 0.2)
    face[3] = 1
    views = Views(distance=(3.0, 6.0), yaw=(-20.0, 20.0), gain=(0.9, 1.1), jpeg=(0, 0), motion=(0.0, 1.0))
    return OnSign(face, torch.full((2, 3, size, size), 0.2), views, Camera(size=size))


def middle(size: int = 64) -> Tensor:
    mask = torch.zeros(size, size)
    mask[size // 4 : -size // 4, size // 4 : -size // 4] = 1
    return mask


def seen(stage: OnSign | OnPhotos, count: int = 20, seed: int = 5):
    return stage.draw(Rng.of(seed, torch.ones(1, dtype=torch.long)).fold("test"), count)


def made(stage, recipe: Recipe = QUICK, mask: Tensor | None = None, target: int | None = 1, net=None) -> Sticker:
    mask = middle(len(stage.cover)) if mask is None else mask
    colours = optimise(net or Brightness(0.35), stage, mask, 0, target, recipe).colours
    return Sticker(torch.cat([colours * mask, mask[None]]), mode=recipe.mode)


@pytest.mark.parametrize("target", [1, None])
@pytest.mark.parametrize("colours", ["palette", "free", "black-white"])
def test_a_sticker_turns_what_it_covers_into_the_target_on_views_it_has_not_seen(colours, target):
    stage = dark_sign()
    sticker = made(stage, replace(QUICK, colours=colours, lr=0.5), target=target)
    found = score(Brightness(0.35), stage, sticker, seen(stage), 0, target, title="t", print_model="snap", palette=INK)
    assert (found.seen, found.right) == (20, 20)
    assert found.digital >= 18
    assert found.printed >= 17
    assert found.commonest == 1


def test_the_grey_control_is_the_same_mask_in_grey():
    stage = dark_sign()
    sticker = made(stage)
    found = score(Brightness(0.33), stage, sticker, seen(stage), 0, 1, title="t", print_model="none", palette=INK)
    # half of the sign's side in .5 over .2: bright enough for a low level, not for a high one
    strict = score(Brightness(0.6), stage, sticker, seen(stage), 0, 1, title="t", print_model="none", palette=INK)
    assert found.grey > strict.grey == 0


def test_success_is_counted_where_the_clean_view_is_right_and_nowhere_else():
    photos = torch.full((4, 3, 32, 32), 0.2)
    photos[2:] = 0.9
    stage = OnPhotos(photos)
    sticker = Sticker(torch.ones(4, 32, 32))
    found = score(Brightness(), stage, sticker, stage.whole(), 0, 1, title="t", print_model="none", palette=INK)
    assert (found.seen, found.right, found.digital) == (4, 2, 2)
    nothing = score(Brightness(), stage, sticker, stage.whole(), 2, 1, title="t", print_model="none", palette=INK)
    assert nothing.right == 0
    assert nothing.rate(nothing.digital) is None


def test_palette_stickers_can_be_printed_as_they_are_and_are_read_alike():
    stage = dark_sign()
    sticker = made(stage)
    mask = sticker.rgba[3]
    assert float(nps(sticker.rgba[None, :3], INK, mask)) == 0
    for level in (0.3, 0.5):
        found = score(Brightness(level), stage, sticker, seen(stage), 0, 1, title="t", print_model="snap", palette=INK)
        assert found.digital == found.printed


def test_the_model_comes_back_as_it_was():
    net = conv_net(norm=True, dtype=torch.float32).train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    net[0].weight.grad = torch.ones_like(net[0].weight)

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(nn.functional.adaptive_avg_pool2d(x, 8))

    before = torch.get_rng_state()
    stage = dark_sign()
    made(stage, net=Small())
    assert net.training
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_seed_gives_the_same_sticker_and_another_seed_another():
    stage = dark_sign()
    assert torch.equal(made(stage).rgba, made(stage).rgba)
    assert not torch.equal(made(stage).rgba, made(stage, replace(QUICK, seed=1)).rgba)


def test_the_gradient_of_a_step_is_that_of_the_mean_over_its_views():
    from advkit.core.goal import Targeted
    from advkit.engine.design.optimise import _Search, passes_of

    stage, mask, net = dark_sign(), middle(), Brightness()
    recipe = replace(QUICK, colours="free", print_model="none", nps_weight=0.0, tv_weight=0.0, lam=0.0)
    goal = Targeted(torch.tensor([1]))
    search = _Search(passes_of(net, torch.zeros(3, 32, 32), torch.tensor([0])), stage, mask, goal, recipe, 750.0)
    theta = search.paint.start(search.streams).requires_grad_()
    rng = search.streams.fold(3)
    found = search.gradient(theta, 1.0, rng)
    again = search.gradient(theta, 1.0, rng)
    ways = stage.draw(rng, recipe.views)
    loss = [
        -net(
            stage.show(search.paint.colours(theta, 1.0)[None], mask, "replace", ways.take(slice(k, k + 1)))
        ).log_softmax(1)[0, 1]
        for k in range(recipe.views)
    ]
    (wanted,) = torch.autograd.grad(torch.stack(loss).mean(), theta)
    assert torch.allclose(found, wanted, atol=1e-7)
    assert torch.equal(found, again)  # nothing is added up from step to step


def test_what_is_asked_of_the_sticker_itself_is_what_it_is_asked_for():
    stage = dark_sign()
    free = replace(
        QUICK, colours="free", print_model="none", nps_weight=0.0, tv_weight=0.0, lam=0.0, cell_mm=0.0, lr=0.3, steps=25
    )
    plain = made(stage, free).rgba
    rp2 = Palette.of("rp2")  # without white, which is what the model is beaten by
    printable = made(stage, replace(free, palette=rp2, nps_weight=50.0)).rgba
    quiet = made(stage, replace(free, lam=50.0)).rgba
    mask = middle()
    assert float(nps(printable[None, :3], rp2, mask)) < 0.6 * float(nps(plain[None, :3], rp2, mask))
    under, inside = stage.under, mask > 0
    assert float((quiet[:3] - under)[:, inside].norm()) < 0.6 * float((plain[:3] - under)[:, inside].norm())


def test_an_interrupted_search_keeps_what_it_found():
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    found = optimise(Brightness(), dark_sign(), middle(), 0, 1, QUICK, progress=stop)
    assert found.interrupted
    assert found.steps == 3
    assert found.colours.shape == (3, 64, 64)


def test_one_sticker_serves_many_photos_and_the_code_s_preset_adds_instead_of_covering():
    photos = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.4
    mask = middle(32)
    for recipe, stage in (
        (replace(QUICK, cell_mm=0.0, views=6), OnPhotos(photos, PICTURE_VIEWS)),
        (replace(PRESETS["rp2-code"], steps=12), OnPhotos(photos)),
    ):
        sticker = made(stage, recipe, mask)
        found = score(Brightness(0.4), stage, sticker, stage.whole(), 0, 1, title="t", print_model="none", palette=INK)
        assert found.digital == found.right == 6
        assert sticker.mode == recipe.mode


def test_the_clean_picture_and_that_with_the_sticker_share_their_view():
    stage = dark_sign()
    ways = seen(stage)
    nothing = torch.full((1, 3, 64, 64), 0.9)
    clean = stage.show(None, torch.zeros(64, 64), "replace", ways)
    assert torch.equal(stage.show(nothing, torch.zeros(64, 64), "replace", ways), clean)
    assert not torch.equal(stage.show(nothing, middle(), "replace", ways), clean)
    frontal = stage.looking(View.of(distance=[4.0, 4.0]))
    assert torch.equal(*stage.show(None, middle(), "replace", frontal))


@pytest.mark.parametrize(
    "text", ["bars", "poster", "0.3,0.3;0.7,0.3;0.7,0.7;0.3,0.7", "225,225;525,225;525,525;225,525"]
)
def test_a_mask_lies_on_the_sign(text: str):
    mask = mask_of(text, COVER, 750.0)
    assert bool(((mask == 0) | (mask == 1)).all())
    assert bool((COVER[mask > 0] > 0.5).all())
    assert 0.1 < float(mask.sum() / COVER.sum()) <= 1.01


def test_a_polygon_in_mm_is_the_same_as_in_shares():
    shares = mask_of("0.3,0.3;0.7,0.3;0.5,0.7", COVER, 750.0)
    assert torch.equal(shares, mask_of("225,225;525,225;375,525", COVER, 750.0))
    assert float(shares.mean()) == pytest.approx(0.08, abs=0.005)


def test_rectangles_are_laid_where_the_strength_is_and_keep_to_the_budget():
    strength = torch.zeros(64, 64)
    strength[20:28, 16:40] = 1.0
    mask = salient(strength, COVER, 0.08, pieces=2)
    assert float((mask * COVER).sum() / COVER.sum()) <= 0.08
    assert float((mask * strength).sum()) > 0.6 * min(float(strength.sum()), float(mask.sum()))
    with pytest.raises(InputError, match="no room"):
        salient(strength, torch.zeros(64, 64), 0.5)


def test_the_automatic_mask_finds_where_the_model_looks():
    mask = auto_mask(Brightness(), dark_sign(), 0, 1, replace(QUICK, views=2), 0.06, pieces=1)
    rows, columns = mask.nonzero().double().mean(0).tolist()
    assert float(mask.mean()) <= 0.06
    assert abs(rows - 31.5) < 18
    assert abs(columns - 31.5) < 18


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.01,0.01;0.02,0.01;0.02,0.02", "outside the sign|empty"),
        ("2000,2000;3000,2000;3000,3000", "leaves the sign's square"),
        ("1,2;3", "cannot be read"),
        ("bar", "Did you mean 'bars'"),
    ],
)
def test_a_mask_that_is_none_is_refused_in_one_sentence(text: str, words: str):
    with pytest.raises(InputError, match=words):
        mask_of(text, COVER, 750.0)


def test_settings_that_cannot_be_are_refused():
    for wrong in (
        {"steps": 0},
        {"views": 0},
        {"lam": -1.0},
        {"lr": 0.0},
        {"norm": "l3"},
        {"colours": "blue"},
        {"mode": "add"},
    ):
        with pytest.raises(InputError):
            Recipe(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="own class"):
        optimise(Brightness(), dark_sign(), middle(), 0, 0, QUICK)
    with pytest.raises(InputError, match="above 0"):
        auto_mask(Brightness(), dark_sign(), 0, 1, QUICK, 0.0)
    with pytest.raises(InputError, match="Did you mean 'stop'"):
        rendered("stpo", 32, 750.0)


def test_a_polygon_in_mm_is_measured_from_the_edge_of_the_sign():
    # A sign of 600 mm in a square of 750: 75 mm of it stand on every side.
    cover = torch.ones(100, 100)
    mask = mask_of("0,0;300,0;300,600;0,600", cover, 600.0, 0.8)
    assert torch.equal(mask.amax(0).nonzero().flatten(), torch.arange(10, 50))
    assert torch.equal(mask.amax(1).nonzero().flatten(), torch.arange(10, 90))
    assert torch.equal(mask, mask_of("0,0;0.5,0;0.5,1;0,1", cover, 600.0, 0.8))


def test_a_drawn_stop_sign_of_750_mm_has_cells_of_30_mm():
    stage = rendered("stop", 32, 750.0, backgrounds=1)
    assert (stage.camera.width, stage.filled) == (0.75, pytest.approx(0.9084, abs=1e-4))
    # 128 pixels of a square of 825.6 mm, so five of them are 32.3 mm wide and four 25.8
    assert Recipe().paint(128, 750.0 / stage.filled).cells.cell == 5
    assert Recipe().paint(128, 750.0).cells.cell == 6
