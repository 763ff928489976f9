"""What a ball promises: nothing outside, nothing moved without need, nothing farther than needed."""

from __future__ import annotations

import itertools
import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from helpers import pictures
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from torch import Tensor

from advkit.core import BALLS, L0, L1, L2, Ball, Linf, Rng
from advkit.core.rng import identify
from advkit.errors import InputError

INF = math.inf
RADII = {Linf: (8 / 255, 0.031, 1 / 255, 1e-9, 1.0, INF), L2: (0.5, 1e-9, 3.0, 1e6, 1e300, INF)}
RADII |= {L1: (12.0, 1e-9, 1.5, 1e6, 1e300, INF), L0: (1, 3, 10, 1e6, INF)}
ALL = [ball(eps) for ball, radii in RADII.items() for eps in radii]
SHAPES = [(3, 4, 5), (17,), (2, 6)]
DTYPES = [torch.float32, torch.float64]


def draw(shape: tuple[int, ...], dtype: torch.dtype, count: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clean pictures, many of whose values lie on the border, and points near, far and very far."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(count, *shape, generator=g, dtype=torch.float64) * 1.6 - 0.3).clamp(0, 1).to(dtype)
    scale = torch.logspace(-10, 2, count, dtype=torch.float64).reshape(-1, *[1] * len(shape))
    noise = torch.randn(count, *shape, generator=g, dtype=torch.float64) * scale
    return x, (x.double() + noise).to(dtype)


def excess(ball: Ball, x_adv: Tensor, x: Tensor) -> Tensor:
    """Distance in float64, by numpy, independent of the ball's own code."""
    delta = np.abs(x_adv.double().numpy() - x.double().numpy()).reshape(len(x), -1)
    if isinstance(ball, Linf):
        return torch.tensor(delta.max(1))
    if isinstance(ball, L2):
        return torch.tensor(np.array([math.sqrt(math.fsum(row**2)) for row in delta]))
    if isinstance(ball, L1):
        return torch.tensor(np.array([math.fsum(row) for row in delta]))
    changed = (x_adv != x).numpy()
    return torch.tensor((changed.any(1) if x.ndim == 4 else changed).reshape(len(x), -1).sum(1))


def inside(ball: Ball, x_adv: Tensor, x: Tensor) -> bool:
    return bool((excess(ball, x_adv, x) <= float(ball.eps)).all()) and bool(((x_adv >= 0) & (x_adv <= 1)).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ball", ALL, ids=repr)
def test_projected_points_are_inside_to_the_last_bit_and_stay_where_they_are(ball, shape, dtype):
    x, far = draw(shape, dtype)
    point = ball.project(far, x)
    assert point.dtype == dtype
    assert point.shape == x.shape
    assert inside(ball, point, x)
    assert bool(ball.contains(point, x).all())
    assert torch.equal(ball.project(point, x), point)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    values=st.lists(st.tuples(st.floats(0, 1), st.floats(-3, 3)), min_size=1, max_size=6),
    eps=st.one_of(st.sampled_from([8 / 255, 0.031, 1 / 255, 1e-30]), st.floats(1e-12, 1)),
    name=st.sampled_from(["linf", "l2", "l1"]),
    dtype=st.sampled_from(DTYPES),
)
def test_no_value_whatever_escapes_a_projection(values, eps, name, dtype):
    ball = BALLS[name](eps)
    x, far = (torch.tensor([column], dtype=dtype) for column in zip(*values, strict=True))
    point = ball.project(far, x)
    assert inside(ball, point, x)
    assert torch.equal(ball.project(point, x), point)


GRID = st.integers(0, 1 << 20).map(lambda level: level / (1 << 20))  # differences are exact in float64


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    values=st.lists(st.tuples(GRID, GRID), min_size=1, max_size=6),
    name=st.sampled_from(["linf", "l2", "l1"]),
    dtype=st.sampled_from(DTYPES),
    slack=st.sampled_from([1.0, 1.0, 1.5]),
)
def test_an_allowed_point_comes_back_bit_for_bit(values, name, dtype, slack):
    x, near = (torch.tensor([column], dtype=dtype) for column in zip(*values, strict=True))
    distance = float(BALLS[name](1.0).distance(near, x)) * slack
    if distance == 0 or (name == "linf" and distance > 1):
        return
    ball = BALLS[name](distance)  # the point stands exactly on the surface, or inside
    assert bool(ball.contains(near, x))
    assert torch.equal(ball.project(near, x), near)


