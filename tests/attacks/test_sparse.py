"""Attacks that change few pixels: what they move, and where to."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import linear, pictures, trained

from advkit.attacks.jsma import JSMA
from advkit.attacks.pixel import OnePixel, Pixel
from advkit.attacks.pixle import Pixle
from advkit.attacks.sigma_zero import SigmaZero
from advkit.catalog import ATTACKS
from advkit.core import L0, Ascent, CrossEntropy, Linf, Rng, Targeted, Untargeted
from advkit.errors import InputError

INF = math.inf


def changed(x_adv, x):
    """(B, H, W) bool: the places that are not as they were."""
    return (x_adv != x).any(1)


def test_a_changed_pixel_counts_once_whatever_its_channels():
    model, x, y = trained()
    x_adv = SigmaZero(steps=100)(model, x[:8], y[:8])
    count = changed(x_adv, x[:8]).flatten(1).sum(1)
    assert torch.equal(L0(1).distance(x_adv, x[:8]).long(), count)
    assert bool((model(x_adv).argmax(1) != y[:8]).all())
    assert int(count.max()) < 12


def test_sigma_zero_undoes_what_changes_by_less_than_its_threshold():
    x, attack = pictures(3, margin=0.4), SigmaZero(steps=10, threshold=0.3)
    goal, rng = Untargeted(torch.zeros(3, dtype=torch.long)), Rng.of(0, torch.arange(3))
    state = attack.start(x, x, goal, rng)
    grad = torch.zeros_like(x)
    grad[:, 0, 0, 0], grad[:, 1, 0, 1] = 1.0, 0.2
    state = attack.step(state, Ascent(torch.zeros(3), torch.tensor([[1.0, 0.0]] * 3), grad), x, goal, rng)
    assert torch.equal(state.query[:, 0, 0, 0], torch.ones(3, dtype=x.dtype))  # a step of 1, cut by the box
    assert int(changed(state.query, x).sum()) == 3  # the other moved by 0.2
    assert bool((state.threshold < 0.3).all())  # lower after a failure


def test_sigma_zero_lets_go_of_the_smallest_change_once_it_has_succeeded():
    x, attack = pictures(1, margin=0.4), SigmaZero(steps=10)
    goal, rng = Untargeted(torch.zeros(1, dtype=torch.long)), Rng.of(0, torch.arange(1))
    query = x.clone()
    query[0, :, 0, 0], query[0, 0, 3, 3] = 1.0, query[0, 0, 3, 3] + 0.35
    state = attack.start(query, x, goal, rng)._replace(taken=torch.tensor([8]))  # a late step is short
    state = attack.step(state, Ascent(torch.ones(1), torch.tensor([[0.0, 1.0]]), torch.ones_like(x)), x, goal, rng)
    assert changed(state.query, x).nonzero().tolist() == [[0, 0, 0]]
    assert bool((state.threshold > 0.3).all())


def jacobian_map(model, x, target):
    """The paper's map for every pair of pixels: -ab, a the pair's slope of the target's probability, b that of the others'."""
    slopes = torch.autograd.functional.jacobian(lambda p: model(p[None]).softmax(1)[0], x)
    slopes = slopes.reshape(slopes.shape[0], -1)
    own, others = slopes[target], slopes.sum(0) - slopes[target]
    a, b = own[:, None] + own[None], others[:, None] + others[None]
    score = torch.where((a > 0) & (b < 0), -a * b, 0.0)
    return score.triu(1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_one_gradient_finds_the_pair_that_the_papers_jacobian_does(seed):
    model, x = linear(4, (1, 6, 6), seed=seed), pictures(1, (1, 6, 6), seed=seed, margin=0.2)
    target = (int(model(x).argmax(1)) + 1) % 4
    attack = JSMA(steps=1, direction="up", rank="gradient")
    x_adv = attack(model, x, Targeted(torch.tensor([target])), keep="last")
    pair = int(jacobian_map(model, x[0], target).argmax())
    assert changed(x_adv, x).flatten().nonzero().flatten().tolist() == sorted([pair // 36, pair % 36])
    assert bool((x_adv[x_adv != x] == 1).all())


def test_jsma_moves_each_pixel_once_and_stops_where_it_has_arrived():
    model, x, y = trained()
    x, y = x[:8], y[:8]
    x_adv = JSMA(steps=30, width=1, targets=3)(model, x, y)
    assert bool((model(x_adv).argmax(1) != y).all())
    assert bool((((x_adv == 0) | (x_adv == 1)) | (x_adv == x)).all())
    late = JSMA(steps=30, width=1, targets=1)(model, x, y, keep="last")
    first = JSMA(steps=30, width=1, targets=1)(model, x, y, keep="first")
    assert torch.equal(changed(late, x), changed(first, x))


def test_jsma_without_rivals_lowers_the_true_class():
    model, x, y = trained()
    x_adv = JSMA(steps=20, width=1, targets=0)(model, x[:6], y[:6])
    assert bool((model(x_adv).argmax(1) != y[:6]).all())
    rivals = JSMA(steps=20, width=1, targets=3)(model, x[:6], y[:6])
    assert float(L0(1).distance(rivals, x[:6]).sum()) <= float(L0(1).distance(x_adv, x[:6]).sum())


@pytest.mark.parametrize(("direction", "end"), [("up", 1.0), ("down", 0.0)])
def test_jsma_can_move_one_way_only(direction, end):
    model, x, y = trained()
    x_adv = JSMA(steps=4, direction=direction)(model, x[:6], y[:6], keep="last")
    moved = x_adv[x_adv != x[:6]]
    assert len(moved) > 0
    assert bool((moved == end).all())


def test_pixle_shows_nothing_but_colours_of_the_picture_itself():
    model, x, y = trained()
    x_adv = Pixle(L0(12), steps=40)(model, x, y, keep="last")
    places = changed(x_adv, x)
    assert int(places.flatten(1).sum(1).max()) <= 12
    assert bool(places.flatten(1).any(1).all())
    for clean, found, where in zip(x, x_adv, places, strict=True):
        own = {tuple(colour) for colour in clean.flatten(1).T.tolist()}
        assert {tuple(colour) for colour in found[:, where].T.tolist()} <= own


def test_pixle_never_lowers_what_it_has_reached_and_fills_its_ball():
    model, x, y = trained()
    heights = []
    for steps in (1, 10, 60):
        x_adv = Pixle(L0(10), steps=steps)(model, x, y, keep="last")
        with torch.no_grad():
            heights.append(CrossEntropy()(model(x_adv), Untargeted(y)))
    assert bool((heights[1] >= heights[0]).all())
    assert bool((heights[2] >= heights[1]).all())
    assert bool((heights[2] > heights[0] + 0.01).double().mean() > 0.9)
    assert int(changed(x_adv, x).flatten(1).sum(1).max()) == 10


def test_more_room_lets_pixle_beat_more():
    model, x, y = trained()
    beaten = [int((model(Pixle(L0(n), steps=40)(model, x, y)).argmax(1) != y).sum()) for n in (1, 40)]
    assert beaten[0] < beaten[1]


def test_pixle_goes_on_within_a_full_ball():
    model, x, y = trained()
    # One pixel is full after the first success of a try; later ones can only give it another colour.
    few, many = (
        CrossEntropy()(model(Pixle(L0(1), steps=steps)(model, x, y, keep="last")), Untargeted(y)).detach()
        for steps in (3, 30)
    )
    assert bool((many >= few).all())
    assert bool((many > few).any())


def test_one_pixel_is_the_pixel_attack_with_the_papers_budget():
    attack = ATTACKS.create("one-pixel")
    assert isinstance(attack, Pixel)
    assert (attack.threat, attack.probes, attack.steps) == (L0(1), 400, 100)
    assert attack.search == Pixel().search
    model, x, y = trained()
    small = OnePixel(queries=64, population=8)(model, x[:4], y[:4])
    assert bool((L0(1).distance(small, x[:4]) <= 1).all())
    assert torch.equal(small, Pixel(queries=64, population=8)(model, x[:4], y[:4]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pixle(Linf(0.1)), "Pixle works in L0, not in Linf."),
        (lambda: Pixle(steps=0), "Pixle: steps is 0; give 1 or more."),
        (lambda: Pixle(side=0), "Pixle: side is 0; give 1 or more."),
        (lambda: JSMA(rank="size"), "JSMA: rank is 'size'; allowed: gain, gradient."),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_a_sentence(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message


def test_pixels_of_what_is_no_picture_are_not_moved():
    with pytest.raises(InputError, match=r"Pixle moves pixels of pictures \(N, C, H, W\); these are \(2, 7\)"):
        Pixle()(linear(3, (7,)), pictures(2, (7,)), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("attack", [SigmaZero(steps=30), JSMA(steps=10)], ids=["sigma-zero", "jsma"])
def test_in_what_is_no_picture_every_value_is_a_pixel(attack):
    model, x = linear(3, (20,)), pictures(5, (20,))
    y = model(x).argmax(1)
    x_adv = attack(model, x, y)
    assert bool((model(x_adv).argmax(1) != y).all())
    assert torch.equal(L0(INF).distance(x_adv, x), (x_adv != x).double().sum(1))
