from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import pictures

from advkit.catalog import DIRECTIONS
from advkit.core import Chain, Direction, Diverse, Momentum, Nesterov, Plain, Rng, Smooth
from advkit.errors import InputError, UnknownName

IDS = torch.arange(6)


def grads(count: int = 3) -> list[torch.Tensor]:
    return [pictures(6, seed=10 + k) - 0.5 for k in range(count)]


def test_plain_is_the_gradient_itself():
    (grad,) = grads(1)
    ascent, memory = Plain().ascent(grad, Plain().memory(grad))
    assert torch.equal(ascent, grad)
    assert memory is None
    assert Plain().view(grad, Rng.of(0, IDS)) is grad
    assert Plain().ahead(grad, None, 0.1) is grad


def test_momentum_sums_gradients_of_mean_size_one():
    direction, seen = Momentum(decay=0.7), grads(3)
    memory, expected = direction.memory(seen[0]), torch.zeros_like(seen[0])
    for grad in seen:
        ascent, memory = direction.ascent(grad, memory)
        for i in range(6):
            expected[i] = 0.7 * expected[i] + grad[i] / grad[i].abs().mean()
        assert torch.allclose(ascent, expected, atol=1e-14)
        assert torch.equal(memory, ascent)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_momentum_survives_gradients_of_any_size(scale):
    for dtype in (torch.float32, torch.float64):
        grad = grads(1)[0].to(dtype) * scale
        ascent, _ = Momentum().ascent(grad, torch.zeros_like(grad))
        assert bool(ascent.isfinite().all())
        assert bool((ascent.abs().mean() > 0.5) == (scale > 0))


def test_nesterov_looks_one_step_along_the_momentum():
    x, memory = pictures(6), grads(1)[0]
    assert torch.allclose(Nesterov(decay=0.5).ahead(x, memory, 0.1), x + 0.1 * 0.5 * memory)
    assert Nesterov().judged_apart
    assert not Momentum().judged_apart


@pytest.mark.parametrize(("width", "deviations"), [(1, 3.0), (3, 3.0), (7, 2.0), (15, 3.0)])
def test_smooth_blurs_by_a_window_that_sums_to_one(width, deviations):
    direction = Smooth(width, deviations)
    point = torch.zeros(1, 2, 31, 31, dtype=torch.float64)
    point[0, 0, 15, 15] = 1.0
    blurred, memory = direction.ascent(point, None)
    assert memory is None
    assert float(blurred.sum()) == pytest.approx(1)
    assert float(blurred[0, 1].abs().max()) == 0  # no channel reaches another
    assert float(blurred[0, 0].max()) == float(blurred[0, 0, 15, 15])
    assert torch.allclose(blurred, blurred.transpose(2, 3))
    assert torch.allclose(blurred, blurred.flip(2, 3))
    half = width // 2
    assert float(blurred[0, 0, 15, 15 + half]) > 0
    assert float(blurred[0, 0, 15, 15 + half + 1 :].abs().max()) == 0
    if half:
        ratio = float(blurred[0, 0, 15, 15 + half] / blurred[0, 0, 15, 15])
        assert ratio == pytest.approx(float(torch.tensor(-(deviations**2) / 2).exp()))


@pytest.mark.parametrize("width", [0, 4, -3])
def test_a_window_without_a_middle_is_refused(width):
    with pytest.raises(InputError, match=f"width is {width}; give an odd number of pixels"):
        Smooth(width)


def test_diverse_shows_the_picture_itself_at_probability_zero():
    x = pictures(6)
    assert torch.equal(Diverse(probability=0.0).view(x, Rng.of(0, IDS)), x)


