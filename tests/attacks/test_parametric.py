"""Tape, dots, shadows, lights, pixels, rain and stickers: what is drawn stays in its budget, and the search is a search."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Spy, linear, pictures, trained
from scipy import ndimage
from torch import Tensor

from advkit.attacks._controls import Background
from advkit.attacks._parametric import Parametric
from advkit.attacks._renderer import COLOURS
from advkit.attacks._search import SEARCHES, Moves
from advkit.attacks.dots import Dots
from advkit.attacks.fixed_sticker import FixedSticker
from advkit.attacks.light import Light
from advkit.attacks.pixel import Pixel
from advkit.attacks.rain import Rain
from advkit.attacks.shadow import Shadow
from advkit.attacks.tape import Tape
from advkit.backbones import load_model
from advkit.core import L0, L1, Area, Rng, Shade, Veil
from advkit.core.regions import lightness
from advkit.core.rng import identify
from advkit.data import load_data
from advkit.engine.evaluate import evaluate
from advkit.errors import InputError

ATTACKS: list[Parametric] = [
    Tape(Area(0.05), pieces=1),
    Tape(Area(0.01), pieces=3),
    Tape(Area(0.2), pieces=4, palette="red,#00ff80"),
    Dots(Area(0.05)),
    Shadow(),
    Shadow(Shade(0.2), mask="disc"),
    Light(),
    Light(Veil(0.2), shape="hexagon"),
    Pixel(L0(3)),
    Pixel(Area(0.01)),
    Rain(),
    Rain(Area(0.05)),
    FixedSticker(),
]


def drawn(attack: Parametric, x: Tensor, count: int = 40) -> tuple[Tensor, Tensor]:
    """Parameters, the corners of their range among them, and what is rendered of them."""
    renderer = attack.renderer
    size = len(renderer.moves(x).stride)
    theta = Rng.of(1, identify(x)).uniform(count, size, dtype=x.dtype)
    theta = torch.cat([theta, torch.zeros_like(theta[:, :1]), torch.ones_like(theta[:, :1])], 1)
    return theta, renderer.render(theta, x, renderer.canvas(x, attack.threat), attack.threat)


def repeated(x: Tensor, shown: Tensor) -> Tensor:
    return x[:, None].expand_as(shown).flatten(0, 1)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_whatever_the_parameters_the_picture_is_inside_the_ball(attack, channels):
    x = pictures(3, (channels, 24, 32), dtype=torch.float32)
    x[0] = (x[0] * 1.6 - 0.3).clamp(0, 1)  # black and white among the values
    _, shown = drawn(attack, x)
    inside = attack.threat.contains(shown.flatten(0, 1), repeated(x, shown))
    assert bool(inside.all())
    assert float((shown != x[:, None]).flatten(2).any(2).double().mean()) > 0.5
    distance = attack.threat.distance(shown.flatten(0, 1), repeated(x, shown))
    assert float(distance.max()) > 0.6 * attack.threat.eps  # the budget is spent


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_a_picture_depends_on_its_own_parameters_alone(attack):
    x = pictures(4, (3, 24, 24), dtype=torch.float32)
    theta, shown = drawn(attack, x, 5)
    renderer = attack.renderer
    for row, probe in ((0, 0), (3, 4)):
        alone = x[row : row + 1]
        canvas = renderer.canvas(alone, attack.threat)
        again = renderer.render(theta[row : row + 1, probe : probe + 1], alone, canvas, attack.threat)
        torch.testing.assert_close(again[0, 0], shown[row, probe], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("pieces", [1, 2, 4])
@pytest.mark.parametrize("make", [Tape, Dots])
def test_there_are_no_more_connected_pieces_than_asked_for_and_their_area_is_spent(make, pieces, size):
    for eps in (0.005, 0.02, 0.1):
        attack = make(Area(eps), pieces=pieces)
        x = pictures(2, (3, size, size), margin=0.1)
        _, shown = drawn(attack, x, 60)
        changed = (shown != x[:, None]).any(2).flatten(0, 1).numpy()
        around = np.ones((3, 3))
        assert max(ndimage.label(mask, around)[1] for mask in changed) <= pieces
        assert changed.mean((1, 2)).max() <= eps
        if pieces == 1 and int(eps * size**2) > 15:
            assert changed.mean() > 0.8 * eps


def test_a_strip_is_four_times_as_long_as_wide():
    x = torch.full((1, 3, 64, 64), 0.5, dtype=torch.float64)
    attack = Tape(Area(0.05))
    theta = torch.tensor([[[0.5, 0.5, 0.9, 0.0]]], dtype=torch.float64)
    shown = attack.renderer.render(theta, x, (), attack.threat)[0, 0, 0]
    rows, columns = (shown != 0.5).nonzero().T
    assert int(columns.max() - columns.min() + 1) / int(rows.max() - rows.min() + 1) == pytest.approx(4, rel=0.2)


def test_only_colours_of_the_palette_are_seen():
    x = pictures(2, (3, 32, 32), margin=0.2)
    for palette, colours in (
        ("red,#00ff80", [COLOURS["red"], (0, 1, 128 / 255)]),
        ("black,white", [(0.05,) * 3, (0.95,) * 3]),
    ):
        _, shown = drawn(Tape(Area(0.1), pieces=3, palette=palette), x)
        moved = shown.movedim(2, 4)[(shown != x[:, None]).any(2)]
        near = torch.stack([(moved - torch.tensor(colour, dtype=x.dtype)).abs().amax(1) for colour in colours])
        assert float(near.amin(0).max()) < 1e-12
        assert bool((near.amin(1) < 1e-12).all()), "both are used"


def test_a_shadow_multiplies_the_lightness_inside_and_nothing_outside():
    x = torch.full((1, 3, 32, 32), 0.6, dtype=torch.float64)
    corners = torch.tensor([[[0.5, 0.3, 0.7, 0.7, 0.3, 0.7]]], dtype=torch.float64)  # a triangle around the middle
    attack = Shadow()
    shown = attack.renderer.render(corners, x, attack.renderer.canvas(x, attack.threat), attack.threat)[0]
    share = (lightness(shown) / lightness(x))[0, 0]
    assert float(share[18, 16]) == pytest.approx(0.43, abs=1e-4)
    assert float(share[0, 0]) == 1
    assert 0.05 < float((share < 0.99).double().mean()) < 0.5


def test_two_pixels_on_one_place_are_one():
    x = torch.full((1, 3, 4, 4), 0.5)
    theta = torch.tensor([[[0.3, 0.3, 1.0, 0.0, 0.0, 0.3, 0.3, 0.0, 1.0, 0.0]]])
    shown = Pixel(L0(2)).renderer.render(theta, x, (), L0(2))[0, 0]
    assert shown[:, 1, 1].tolist() == [1, 0, 0]
    assert int((shown != x[0]).any(0).sum()) == 1


def test_a_sticker_of_ones_own_is_turned_and_scaled_to_the_area(tmp_path):
    from PIL import Image

    path = tmp_path / "half.png"
    values = np.zeros((20, 40, 4), np.uint8)
    values[:, :20] = (255, 0, 0, 255)  # the right half is transparent
    Image.fromarray(values, "RGBA").save(path)
    attack = FixedSticker(Area(0.1), picture=str(path))
    x = torch.full((1, 3, 40, 40), 0.5)
    _, shown = drawn(attack, x)
    changed = (shown != 0.5).any(2)
    assert float(changed.double().mean()) == pytest.approx(0.1, rel=0.15)
    assert bool((shown.movedim(2, 4)[changed] == torch.tensor([1.0, 0.0, 0.0])).all())
    for wrong, said in ((tmp_path / "none.png", "cannot be read"), (tmp_path, "cannot be read")):
        with pytest.raises(InputError, match=said):
            FixedSticker(picture=str(wrong))
    Image.fromarray(np.zeros((4, 4, 4), np.uint8), "RGBA").save(path)
    with pytest.raises(InputError, match="transparent everywhere"):
        FixedSticker(picture=str(path))


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_finds_the_top_of_a_hill_better_than_chance(name):
    if name == "cma":
        pytest.importorskip("cmaes")
    search, size, population, rounds = SEARCHES[name], 4, 10, 30
    moves = Moves(torch.full((size,), 0.1), torch.zeros(size, dtype=torch.bool), torch.arange(size) // 2)
    rng = Rng.of(0, torch.arange(6))
    top = torch.tensor([0.2, 0.7, 0.5, 0.9], dtype=torch.float64)

    def climbed(index: Tensor) -> Tensor:
        memory = search.begin(
            rng.take(index).uniform(population, size, dtype=torch.float64), moves, rounds, rng.take(index)
        )
        heights = []
        for step in range(rounds):
            assert bool(((memory.theta >= 0) & (memory.theta <= 1)).all())
            loss = -(memory.theta - top).square().sum(2)
            heights.append(loss.amax(1))
            memory = search.tell(memory, loss, moves, rng.take(index).fold(step))
        return torch.stack(heights).amax(0)

    found = climbed(torch.arange(6))
    assert float(found.mean()) > (-0.06 if name == "random" else -0.01)
    assert torch.equal(climbed(torch.tensor([4])), found[4:5])


@functools.lru_cache(maxsize=1)
def victim():
    data = load_data("signs").head(30)
    return load_model("cnn", data=data), data


@pytest.mark.parametrize(
    "attack",
    [
        Tape(Area(0.03), queries=60),
        Tape(Area(0.03), queries=60, optimiser="pso"),
        Tape(Area(0.03), queries=60, optimiser="de"),
        Tape(Area(0.05), queries=60, optimiser="gradient"),
        Dots(Area(0.03), queries=60),
        Shadow(queries=60),
        Shadow(queries=100, optimiser="gradient"),
        Light(queries=60),
        Light(queries=100, shape="triangle", optimiser="gradient"),
        Pixel(L0(10), queries=160, population=20),
        Rain(queries=60),
        FixedSticker(Area(0.03), queries=60),
    ],
    ids=repr,
)
def test_the_search_beats_the_same_thing_at_random_by_far(attack):
    net, data = victim()
    row = evaluate(net, data, {"it": attack}).rows()[0]
    (kind, random), _ = row.controls
    assert kind == "random"
    assert row.success > random.value + 0.15, (row.success, random)


def test_queries_are_those_that_were_asked_and_never_more_than_allowed():
    model, x, y = trained()
    for attack in (Tape(Area(0.1), queries=23), Shadow(queries=37), Tape(Area(0.1), queries=9, optimiser="gradient")):
        spy = Spy(model)
        found = attack(spy, x[:5], y[:5], keep="last")
        asked = spy.forwards / 5
        assert attack.steps * attack.probes <= attack.queries
        assert asked <= attack.queries + 1 + 2  # the verdict, and the candidate of the last step of a climb
        assert asked >= attack.steps * attack.probes
        assert found.shape == x[:5].shape


def test_one_query_is_the_control_and_the_first_query_of_the_search():
    net, data = victim()
    tape = Tape(Area(0.05), pieces=2)
    found = evaluate(net, data, {"search": tape, "once": replace(tape, optimiser="random", queries=1)})
    search, once = found.outcomes
    assert bool((search.controls[0].success == once.success & once.attacked).all())
    assert bool((once.success & once.attacked <= search.success).all())
    assert int(once.forwards[once.attacked].max()) <= 3


def test_the_background_is_one_draw_of_grey():
    x, y = pictures(6, (3, 32, 32)), torch.zeros(6, dtype=torch.long)
    spy = Spy(linear(3, (3, 32, 32)))
    square = Background(Area(0.05))(spy, x, y, keep="first")
    assert spy.forwards == 6
    changed = (square != x).any(1)
    assert bool((square.movedim(1, 3)[changed] == 0.5).all())
    assert 0.04 < float(changed.double().mean()) <= 0.05
    for ball in (Shade(0.3), Veil(0.3), L0(4)):
        assert bool(ball.contains(Background(ball)(spy, x, y), x).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tape(L1(3)), "Tape works in Area, not in L1."),
        (lambda: Shadow(Area(0.1)), "Shadow works in Shade, not in Area."),
        (lambda: Tape(pieces=0), "Tape: pieces is 0; give 1 to 8."),
        (lambda: Dots(pieces=99), "Dots: pieces is 99; give 1 to 32."),
        (lambda: Rain(pieces=0), "Rain: pieces is 0; give 1 to 100 drops."),
        (lambda: Tape(palette="black,pink"), "Tape: 'pink' in palette is no colour; give black, white, grey,"),
        (lambda: Tape(queries=0), "Tape: queries is 0; give 1 or more."),
        (lambda: Shadow(queries=5), "Shadow: queries is 5, and one generation of pso takes 10; give more queries"),
        (lambda: Tape(optimiser="de", population=3), "Tape: population is 3; the optimiser de takes 5 or more."),
        (
            lambda: Tape(optimiser="sgd"),
            "Tape: optimiser is 'sgd'; allowed: random, hill-climb, pso, de, cma, gradient.",
        ),
        (
            lambda: Pixel(optimiser="gradient"),
            "Pixel has no gradient; give another optimiser: random, hill-climb, pso,",
        ),
        (lambda: Light(shape="star"), "Light: shape is 'star'; allowed: beam, triangle, rectangle, pentagon, hexagon."),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_a_sentence(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(message)


def test_an_area_below_a_pixel_a_piece_is_refused():
    x, y = pictures(2), torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match="an area of 1 of the 64 pixels, which is not one for each of 2 pieces"):
        Tape(Area(0.02), pieces=2)(linear(3), x, y)
    with pytest.raises(InputError, match=r"Tape draws on pictures \(N, C, H, W\)"):
        Tape()(linear(3, (7,)), pictures(2, (7,)), y)
