"""Square Attack: the windows of the paper, every query in ball and box, no query for nothing, and near a linear optimum."""

from __future__ import annotations

import pytest
import torch
from helpers import Recorder, linear, pictures, trained
from torch import Tensor, nn

from advkit.attacks import Noise, Square
from advkit.core import L0, L1, L2, Ascent, Linf, Margin, Rng, Targeted, Untargeted
from advkit.errors import InputError

BALLS = [Linf(0.05), L2(0.5), L1(2)]


def flat(shape: tuple[int, ...]) -> nn.Module:
    return linear(3, shape, dtype=torch.float32)


@pytest.mark.parametrize(("ball", "share"), [(Linf(0.05), 0.85), (L2(0.5), 0.35), (L1(2), 0.25)], ids=repr)
def test_on_a_linear_model_it_nears_the_optimum_and_never_passes_it(ball, share):
    model, x = linear(2, seed=3), pictures(4, margin=0.3)
    y = model(x).argmax(1)
    slope = torch.where(y == 0, 1.0, -1.0)[:, None] * (model[1].weight[1] - model[1].weight[0]).detach()
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[ball.norm]
    optimum = float(ball.eps) * torch.linalg.vector_norm(slope, dual, dim=1)

    def gain(points: Tensor) -> Tensor:
        return ((points - x).flatten(1) * slope).sum(1)

    found = gain(Square(ball, queries=400)(model, x, y, keep="best"))
    assert bool((found >= share * optimum).all()), found / optimum
    assert bool((found <= optimum * (1 + 1e-9)).all())
    assert bool((found > 1.5 * gain(Noise(ball, steps=100)(model, x, y, keep="best"))).all())


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 9, 14), (3, 20, 6), (2, 3, 8, 8), (4, 30), (40,)], ids=str)
@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5), L1(2)], ids=repr)
def test_every_query_lies_in_ball_and_box_whatever_the_shape(ball, shape):
    x = pictures(4, shape, dtype=torch.float32).round(decimals=1)  # many values at the ends of the box
    model = Recorder(flat(shape))
    y = model(x).argmax(1)
    model.asked.clear()
    Square(ball, queries=60)(model, x, y, keep="last")
    assert len(model.asked) == 61  # and the verdict
    for query in model.asked:
        assert bool(ball.contains(query, x).all())
    moved = torch.stack([(query != x).flatten(1).any(0) for query in model.asked])
    assert float(moved.any(0).double().mean()) > 0.9


@pytest.mark.parametrize("ball", BALLS, ids=repr)
def test_it_begins_where_the_caller_says(ball):
    x = pictures(3, (3, 12, 12), dtype=torch.float32)
    model = Recorder(flat((3, 12, 12)))
    given = ball.project(x + 0.01, x)
    y = model(x).argmax(1)
    model.asked.clear()
    Square(ball, queries=5)(model, x, y, start=given, keep="last")
    assert torch.equal(model.asked[0], given)


def test_in_linf_it_begins_with_stripes_and_each_value_stands_at_an_end_of_the_ball():
    x = pictures(5, (3, 10, 12), margin=0.2)
    attack, rng = Square(Linf(0.1)), Rng.of(0, torch.arange(5))
    goal = Untargeted(torch.zeros(5, dtype=torch.long))
    change = attack.first(x, goal, rng) - x
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.1))
    assert bool((change.sign() == change[:, :, :1].sign()).all())
    assert 0.3 < float((change > 0).double().mean()) < 0.7


def windows(attack: Square, x: Tensor, asked: int, count: int) -> Tensor:
    """(count, H, W) bool: what a step changes after so many queries, for one picture under many seeds."""
    x = x.expand(count, *x.shape[1:])
    goal, rng = Untargeted(torch.zeros(count, dtype=torch.long)), Rng.of(0, torch.arange(count))
    state = attack.start(attack.first(x, goal, rng), x, goal, rng)
    state = state._replace(asked=torch.full((count,), asked))
    none = Ascent(torch.zeros(count, dtype=x.dtype), torch.zeros(count, 2), torch.zeros(0))
    after = attack.step(state, none, x, goal, rng.fold(1))
    return (after.query != state.query).any(1)


def test_the_window_shrinks_by_the_papers_schedule():
    x, attack = pictures(1, (3, 32, 32), margin=0.2), Square(Linf(0.1), queries=10_000)
    # The side is the root of the share of 1024 pixels; a window is seen as wide as its colours differ from what was there.
    for asked, side in (
        (1, 29),
        (10, 29),
        (11, 20),
        (51, 14),
        (201, 10),
        (501, 7),
        (1001, 5),
        (2001, 4),
        (4001, 3),
        (8001, 1),
    ):
        changed = windows(attack, x, asked, 30)
        rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
        assert int(rows.max()) == side
        assert int(columns.max()) <= side
    # With half of the queries, in half of the time.
    assert int(windows(Square(Linf(0.1), queries=5000), x, 1001, 30).any(2).sum(1).max()) == 4


def test_windows_reach_every_pixel_and_none_is_drawn_for_nothing():
    x = pictures(1, (1, 6, 5), margin=0.2)
    changed = windows(Square(Linf(0.1), queries=10_000), x, 9000, 3000)
    assert bool(changed.flatten(1).any(1).all())
    often = changed.double().mean(0) * 30
    assert float(often.min()) > 0.6
    assert float(often.max()) < 1.5