def test_an_allowed_point_of_l0_comes_back_bit_for_bit():
    x, other = pictures(20, seed=1), pictures(20, seed=2)
    changed = torch.zeros(20, 1, 64, dtype=torch.bool)
    changed[:, :, :5] = True
    near = torch.where(changed.reshape(20, 1, 8, 8), other, x)
    assert torch.equal(L0(5).project(near, x), near)
    assert not torch.equal(L0(4).project(near, x), near)


@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5), L1(3), L0(3)], ids=repr)
def test_tensors_that_are_not_contiguous_are_read_as_they_are_and_left_alone(ball):
    x, far = draw((3, 4, 5), torch.float64)
    x_t, far_t = (t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for t in (x, far))
    kept = far_t.clone(), x_t.clone()
    assert not far_t.is_contiguous()
    assert torch.equal(ball.project(far_t, x_t), ball.project(far, x))
    assert torch.equal(ball.steepest(far_t, x_t), ball.steepest(far, x))
    assert torch.equal(far_t, kept[0])
    assert torch.equal(x_t, kept[1])


def lagrange(far: Tensor, x: Tensor, eps: float, norm: str) -> np.ndarray:
    """Nearest point of ball and box for one example, by bisection on the multiplier of the ball."""
    delta, base = (far - x).double().numpy(), x.double().numpy()

    def move(multiplier: float) -> np.ndarray:
        shrunk = np.abs(delta) / (1 + multiplier) if norm == "l2" else np.maximum(np.abs(delta) - multiplier, 0)
        return np.clip(np.sign(delta) * shrunk, -base, 1 - base)

    def length(multiplier: float) -> float:
        moved = move(multiplier)
        return float(np.linalg.norm(moved)) if norm == "l2" else float(np.abs(moved).sum())

    if length(0) <= eps:
        return base + move(0)
    return base + move(optimize.brentq(lambda m: length(m) - eps, 0, 1e9, xtol=1e-14, rtol=1e-15, maxiter=2000))


@pytest.mark.parametrize("eps", [0.05, 0.3, 1.0, 2.5])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_the_projection_is_the_nearest_point_of_ball_and_box(norm, eps):
    x, far = draw((12,), torch.float64, count=80, seed=3)
    far = x + (far - x).clamp(-4, 4)
    ball = BALLS[norm](eps)
    nearest = np.stack([lagrange(f, c, eps, norm) for f, c in zip(far, x, strict=True)])
    np.testing.assert_allclose(ball.project(far, x).numpy(), nearest, atol=1e-7)


@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.4), L1(0.6)], ids=repr)
def test_a_general_solver_finds_no_nearer_point(ball):
    x, far = draw((4,), torch.float64, count=64, seed=5)
    for clean, point in zip(x[48:56], (x + (far - x).clamp(-2, 2))[48:56], strict=True):
        ours = ball.project(point[None], clean[None])[0].numpy()
        c, p = clean.numpy(), point.numpy()
        # Split the change in its positive and negative parts, so that every ball has smooth constraints.
        room = {
            "linf": lambda z: ball.eps - z[:4] - z[4:],
            "l1": lambda z: ball.eps - z.sum(),
            "l2": lambda z: ball.eps**2 - ((z[:4] - z[4:]) ** 2).sum(),
        }[ball.norm]
        found = optimize.minimize(
            lambda z, c=c, p=p: ((c + z[:4] - z[4:] - p) ** 2).sum(),
            np.zeros(8),
            bounds=[(0, 1 - v) for v in c] + [(0, v) for v in c],
            constraints={"type": "ineq", "fun": room},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert ((ours - p) ** 2).sum() <= found.fun + 1e-7


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_choice_of_pixels_is_nearer_than_the_l0_projection(count):
    g = torch.Generator().manual_seed(7)
    x = torch.rand(30, 2, 1, 5, generator=g, dtype=torch.float64)
    far = x + 1.5 * torch.randn(30, 2, 1, 5, generator=g, dtype=torch.float64)
    ours = L0(count).project(far, x)
    best = torch.full((30,), INF, dtype=torch.float64)
    for places in itertools.combinations(range(5), count):
        other = x.clone()
        other[..., list(places)] = far.clamp(0, 1)[..., list(places)]
        best = torch.minimum(best, (other - far).square().flatten(1).sum(1))
    assert torch.allclose((ours - far).square().flatten(1).sum(1), best)


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.5), L1(1.0), L0(2)], ids=repr)
def test_what_one_example_becomes_does_not_depend_on_the_others(ball):
    x, far = draw((3, 4, 4), torch.float64)
    for function in (ball.project, ball.steepest):
        whole = function(far, x)
        alone = torch.cat([function(far[i : i + 1], x[i : i + 1]) for i in range(len(x))])
        assert torch.equal(whole, alone)


