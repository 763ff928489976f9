"""Auto-PGD reaches the optimum of a linear model, halves its stride where it must, and beats a fixed stride."""

from __future__ import annotations

import pytest
import torch
from helpers import Recorder, conv_net, linear, pictures, trained
from torch import Tensor, nn

from advkit.attacks import APGD, PGD, TargetedAPGD
from advkit.attacks._sparse_ascent import SparseAscent
from advkit.core import L0, L1, L2, Ascent, Linf, Margin, Rng, Untargeted
from advkit.errors import InputError


@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5)])
def test_on_a_linear_model_the_optimum_is_reached(ball):
    model, x = linear(2), pictures(6, margin=0.45)
    y = model(x).argmax(1)
    x_adv = APGD(ball, steps=60, loss=Margin())(model, x, y)
    weights = next(p for p in model.parameters() if p.ndim == 2).detach()
    slope = (weights[1 - y] - weights[y]).flatten(1)
    gain = slope.abs().sum(1) if isinstance(ball, Linf) else slope.norm(dim=1)
    before, after = (Margin()(model(p), Untargeted(y)).detach() for p in (x, x_adv))
    torch.testing.assert_close(after - before, float(ball.eps) * gain, rtol=1e-3, atol=1e-6)


def test_the_stride_is_halved_at_a_checkpoint_where_the_loss_stands_still():
    attack, x = APGD(Linf(0.1), steps=50), pictures(2)
    goal, rng = Untargeted(torch.zeros(2, dtype=torch.long)), Rng.of(0, torch.arange(2))
    state = attack.start(x, x, goal, rng)
    rising = torch.tensor([0.0, 1.0], dtype=x.dtype)
    for step in range(12):  # the first checkpoint comes 11 steps (22 %) after the first point
        at = Ascent(step * rising, torch.zeros(2, 2, dtype=x.dtype), torch.ones_like(x))
        assert state.stride.tolist() == [2.0, 2.0]
        state = attack.step(state, at, x, goal, rng)
    assert state.stride.tolist() == [1.0, 2.0]
    assert state.span.tolist() == [10, 10]
    # It goes on from the best point, which was the first.
    assert torch.equal(state.former[0], x[0])


def test_it_needs_no_step_size_to_be_as_strong_as_pgd():
    model, x, y = trained()
    heights = [
        Margin()(model(attack(model, x, y)), Untargeted(y)).mean()
        for attack in (APGD(L2(0.3), steps=40, loss=Margin()), PGD(L2(0.3), steps=40, loss=Margin(), step_size=0.02))
    ]
    assert heights[0] > heights[1]


def test_towards_rivals_it_needs_a_few():
    model, x = conv_net(5), pictures(6)
    y = model(x).argmax(1)
    assert TargetedAPGD().targets == 9
    # Nine rivals of five classes are four.
    assert TargetedAPGD(Linf(0.1), steps=5)(model, x, y).shape == x.shape


def steepest_first(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) each: the slopes of a linear margin, the steepest first, and how far their values can go."""
    weights = next(p for p in model.parameters() if p.ndim == 2).detach()
    slope, point = weights[1 - y] - weights[y], x.flatten(1)
    size, order = slope.abs().sort(1, descending=True)
    return size, torch.where(slope > 0, 1 - point, point).gather(1, order)


@pytest.mark.parametrize("eps", [0.3, 2.0, 10.0, 30.0])
def test_in_l1_it_reaches_the_optimum_also_where_the_box_is_near(eps):
    model, x = linear(2), pictures(6)
    y = model(x).argmax(1)
    # The steepest values first, each to the end of its range, until eps is spent.
    size, room = steepest_first(model, x, y)
    spent = torch.minimum(room, (eps - (room.cumsum(1) - room)).clamp_min(0))
    x_adv = APGD(L1(eps), steps=100, loss=Margin())(model, x, y)
    before, after = (Margin()(model(p), Untargeted(y)).detach() for p in (x, x_adv))
    torch.testing.assert_close(after - before, (spent * size).sum(1), rtol=0.03, atol=0)
    assert bool((after - before <= (spent * size).sum(1) * (1 + 1e-9)).all())


def test_in_l1_it_begins_in_larger_balls_and_ends_in_its_own():
    model, x = Recorder(linear(3)), pictures(4, margin=0.4)
    y = model(x).argmax(1)
    model.asked.clear()
    APGD(L1(0.5), steps=20)(model, x, y, keep="last")
    far = [float(L1(0.5).distance(asked, x).amax()) for asked in model.asked]
    assert len(far) == 21  # and the verdict
    for radius, part in ((1.5, far[:6]), (1.0, far[6:12]), (0.5, far[12:])):
        assert max(part) == pytest.approx(radius)
        assert max(part) <= radius


def test_what_is_found_in_a_larger_ball_is_no_success():
    model, x = linear(2), pictures(3, margin=0.4)
    y = model(x).argmax(1)
    gap = -Margin()(model(x), Untargeted(y)).detach()
    size, room = steepest_first(model, x, y)
    gain = (size * room).cumsum(1)
    whole = gain < gap[:, None]  # values that have to go to the end of their range; the next one goes as far as it must
    left = gap - (size * room).where(whole, 0.0).sum(1)
    needed = room.where(whole, 0.0).sum(1) + left / size.gather(1, whole.sum(1, keepdim=True)).squeeze(1)
    for i in range(len(x)):
        for share, falls in ((0.9, False), (1.1, True)):
            ball = L1(float(needed[i] * share))
            for keep in ("first", "best"):
                found = APGD(ball, steps=40)(model, x[i : i + 1], y[i : i + 1], keep=keep)
                assert bool(ball.contains(found, x[i : i + 1]).all())
                assert bool(model(found).argmax(1) != y[i]) == falls


def test_in_l1_fewer_values_move_where_few_have_served():
    climb, x = SparseAscent(L1(1.0), steps=50), pictures(2, margin=0.2)
    size = x[0].numel()
    # Half of the values have been changed, by less than what the projection takes from each.
    state = climb.start(x + 0.02 * (torch.arange(size) % 2).reshape(x[0].shape), x)
    assert state.moving.tolist() == [int(0.2 * size)] * 2
    grad = pictures(2, seed=9) - 0.5
    for step in range(2):
        former = state
        at = Ascent(torch.full((2,), float(step), dtype=x.dtype), torch.zeros(2, 2), grad)
        state = climb.step(former, at, x)
    changed = (state.best != x).flatten(1).sum(1)
    assert bool((changed < 0.75 * size).all())
    assert state.moving.tolist() == [int(each / 1.5) for each in changed.tolist()]
    assert state.stride.tolist() == [1.0, 1.0]
    # As many as before: the stride is shortened, down to a tenth.
    for _ in range(10):
        state = climb.step(state, at._replace(loss=torch.zeros_like(at.loss)), x)
    assert state.stride.tolist() == pytest.approx([0.1, 0.1])


def test_in_l1_it_climbs_higher_than_pgd():
    model, x, y = trained()
    x, y = x[:16], y[:16]
    for ball in (L1(2.0), L1(5.0)):
        ours, theirs = (
            Margin()(model(attack(model, x, y)), Untargeted(y)).mean()
            for attack in (APGD(ball, steps=50, loss=Margin()), PGD(ball, steps=50, loss=Margin()))
        )
        assert ours > theirs


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="APGD works in Linf, L2, L1, not in L0"):
        APGD(L0(3))
    with pytest.raises(InputError, match="APGD: steps is 0; give 1 or more"):
        APGD(steps=0)
