"""Balls of the physical world: area, shade and veil are measured, enforced, and left alone where they are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from advkit.core import BALLS, Area, Ball, Rng, Shade, Veil
from advkit.core.regions import darkened, lightness
from advkit.core.rng import identify
from advkit.errors import InputError

ALL: list[Ball] = [ball(eps) for ball in (Area, Shade, Veil) for eps in (0.01, 0.05, 0.3, 0.57, 1)]
SHAPES = [(3, 6, 5), (1, 6, 5), (17,)]


def draw(shape: tuple[int, ...], dtype: torch.dtype, count: int = 40) -> tuple[Tensor, Tensor]:
    """Clean pictures with black and white in them, and points near and far."""
    g = torch.Generator().manual_seed(2)
    x = (torch.rand(count, *shape, generator=g, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1).to(dtype)
    scale = torch.logspace(-9, 1, count, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    return x, (x.double() + torch.randn(x.shape, generator=g, dtype=torch.float64) * scale).to(dtype)


def star(picture: np.ndarray) -> np.ndarray:
    """L* by the book, independent of the ball's own code: (C, ...) sRGB to one value per pixel (or per value)."""
    linear = np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    y = np.tensordot([0.2126, 0.7152, 0.0722], linear, 1) if picture.ndim == 3 and len(picture) == 3 else linear
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def excess(ball: Ball, x_adv: Tensor, x: Tensor) -> float:
    """By how much the budget is left, by numpy."""
    worst = -1.0
    for after, before in zip(x_adv.double().numpy(), x.double().numpy(), strict=True):
        if isinstance(ball, Area):
            moved = (after != before).any(0) if before.ndim == 3 else after != before
            worst = max(worst, moved.mean() - ball.eps)
        elif isinstance(ball, Shade):
            assert (after <= before).all(), "a value rose"
            old, new = star(before), star(after)
            worst = max(worst, (1 - new[old > 0] / old[old > 0]).max() - ball.eps)
        else:
            low, high = before * (1 - ball.eps), before + ball.eps * (1 - before)
            worst = max(worst, (low - after).max(), (after - high).max())
    return worst


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ball", ALL, ids=repr)
def test_projected_points_are_inside_and_stay_where_they_are(ball, shape, dtype):
    x, far = draw(shape, dtype)
    point = ball.project(far, x)
    assert (point.dtype, point.shape) == (dtype, x.shape)
    assert bool(ball.contains(point, x).all())
    assert bool((ball.distance(point, x) <= ball.eps).all())
    assert excess(ball, point, x) <= 1e-12
    assert torch.equal(ball.project(point, x), point)
    assert torch.equal(ball.project(x, x), x)
    drawn = ball.random_point(x, Rng.of(0, identify(x)))
    assert bool(ball.contains(drawn, x).all())
    if ball.eps > 0.1:
        assert not torch.equal(drawn, x)
    alone = ball.random_point(x[3:7], Rng.of(0, identify(x[3:7])))
    torch.testing.assert_close(drawn[3:7], alone, rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("ball", ALL, ids=repr)
def test_twice_the_budget_is_outside(ball):
    x = torch.full((2, 3, 10, 10), 0.5)
    wild = x.clone()
    if isinstance(ball, Area):
        wild.flatten(2)[:, 1, : round(100 * ball.eps) + 1] = 1
    else:
        wild = (
            darkened(x, lightness(x) * (1 - ball.eps) * 0.99) if isinstance(ball, Shade) else x * (1 - ball.eps) - 0.01
        )
    if ball.eps < 1:
        assert not bool(ball.contains(wild, x).any())
        assert not torch.equal(ball.project(wild, x), wild)


def test_a_point_far_off_comes_back_to_the_surface():
    x = torch.full((1, 3, 10, 10), 0.5)
    black = torch.zeros_like(x)
    assert float(Area(0.07).distance(Area(0.07).project(black, x), x)) == 0.07
    for ball in (Shade(0.3), Veil(0.3)):
        assert float(ball.distance(ball.project(black, x), x)) == pytest.approx(0.3, abs=1e-5)
    assert float(lightness(Shade(0.3).project(black, x)).min()) == pytest.approx(
        0.7 * float(lightness(x).max()), rel=1e-5
    )


def test_an_area_counts_places_whatever_their_channels_and_rounds_down():
    x = torch.full((1, 3, 32, 32), 0.5)
    assert [Area(share).room(x) for share in (0.05, "5%", 51 / 1024, 1 / 1024, 0.0005, 1)] == [51, 51, 51, 1, 0, 1024]
    one = x.clone()
    one[0, 2, 4, 4] = 0.6
    assert float(Area(0.05).distance(one, x)) == 1 / 1024


def test_no_light_falls_where_a_shadow_does():
    x = torch.full((1, 3, 2, 2), 0.5)
    brighter = x.clone()
    brighter[0, 0, 0, 0] += 1e-6
    assert not bool(Shade(0.5).contains(brighter, x))
    assert torch.equal(Shade(0.5).project(brighter, x), x)


def test_lightness_is_that_of_cielab():
    kornia = pytest.importorskip("kornia")
    x = draw((3, 6, 5), torch.float64)[0]
    torch.testing.assert_close(lightness(x), kornia.color.rgb_to_lab(x)[:, :1], rtol=0, atol=0.02)
    half = darkened(x, 0.43 * lightness(x))
    torch.testing.assert_close(lightness(half), 0.43 * lightness(x), rtol=1e-9, atol=1e-9)


def test_a_light_of_full_opacity_and_the_whole_area_leave_the_box():
    x, far = draw((3, 4, 5), torch.float64)
    for ball in (Area(1), Veil(1)):
        assert torch.equal(ball.project(far, x), far.clamp(0, 1))


@pytest.mark.parametrize("ball", [Area(0.1), Shade(0.1), Veil(0.1)], ids=repr)
def test_where_the_gradient_is_zero_the_step_is_zero(ball):
    x, _ = draw((3, 4, 5), torch.float32)
    assert torch.equal(ball.steepest(torch.zeros_like(x), x), torch.zeros_like(x))


@pytest.mark.parametrize("name", ["area", "shade", "veil"])
def test_shares_are_at_most_one_and_are_not_meant_in_grey_levels(name):
    ball = BALLS[name]
    assert ball("2%") == ball(0.02)
    assert (ball("5%").label, ball("2%").doubt, ball(0.5).norm) == (f"{ball.__name__} 0.05", None, name)
    assert ball(ball.usual).eps < 1
    for wrong in (1.01, "150%", "inf", 8):
        with pytest.raises(
            InputError, match=r"is more than the whole in .*give a number in \(0, 1\], such as 0.05 or 5%"
        ):
            ball(wrong)
    with pytest.raises(InputError, match="must be 0 or more"):
        ball(-0.1)