def test_the_l2_projection_of_one_example_does_not_go_on_for_the_sake_of_another():
    # The first is clipped by so little that its first round is good enough; the second needs several rounds.
    x = torch.tensor([[0.5, 0.5, 0.5], [0.5, 0.99, 0.95]], dtype=torch.float64)
    far = torch.tensor([[0.5 + 1 + 1e-9, 1.5, 1.5], [5.0, 3.0, 4.0]], dtype=torch.float64)
    ball = L2(math.sqrt(0.75) * (1 + 1e-10))
    whole = ball.project(far, x)
    assert torch.equal(whole[:1], ball.project(far[:1], x[:1]))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("ball", ALL, ids=repr)
def test_random_points_are_inside_and_differ(ball, shape):
    for dtype in DTYPES:
        x, _ = draw(shape, dtype)
        point = ball.random_point(x, Rng.of(0, identify(x)))
        assert point.dtype == dtype
        assert inside(ball, point, x)
        other = ball.random_point(x, Rng.of(1, identify(x)))
        if ball.eps > 1e-6:
            assert not torch.equal(point, other)


MANY = 4000


def middle(shape: tuple[int, ...]) -> tuple[Tensor, Rng]:
    return torch.full((MANY, *shape), 0.5, dtype=torch.float64), Rng.of(3, torch.arange(MANY))


def test_the_random_point_of_linf_is_uniform_in_the_cube():
    x, rng = middle((3,))
    delta = (Linf(0.25).random_point(x, rng) - x).numpy()
    for column in delta.T:
        assert stats.kstest(column, stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(delta.T) - np.eye(3)).max() < 0.06


