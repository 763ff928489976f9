"""Radii: any text ends in a radius or in one sentence; what is written is read back; projections keep their promises."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from advkit.core import L0, L1, L2, Ball, Eps, Linf
from advkit.core.rng import Rng
from advkit.errors import AdvkitError, InputError

WHOLE = st.integers(1, 10_000)
NEAR = st.one_of(
    st.text("0123456789/.%px-+e_ \0٣½", max_size=12),
    st.text(max_size=30),
    st.sampled_from(
        ["nan", "inf", "-inf", "1e400", "1e-400", "9" * 5000, "1/" + "9" * 5000, "0x1p3", "8/255/3", "None"]
    ),
)


@given(NEAR)
def test_any_text_is_a_radius_above_0_or_one_sentence(text: str) -> None:
    try:
        eps = Eps(text)
    except InputError as error:
        assert "\n" not in str(error).replace(repr(text), "")
        assert len(str(error)) < 1000
    else:
        assert eps >= 0
        assert not math.isnan(eps)


@given(WHOLE, WHOLE)
def test_a_fraction_is_kept_exactly_and_read_back(above: int, below: int) -> None:
    eps = Eps(f"{above}/{below}")
    assert eps.exact == f"{above}/{below}"
    assert float(eps) == above / below
    assert Eps(eps.exact) == eps


@given(st.integers(1, 255))
def test_grey_levels_fractions_and_numbers_are_one_radius(levels: int) -> None:
    written = {Eps(f"{levels}px"), Eps(f"{levels}/255"), Eps(levels / 255), Eps(Fraction(levels, 255))}
    assert len(written) == 1
    assert {Eps(value).exact for value in (f"{levels}px", levels / 255)} == {str(Fraction(levels, 255))} or all(
        Fraction(Eps(value).exact) == Fraction(levels, 255) for value in (f"{levels}px", f"{levels}/255")
    )


@given(st.floats(1e-9, 1e6))
def test_a_number_is_read_back_from_what_is_written(value: float) -> None:
    assert Eps(Eps(value).exact) == value


@given(
    st.one_of(st.none(), st.booleans(), st.binary(), st.lists(st.integers()), st.complex_numbers(), st.just(object()))
)
@pytest.mark.parametrize("ball", [Linf, L2, L1, L0])
def test_a_radius_of_another_type_is_one_sentence(ball: type[Ball], value: object) -> None:
    with pytest.raises(AdvkitError):
        ball(value)  # type: ignore[arg-type]


def _pair(seed: int, spread: float) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 4, 4, generator=draw)
    return x, x + spread * torch.randn(2, 3, 4, 4, generator=draw)


BALLS = st.one_of(
    st.floats(1e-4, 1).map(Linf), st.floats(1e-3, 20).map(L2), st.floats(1e-3, 100).map(L1), st.integers(1, 48).map(L0)
)


@given(BALLS, st.integers(0, 1000), st.sampled_from([1e-3, 0.1, 1.0, 1e3]))
def test_what_is_projected_is_inside_and_what_is_inside_stays(ball: Ball, seed: int, spread: float) -> None:
    x, far = _pair(seed, spread)
    near = ball.project(far, x)
    assert ball.contains(near, x).all()
    assert torch.equal(ball.project(near, x), near)
    assert torch.equal(ball.project(x, x), x)
    assert (ball.distance(x, x) == 0).all()


@given(BALLS, st.integers(0, 1000))
def test_a_random_point_is_inside_and_its_own_examples(ball: Ball, seed: int) -> None:
    x, _ = _pair(seed, 0.0)
    rng = Rng.of(seed, torch.arange(2))
    point = ball.random_point(x, rng)
    assert ball.contains(point, x).all()
    assert torch.equal(point, ball.random_point(x, Rng.of(seed, torch.arange(2))))


@given(st.integers(0, 1000), st.floats(0.01, 1), st.floats(1, 3))
def test_a_larger_ball_holds_a_smaller_one(seed: int, eps: float, factor: float) -> None:
    x, far = _pair(seed, 1.0)
    for ball in (L2, L1):
        near = ball(eps).project(far, x)
        assert ball(eps * factor).contains(near, x).all()


@given(BALLS, st.integers(0, 1000))
def test_a_steepest_step_never_goes_against_the_gradient(ball: Ball, seed: int) -> None:
    x, grad = _pair(seed, 1.0)
    step = ball.steepest(grad, x)
    assert step.isfinite().all()
    assert ((step * grad).flatten(1).sum(1) >= 0).all()
    assert (ball.steepest(torch.zeros_like(x), x) == 0).all()