def test_diverse_shrinks_each_picture_by_its_own_amount():
    x = torch.ones(200, 3, 20, 20, dtype=torch.float64)
    rng = Rng.of(0, torch.arange(200))
    area = Diverse(probability=1.0, smallest=0.5).view(x, rng).mean((1, 2, 3))
    assert 0.25 <= float(area.min()) < 0.35
    assert 0.9 < float(area.max()) <= 1
    assert len(torch.unique(area)) > 190
    half = Diverse(probability=0.5, smallest=0.5).view(x, rng).mean((1, 2, 3))
    assert 70 < int((half == 1).sum()) < 130


def test_diverse_moves_the_picture_to_any_place():
    x = torch.ones(300, 1, 20, 20, dtype=torch.float64)
    seen = Diverse(probability=1.0, smallest=0.5).view(x, Rng.of(0, torch.arange(300)))[:, 0]
    for edge in (seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]):
        touched = int((edge.amax(1) > 0.5).sum())
        assert 5 < touched < 200


def test_diverse_is_differentiable_and_per_example():
    x = pictures(6).requires_grad_()
    view = Diverse(probability=1.0).view
    (grad,) = torch.autograd.grad(view(x, Rng.of(0, IDS)).sum(), x)
    assert bool(grad.isfinite().all())
    assert bool((grad.abs().flatten(1).amax(1) > 0).all())
    torch.autograd.gradcheck(lambda p: view(p, Rng.of(0, IDS[:2])), (pictures(2, (1, 4, 4)).requires_grad_(),))
    alone = torch.cat([view(x[i : i + 1], Rng.of(0, IDS[i : i + 1])) for i in range(6)])
    assert torch.allclose(view(x, Rng.of(0, IDS)), alone, atol=1e-14)


def test_a_chain_runs_its_parts_in_turn():
    chain = Chain((Smooth(3), Momentum(0.5), Nesterov(0.25)))
    x, (first, second) = pictures(6), grads(2)
    memory = chain.memory(x)
    assert memory[0] is None
    assert len(memory) == 3
    _, memory = chain.ascent(first, memory)
    ascent, memory = chain.ascent(second, memory)
    expected = second
    momentum, nesterov = Momentum(0.5), Nesterov(0.25)
    one = momentum.ascent(Smooth(3).ascent(first, None)[0], torch.zeros_like(x))[0]
    one_ahead = nesterov.ascent(one, torch.zeros_like(x))[0]
    two = momentum.ascent(Smooth(3).ascent(second, None)[0], one)[0]
    expected = nesterov.ascent(two, one_ahead)[0]
    assert torch.allclose(ascent, expected)
    assert torch.allclose(chain.ahead(x, memory, 0.1), x + 0.1 * 0.25 * memory[2])
    assert chain.judged_apart
    assert not Chain((Smooth(), Momentum())).judged_apart


def test_two_random_parts_of_a_chain_draw_their_own_numbers():
    x = torch.ones(50, 1, 20, 20, dtype=torch.float64)
    rng = Rng.of(0, torch.arange(50))
    part = Diverse(probability=1.0, smallest=0.5)
    both = Chain((part, part)).view(x, rng)
    for one in (rng, rng.fold(0), rng.fold(1)):
        assert not torch.allclose(both, part.view(part.view(x, one), one))


def test_a_chain_is_written_with_plus():
    assert DIRECTIONS.create("diverse+smooth+momentum") == Chain((Diverse(), Smooth(), Momentum()))
    assert DIRECTIONS.create("momentum") == Momentum()
    assert DIRECTIONS.create("momentum", decay="0.5") == Momentum(0.5)
    with pytest.raises(UnknownName, match=r"Did you mean 'momentum'\?"):
        DIRECTIONS.create("smooth+momentun")


@pytest.mark.parametrize("direction", [entry.create() for entry in DIRECTIONS.entries()], ids=repr)
def test_every_direction_still_ascends(direction: Direction):
    weight = F.avg_pool2d(pictures(1, seed=4) - 0.2, 3, 1, 1)
    ascent, _ = direction.ascent(weight, direction.memory(weight))
    assert ascent.shape == weight.shape
    assert float((ascent * weight).sum()) > 0