def test_the_random_point_of_l2_is_uniform_in_the_volume():
    x, rng = middle((3,))
    delta = (L2(0.3).random_point(x, rng) - x).numpy()
    length = np.linalg.norm(delta, axis=1)
    assert stats.kstest((length / 0.3) ** 3, stats.uniform().cdf).pvalue > 1e-3
    for column in (delta / length[:, None]).T:  # a coordinate of the unit sphere in three dimensions is uniform
        assert stats.kstest(column, stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_the_random_point_of_l1_is_uniform_in_the_volume():
    x, rng = middle((4,))
    delta = (L1(0.4).random_point(x, rng) - x).numpy()
    length = np.abs(delta).sum(1)
    assert stats.kstest((length / 0.4) ** 4, stats.uniform().cdf).pvalue > 1e-3
    for column in (delta / length[:, None]).T:  # on the simplex a share is Beta(1, d - 1)
        assert stats.kstest(np.abs(column), stats.beta(1, 3).cdf).pvalue > 1e-3
        assert abs(np.sign(column).mean()) < 0.06


def test_the_random_point_of_l0_changes_exactly_so_many_places_uniformly():
    x, rng = middle((3, 2, 4))
    point = L0(3).random_point(x, rng)
    changed = (point != x).any(1).flatten(1)
    assert set(changed.sum(1).tolist()) == {3}
    assert stats.chisquare(changed.sum(0).numpy()).pvalue > 1e-3
    assert stats.kstest(point[:, 0].flatten(1)[changed].numpy(), stats.uniform().cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_steepest_step_has_length_one_and_attains_the_dual_norm(dtype, scale):
    g = torch.Generator().manual_seed(0)
    x = torch.full((50, 12), 0.5, dtype=dtype)
    grad = torch.randn(50, 12, generator=g, dtype=dtype) * scale
    tight = 1e-12 if dtype == torch.float64 else 1e-5
    norms = {  # ball: (length of the step, dual norm of the gradient)
        Linf(0.1): (INF, 1),
        L2(0.1): (2, 2),
        L1(0.1, share=1 / 12): (1, INF),
    }
    for ball, (own, dual) in norms.items():
        step = ball.steepest(grad, x).double()
        length = torch.linalg.vector_norm(step, own, dim=1)
        gain = (step * grad.double() / scale).sum(1)
        bound = torch.linalg.vector_norm(grad.double() / scale, dual, dim=1)
        assert torch.allclose(length, torch.ones_like(length), atol=tight)
        assert torch.allclose(gain, bound, rtol=tight)


def test_the_steepest_step_of_l1_moves_its_share_of_the_values_and_none_that_is_stuck():
    grad = torch.tensor([[4.0, -3.0, 2.0, 1.0]])
    free = torch.full((1, 4), 0.5)
    assert torch.allclose(L1(1, share=0.5).steepest(grad, free), torch.tensor([[4 / 7, -3 / 7, 0, 0]]))
    stuck = torch.tensor([[1.0, 0.5, 0.5, 0.5]])  # the first stands at white already
    assert torch.allclose(L1(1, share=0.5).steepest(grad, stuck), torch.tensor([[0, -3 / 5, 2 / 5, 0]]))


def test_the_steepest_step_of_l0_changes_the_one_pixel_that_gains_most():
    x = torch.tensor([[0.9, 0.5, 0.5]], dtype=torch.float64)
    grad = torch.tensor([[10.0, -3.0, 2.0]], dtype=torch.float64)
    step = L0(1).steepest(grad, x)  # 10 * 0.1 < 3 * 0.5
    assert torch.equal(step, torch.tensor([[0.0, -1.0, 0.0]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.1), L1(0.1), L0(2)], ids=repr)
def test_where_the_gradient_is_zero_the_step_is_zero(ball, dtype):
    x, _ = draw((3, 4, 5), dtype)
    assert torch.equal(ball.steepest(torch.zeros_like(x), x), torch.zeros_like(x))


@pytest.mark.parametrize("name", ["linf", "l2", "l1", "l0"])
def test_an_infinite_radius_leaves_the_box(name):
    x, far = draw((3, 4, 5), torch.float64)
    ball = BALLS[name](INF)
    assert torch.equal(ball.project(far, x), far.clamp(0, 1))
    assert math.isfinite(ball.reach(x))


@pytest.mark.parametrize(
    "ball", [*ALL, Linf("8/255"), Linf("8px"), L2("1/3"), L2(0.1 + 0.2), L1(2, share=0.5)], ids=repr
)
def test_a_ball_is_what_its_repr_says(ball):
    again = eval(repr(ball), {"Linf": Linf, "L2": L2, "L1": L1, "L0": L0, "inf": INF})  # noqa: S307
    assert again == ball
    assert hash(again) == hash(ball)
    assert float(again.eps) == float(ball.eps)


def test_balls_are_values():
    ball = L1(12, share=0.2)
    assert replace(ball, eps=3) == L1(3, share=0.2)
    assert replace(Linf(0.1), eps="8/255") == Linf(8 / 255)
    assert Linf(0.5) != L2(0.5)
    assert len({Linf(8 / 255), Linf("8/255"), Linf("8px")}) == 1
    with pytest.raises(FrozenInstanceError):
        ball.eps = 1
    assert (Linf("8/255").label, L2(0.5).label, L2(0.5).norm) == ("Linf 8/255 (0.0314)", "L2 0.5", "l2")


WRITE = "write a fraction (8/255), a number of grey levels (8px), a percentage (5%) or a decimal (0.031)."
ABOVE = "it must be 0 or more, for example 8/255 (in Linf) or 0.5 (in L2)."


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Linf(8),
            "eps 8 is more than the whole range of a pixel, [0, 1], in Linf; for 8 grey levels write 8/255",
        ),
        (lambda: Linf(300), "eps 300 is more than the whole range of a pixel, [0, 1], in Linf."),
        (lambda: Linf(-1), f"eps is -1; {ABOVE}"),
        (lambda: Linf(math.nan), f"eps is nan; {ABOVE}"),
        (lambda: Linf("nan"), f"eps is 'nan'; {WRITE}"),
        (lambda: L2("abc"), f"eps is 'abc'; {WRITE}"),
        (lambda: L2("1e400"), f"eps is '1e400'; {WRITE}"),
        (lambda: L2("-0.5"), f"eps is -0.5; {ABOVE}"),
        (lambda: L0(1.5), "eps is 1.5 in L0, where it counts pixels; give a whole number, 1 or more."),
        (lambda: L0("8/255"), "eps is 8/255 in L0, where it counts pixels; give a whole number, 1 or more."),
        (lambda: L1(12, share=0), "L1: share is 0; it is the share of the values that move, in (0, 1]."),
    ],
)
def test_a_radius_that_makes_no_sense_is_refused_by_a_sentence(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).rstrip(".") == message.rstrip(".")