def test_of_the_other_colours_each_is_as_likely():
    # A window of one pixel in the colour (up, up, up) has seven others.
    x, count = pictures(1, (3, 1, 1), margin=0.2).expand(7000, -1, -1, -1), 7000
    attack, rng = Square(Linf(0.1)), Rng.of(3, torch.arange(7000))
    goal = Untargeted(torch.zeros(count, dtype=torch.long))
    state = attack.start(x + 0.1, x, goal, rng)
    none = Ascent(torch.zeros(count, dtype=x.dtype), torch.zeros(count, 2), torch.zeros(0))
    up = (attack.step(state, none, x, goal, rng).query > x).flatten(1).long()
    kinds = (up * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8)
    assert int(kinds[7]) == 0
    assert int(kinds[:7].min()) > 700  # a thousand each, were they quite equal


@pytest.mark.parametrize("ball", [L2(0.5), L1(2)], ids=repr)
def test_a_window_takes_what_another_had_and_the_ball_is_used_up(ball):
    x = pictures(40, (3, 16, 16), margin=0.4)
    attack, rng = Square(ball, queries=10_000), Rng.of(1, torch.arange(40))
    goal = Untargeted(torch.zeros(40, dtype=torch.long))
    first = attack.first(x, goal, rng)
    torch.testing.assert_close(ball.distance(first, x), torch.full((40,), float(ball.eps), dtype=torch.float64))
    state = attack.start(first, x, goal, rng)._replace(asked=torch.full((40,), 3000))
    none = Ascent(torch.zeros(40, dtype=x.dtype), torch.zeros(40, 2), torch.zeros(0))
    query = attack.step(state, none, x, goal, rng.fold(2)).query
    # Now and then a relief cancels what was there.
    assert float((ball.distance(query, x) > 0.999 * ball.eps).double().mean()) > 0.9
    emptied = ((query == x) & (first != x)).all(1).flatten(1).sum(1)
    assert int(emptied.median()) == 9  # a window of 3 x 3
    if isinstance(ball, L2):  # in L1 the window has more than its share, and all the rest a little less
        assert int((query != first).any(1).flatten(1).sum(1).max()) == 18


def test_the_relief_of_a_window_falls_in_rings_with_opposite_halves():
    from advkit.attacks.square import _relief

    five, here = torch.tensor([[5]]), torch.arange(5)[None]
    rings = [1 + 1 / 4 + 1 / 9, 1 / 4 + 1 / 9, 1 / 9]
    # Two columns of one sign around their second, three of the other around the middle one of theirs.
    left = [[2, 2], [1, 1], [1, 0], [1, 1], [2, 2]]
    right = [[2, 2, 2], [1, 1, 1], [1, 0, 1], [1, 1, 1], [2, 2, 2]]
    expected = torch.tensor([[rings[i] for i in a] + [-rings[i] for i in b] for a, b in zip(left, right, strict=True)])
    upright = _relief(here, five, here, five, torch.tensor([True]))[0]
    torch.testing.assert_close(upright, expected.double())
    torch.testing.assert_close(_relief(here, five, here, five, torch.tensor([False]))[0], expected.double().T)


def test_it_finds_what_the_gradient_finds_and_targets_too():
    model, x, y = trained()
    for ball in (Linf(0.1), L2(1.5), L1(15)):
        beaten = model(Square(ball, queries=300)(model, x[:8], y[:8])).argmax(1) != y[:8]
        assert float(beaten.double().mean()) > 0.8, ball
    target = (y[:8] + 1) % 4
    reached = model(Square(Linf(0.15), queries=300)(model, x[:8], Targeted(target))).argmax(1) == target
    assert float(reached.double().mean()) > 0.8


def test_a_restart_tries_again_what_is_left():
    model, x, y = trained()
    model = Recorder(model)
    Square(Linf(0.001), queries=7, restarts=3)(model, x[:2], y[:2])
    assert sum(len(query) for query in model.asked) >= 2 * 7 * 3


def test_what_raises_the_loss_stays_and_what_does_not_goes():
    x = pictures(2, (1, 6, 6), margin=0.2)
    attack, rng = Square(Linf(0.1)), Rng.of(0, torch.arange(2))
    goal = Untargeted(torch.zeros(2, dtype=torch.long))
    state = attack.start(x, x, goal, rng)
    for losses in ([1.0, 1.0], [2.0, 0.5], [torch.nan, 1.0]):
        asked, former = state.query, state.best
        at = Ascent(torch.tensor(losses, dtype=x.dtype), torch.zeros(2, 2), torch.zeros(0))
        better = at.loss > state.best_loss
        state = attack.step(state, at, x, goal, rng)
        for row in range(2):
            assert torch.equal(state.best[row], asked[row] if better[row] else former[row])
    assert state.best_loss.tolist() == [2.0, 1.0]


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match=r"^Square works in Linf, L2, L1, not in L0\.$"):
        Square(L0(3))
    with pytest.raises(InputError, match=r"^Square: queries is 0; give 1 or more\.$"):
        Square(queries=0)
    with pytest.raises(
        InputError, match=r"^Square: p_init is 1.5; give the share of the pixels in the first window, in"
    ):
        Square(p_init=1.5)
    assert Square(queries=77).steps == 77
    assert isinstance(Square().loss, Margin)
