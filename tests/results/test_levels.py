"""Grey levels that stand for adversarial pictures stay in every ball, and reach as far as they may."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advkit.core import L0, L1, L2, Area, Ball, Linf, Rng, Shade
from advkit.results.levels import bracket, in_8_bits, level_distance, levels_of, pictures_of, steered

BALLS = [Linf("8/255"), Linf("0.031"), Linf("1/255"), L2(0.5), L2(0.05), L1(3), L0(4), Area(0.1), Shade(0.3)]


def clean(count: int = 40) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 8, 8), generator=generator) / 255


def points(ball: Ball, x: Tensor) -> Tensor:
    return ball.random_point(x, Rng.of(0, torch.arange(len(x))))


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_roundings_stay_in_the_ball_of_the_clean_levels(ball: Ball) -> None:
    x = clean()
    found = bracket(points(ball, x), x, ball)
    outward = steered(found, (found.far - found.clean).sign(), ball)
    for levels in (found.near, outward, steered(found, torch.randn(x.shape, dtype=torch.float64), ball)):
        assert (level_distance(levels, found.clean, ball) <= ball.eps).all()
        assert torch.equal(levels, levels.round())
        assert ((levels >= 0) & (levels <= 255)).all()
        assert ((levels - found.near).abs() <= 1).all()


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_rounding_towards_the_clean_picture_never_grows_a_change(ball: Ball) -> None:
    x = clean()
    x_adv = points(ball, x)
    found = bracket(x_adv, x, ball)
    assert ((found.near - found.clean).abs() <= ((x_adv.double() - x.double()) * 255).abs() + 1e-3).all()
    assert ((found.near - found.clean).abs() > ((x_adv.double() - x.double()) * 255).abs() - 1 - 1e-3).all()


def test_a_whole_number_of_levels_is_kept() -> None:
    x = torch.full((1, 1, 4, 4), 100 / 255)
    found = bracket(x + 8 / 255, x, Linf("8/255"))
    assert (found.near == 108).all()
    assert (found.far == 108).all(), "the ball ends there"
    assert float(level_distance(found.near, found.clean, Linf("8/255"))) == 8 / 255


def test_in_a_cube_each_value_goes_where_the_gradient_says() -> None:
    x = torch.full((1, 1, 2, 2), 100 / 255)
    found = bracket(x + 2.5 / 255, x, Linf("4/255"))
    gradient = torch.tensor([[[[1.0, -1.0], [0.0, 3.0]]]], dtype=torch.float64)
    assert steered(found, gradient, Linf("4/255")).flatten().tolist() == [103, 102, 102, 103]


def test_of_a_ball_that_takes_a_few_more_those_that_gain_most_are_taken() -> None:
    x = torch.full((1, 1, 2, 2), 100 / 255)
    x_adv = x + torch.tensor([[[[2.5, 2.5], [2.5, 0.0]]]]) / 255
    ball = L1(repr(8.2 / 255))
    found = bracket(x_adv, x, ball)
    assert found.near.flatten().tolist() == [102, 102, 102, 100]
    gradient = torch.tensor([[[[1.0, 3.0], [2.0, 9.0]]]], dtype=torch.float64)
    assert steered(found, gradient, ball).flatten().tolist() == [102, 103, 103, 100]


def test_in_a_ball_that_all_values_share_what_gains_nothing_makes_room() -> None:
    x = torch.full((1, 1, 1, 3), 100 / 255)
    x_adv = x + torch.tensor([[[[2.5, 2.5, 1.0]]]]) / 255
    ball = L2(repr(13.6**0.5 / 255))
    found = bracket(x_adv, x, ball)
    assert found.near.flatten().tolist() == [102, 102, 101]
    gradient = torch.tensor([[[[5.0, 4.0, 0.1]]]], dtype=torch.float64)
    assert steered(found, gradient, ball).flatten().tolist() == [103, 102, 100]


def test_pictures_that_are_not_in_8_bits_are_said_to_be_so_and_their_change_is_kept() -> None:
    x = torch.full((2, 1, 2, 2), 100 / 255)
    x[1] += 0.4 / 255
    assert in_8_bits(x).tolist() == [True, False]
    found = bracket(x + 3 / 255, x, Linf("3/255"))
    assert torch.equal(found.near, torch.full_like(found.near, 103))
    assert torch.equal(levels_of(pictures_of(found.near)), found.near.to(torch.uint8))
