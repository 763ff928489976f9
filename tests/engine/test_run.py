"""The loop: it asks exactly what examples need, whoever shares the batch, and believes no claim it has not checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from helpers import Detached, Spy, conv_net, linear, pictures, trained
from test_passes import Small
from torch import Tensor, nn

from advkit.attacks import DIFGSM, FGSM, PGD, GreedySalt, Noise
from advkit.core import L0, L2, Ascent, Attack, Ball, Goal, Linf, Loss, Margin, Point, Rng, Targeted, Untargeted
from advkit.core.modes import borrowed
from advkit.engine.examples import Finished, Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.errors import DataError, InputError, ModelError, PassError, ThreatViolation

WHOLE = Linf(1.0)


class Threshold(nn.Module):
    """Class 0 while the first value is below the second."""

    def __init__(self, lie: float = 0.0) -> None:
        super().__init__()
        self.lie = lie

    def forward(self, x: Tensor) -> Tensor:
        values = x.flatten(1)
        return torch.stack([values[:, 1] - values[:, 0] - self.lie, torch.zeros_like(values[:, 0])], 1)


@dataclass(frozen=True)
class Climb(Attack):
    """Raises the first value by a tenth per step."""

    threat: Ball = WHOLE
    steps: int = 8
    loss: Loss = field(default_factory=Margin)
    restarts: int = 1

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        assert at.grad.shape == x.shape
        return Point(state.query + torch.tensor([0.1, 0.0], dtype=x.dtype))


def steps_to_fall(*steps: int) -> tuple[Tensor, Goal]:
    """Examples that fall after so many steps of Climb; 10 or more are out of reach."""
    x = torch.zeros(len(steps), 2, dtype=torch.float64)
    x[:, 1] = (torch.tensor(steps, dtype=torch.float64).clamp_max(10) - 0.5) / 10
    return x, Untargeted(torch.zeros(len(steps), dtype=torch.long))


@dataclass
class Result:
    run: Run
    x_adv: Tensor
    success: Tensor
    prediction: Tensor
    distance: Tensor
    steps: Tensor
    order: list[int]
    progress: list[tuple[int, int]]
    most_open: int


def go(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    goal: Goal,
    *,
    working: Callable | None = None,
    batch_size: int = 4,
    **how,
) -> Result:
    """A run, gathered by example."""
    finished: list[Finished] = []
    progress: list[tuple[int, int]] = []
    fetched, most_open = [0], [0]

    def fetch(indices: Sequence[int]) -> Tensor:
        fetched[0] += len(indices)
        most_open[0] = max(most_open[0], fetched[0] - sum(len(f.example) for f in finished))
        return x[list(indices)]

    with borrowed(model):
        passes = Passes(model, Precision("working", working or model), batch_size)
        run = Run(attack, passes, Source(fetch, goal), **how)
        run.go(finished.append, lambda done, total: progress.append((done, total)))
    order = torch.cat([f.example for f in finished])
    back = order.argsort()
    parts = (torch.cat([getattr(f, name) for f in finished])[back] for name in Finished._fields[1:-2])
    return Result(run, *parts, order.tolist(), progress, most_open[0])


FALL = (1, 7, 3, 8, 9, 2, 100, 1, 5, 6, 4)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_each_example_costs_the_steps_it_needs_and_one_verdict(batch_size):
    x, goal = steps_to_fall(*FALL)
    model = Spy(Threshold())
    result = go(Climb(), model, x, goal, batch_size=batch_size)
    # Asked at 0, 1, ... steps; who falls after k is seen on the ask k + 1, who stands at step 8 after 8 asks.
    asks = torch.tensor([min(k + 1, 8) for k in FALL])
    assert result.steps.tolist() == asks.tolist()
    assert result.run.backwards.tolist() == asks.tolist()
    assert result.run.forwards.tolist() == (asks + 1).tolist()
    assert model.forwards == int(asks.sum()) + len(FALL)
    assert model.backwards == int(asks.sum())
    assert model.largest <= max(batch_size, 1) + batch_size
    assert result.success.tolist() == [k <= 8 for k in FALL]
    assert result.prediction.tolist() == [int(k <= 8) for k in FALL]
    # The last point is judged too: 8 steps suffice for 8, although no pass was left to see it.
    expected = [min(k, 8) / 10 for k in FALL]
    torch.testing.assert_close(result.distance, torch.tensor(expected, dtype=torch.float64))
    assert sorted(result.order) == list(range(len(FALL)))


@pytest.mark.parametrize("keep", ["best", "last"])
def test_where_all_steps_are_wanted_nobody_leaves_early(keep):
    x, goal = steps_to_fall(*FALL)
    result = go(Climb(), Threshold(), x, goal, keep=keep)
    assert result.steps.tolist() == [8] * len(FALL)
    assert result.success.tolist() == [k <= 8 for k in FALL]
    torch.testing.assert_close(result.distance, torch.full((len(FALL),), 0.8, dtype=torch.float64))


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_claim_that_the_callers_model_refutes_goes_back_to_its_lane(batch_size):
    x, goal = steps_to_fall(*FALL)
    honest = go(Climb(), Threshold(), x, goal)
    model = Spy(Threshold())
    # The working model takes an example for beaten 2.2 steps too early.
    result = go(Climb(), model, x, goal, working=Threshold(lie=0.22), batch_size=batch_size)
    assert torch.equal(result.success, honest.success)
    assert torch.equal(result.prediction, honest.prediction)
    torch.testing.assert_close(result.x_adv[result.success], honest.x_adv[honest.success])
    assert result.steps.tolist() == honest.steps.tolist()
    # Falling after k, it is claimed on each ask from k - 1 on; each claim and the end is a verdict. One that
    # is never claimed is judged once more, at the point where the working model's loss was highest.
    claims = [len([a for a in range(1, min(k + 1, 8) + 1) if a >= k - 1]) for k in FALL]
    verdicts = [c + (k > 7) + (k > 9) for c, k in zip(claims, FALL, strict=True)]
    assert model.forwards == sum(verdicts)
    assert result.run.forwards.tolist() == [s + v for s, v in zip(result.steps.tolist(), verdicts, strict=True)]


def test_a_working_model_that_sees_no_success_delays_it_and_does_not_lose_it():
    x, goal = steps_to_fall(1, 3, 8, 9)
    result = go(Climb(), Threshold(), x, goal, working=Threshold(lie=-5.0))
    assert result.success.tolist() == [True, True, True, False]
    assert result.steps.tolist() == [8] * 4


def test_what_becomes_of_an_example_does_not_depend_on_the_lanes():
    model, x, y = trained()
    attack = PGD(L2(0.4), steps=7, restarts=2, loss=Margin())
    results = [go(attack, model, x, Untargeted(y), batch_size=b) for b in (1, 5, 64)]
    for other in results[1:]:
        torch.testing.assert_close(other.x_adv, results[0].x_adv, rtol=0, atol=1e-12)
        assert torch.equal(other.success, results[0].success)
        assert torch.equal(other.steps, results[0].steps)
        assert torch.equal(other.run.forwards, results[0].run.forwards)
        assert torch.equal(other.run.backwards, results[0].run.backwards)
    assert 0 < int(results[0].success.sum()) < len(x)


def test_counted_passes_are_the_passes_of_every_kind_of_attack():
    inner, x, y = trained()
    for attack in (
        PGD(L2(0.4), steps=5, restarts=2, targets=2),
        DIFGSM(Linf(0.03), steps=4),
        Noise(Linf(0.05), steps=3),
        GreedySalt(L0(3), probes=8),
        FGSM(Linf(0.03)),
    ):
        for keep in ("first", "best", "last"):
            model = Spy(inner)
            run = go(attack, model, x, Untargeted(y), batch_size=7, keep=keep).run
            assert model.forwards == int(run.forwards.sum())
            assert model.backwards == int(run.backwards.sum())
            assert int(run.forwards.min()) > 0


def test_every_restart_runs_unless_one_succeeds():
    x, goal = steps_to_fall(3, 100, 8)  # the last is seen to fall by the verdict alone
    result = go(Climb(restarts=4), Threshold(), x, goal)
    assert result.steps.tolist() == [4, 32, 8]
    assert result.run.forwards.tolist() == [5, 36, 9]
    assert result.success.tolist() == [True, False, True]


def test_restarts_draw_their_own_starts():
    starts: list[Tensor] = []

    @dataclass(frozen=True)
    class Noted(PGD):
        def start(self, first, x, goal, rng):
            starts.append(first.clone())
            return super().start(first, x, goal, rng)

    x = pictures(1, margin=0.4)
    go(Noted(Linf(1e-5), steps=1, restarts=3), linear(3), x, Untargeted(linear(3)(x).argmax(1)))
    assert len(starts) == 3
    assert len({float(s.sum()) for s in starts}) == 3


def test_rivals_are_tried_in_the_order_of_the_clean_logits_and_a_success_ends_them():
    tried: list[tuple[int, int]] = []

    @dataclass(frozen=True)
    class Noted(PGD):
        def start(self, first, x, goal, rng):
            tried.extend(zip(x[:, 0, 0, 0].tolist(), goal.towards.tolist(), strict=True))
            return super().start(first, x, goal, rng)

    model, x = linear(6), pictures(9, margin=0.3)
    with torch.no_grad():
        logits = model(x)
    y = logits.argmax(1)
    ranked = logits.argsort(1, descending=True)[:, 1:4]
    result = go(Noted(Linf(0.012), steps=6, targets=3, loss=Margin()), model, x, Untargeted(y), batch_size=2)
    per_example = [[t for first, t in tried if first == float(x[i, 0, 0, 0])] for i in range(9)]
    for i in range(9):
        assert per_example[i] == ranked[i].tolist()[: len(per_example[i])]
        assert len(per_example[i]) == 3 or bool(result.success[i])
    assert 0 < int(result.success.sum()) < 9
    assert any(len(t) == 1 for t in per_example)


def test_more_targets_than_rivals_are_as_many_as_there_are():
    x = pictures(3, margin=0.3)
    result = go(PGD(Linf(0.001), steps=2, targets=9, restarts=2), linear(3), x, Untargeted(linear(3)(x).argmax(1)))
    assert result.steps.tolist() == [2 * 2 * 2] * 3


def test_a_target_given_by_the_caller_is_the_only_one():
    model, x, y = trained()
    goal = Targeted((y + 1) % 4)
    result = go(PGD(Linf(0.05), steps=3, targets=3), model, x, goal)
    assert int(result.steps.max()) <= 3


@pytest.mark.parametrize("attack", [PGD(Linf(0.03), steps=4), DIFGSM(Linf(0.03), steps=4), GreedySalt(L0(3), probes=8)])
def test_a_full_memory_changes_nothing_but_the_size_of_the_parts(attack):
    model, x, y = trained()
    small = Small(model, 5)
    roomy, cramped = (go(attack, m, x, Untargeted(y), batch_size=32) for m in (model, small))
    torch.testing.assert_close(cramped.x_adv, roomy.x_adv, rtol=0, atol=1e-12)
    assert torch.equal(cramped.steps, roomy.steps)
    assert torch.equal(cramped.run.forwards, roomy.run.forwards)


def test_no_more_examples_are_held_than_lanes_and_verdicts_need():
    x, goal = steps_to_fall(*([1, 7, 3, 100, 2] * 60))
    result = go(Climb(), Threshold(), x, goal, batch_size=8)
    assert result.most_open <= 16
    liar = go(Climb(), Threshold(), x, goal, batch_size=8, working=Threshold(lie=0.25))
    assert liar.most_open <= 24


def test_no_more_examples_are_held_where_there_are_restarts():
    x, goal = steps_to_fall(*([100, 7, 3, 100, 2] * 60))
    assert go(Climb(restarts=3), Threshold(), x, goal, batch_size=8).most_open <= 32


@pytest.mark.parametrize("attack", [Climb(), Climb(restarts=3), Climb(steps=1)], ids=["one", "restarts", "single"])
@pytest.mark.parametrize("lie", [0.0, 0.25, -5.0])
def test_progress_grows_and_ends_at_the_whole(attack, lie):
    x, goal = steps_to_fall(*FALL)
    progress = go(attack, Threshold(), x, goal, working=Threshold(lie=lie)).progress
    done, total = zip(*progress, strict=True)
    assert len(set(total)) == 1
    assert list(done) == sorted(done)
    assert done[-1] == total[-1]
    assert done[0] < total[0]
    assert done[-2] <= total[0]


def test_progress_with_targets_ends_at_the_whole():
    model, x, y = trained()
    progress = go(PGD(Linf(0.02), steps=3, targets=2), model, x, Untargeted(y)).progress
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert progress[-1] == (32 * 6, 32 * 6)


def test_an_attack_of_no_steps_is_judged_where_it_starts():
    x, goal = steps_to_fall(3, 5)
    x[0, 0] = 0.9
    result = go(Climb(steps=0), Threshold(), x, goal)
    assert result.success.tolist() == [True, False]
    assert result.run.backwards.tolist() == [0, 0]


def test_an_example_that_is_wrong_already_is_beaten_by_the_first_look_at_it():
    model, x, y = trained()
    result = go(PGD(Linf(0.001), random_start=False), model, x, Untargeted((y + 1) % 4))
    assert bool(result.success.all())
    assert result.steps.tolist() == [1] * len(x)
    assert torch.equal(result.x_adv, x)


# A plain call


def call(attack: Attack | None = None, model: nn.Module | None = None, x: object = None, y: object = None, **how):
    x = pictures(4) if x is None else x
    y = torch.zeros(4, dtype=torch.long) if y is None else y
    return (attack or PGD(steps=2))(model or linear(3), x, y, **how)


NAN = pictures(4)
NAN[1, 0, 0, 0] = torch.nan


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": (pictures(4) * 255).to(torch.uint8)}, "the pictures are torch.uint8; give a floating-point tensor"),
        ({"x": pictures(4).numpy()}, "the pictures are ndarray; give a floating-point tensor"),
        ({"x": pictures(4)[:0], "y": torch.zeros(0).long()}, r"the pictures have shape \(0, 3, 8, 8\); give at least"),
        ({"x": torch.rand(4)}, r"the pictures have shape \(4,\)"),
        ({"x": pictures(4) * 255}, r"pixel values run from .* to 25.*; give them in \[0, 1\]"),
        ({"x": pictures(4) - 0.5}, "pixel values run from -0"),
        ({"x": NAN}, "pixel values run from nan to nan"),
        ({"y": torch.zeros(3, dtype=torch.long)}, r"labels are torch.int64 of shape \(3,\) for 4 pictures"),
        ({"y": torch.zeros(4)}, r"labels are torch.float32 of shape \(4,\) for 4 pictures; give one class index"),
        ({"y": torch.zeros(4, 3)}, r"labels are torch.float32 of shape \(4, 3\)"),
    ],
)
def test_pictures_and_labels_that_do_not_fit_are_refused_by_a_sentence(given, message):
    with pytest.raises(DataError, match=message):
        call(**given)


def test_a_start_must_be_shaped_like_the_pictures():
    with pytest.raises(InputError, match=r"start has shape \(2, 3, 8, 8\); give one point per picture, \(4, 3, 8, 8\)"):
        call(start=pictures(2))


def test_a_start_takes_the_place_of_the_first_point():
    x, attack = pictures(4), PGD(Linf(0.05), steps=1, step_size=1e-9)
    start = (x + 0.04).clamp(0, 1)
    found = call(attack, x=x, y=linear(3)(x).argmax(1), start=start, keep="last", batch_size=2)
    torch.testing.assert_close(found, start, rtol=0, atol=1e-8)


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_that_the_model_has_no_class_for_is_refused(label):
    with pytest.raises(InputError, match=f"label.*{label}"):
        call(y=torch.full((4,), label))


def test_a_start_outside_the_ball_is_refused_or_drawn_in():
    x = pictures(4, margin=0.3)
    model = linear(3)
    y = (model(x).argmax(1) + 1) % 3
    try:
        found = call(PGD(Linf(0.01), steps=2), model=model, x=x, y=y, start=x + 0.2)
    except InputError:
        return
    assert bool(Linf(0.01).contains(found, x).all())


def test_one_probe_is_as_good_as_many():
    x = pictures(4)
    found = call(GreedySalt(L0(3), probes=1), x=x)
    assert bool(L0(3).contains(found, x).all())


def test_a_point_that_is_not_a_number_is_the_fault_of_the_attack_and_not_of_the_model():
    @dataclass(frozen=True)
    class Zero(PGD):
        def step(self, state, at, x, goal, rng):
            moved = super().step(state, at, x, goal, rng)
            return moved._replace(query=moved.query / 0 * 0, x_adv=moved.x_adv / 0 * 0)

    x = pictures(4)
    with pytest.raises(ThreatViolation, match="Zero"):
        call(Zero(Linf(0.001), steps=1), x=x, y=linear(3)(x).argmax(1))


def test_a_model_without_gradients_is_for_attacks_that_need_none():
    with pytest.raises(ModelError, match=r"answers without a gradient"):
        call(model=Detached(linear(3)))
    assert call(Noise(steps=2), model=Detached(linear(3))).shape == (4, 3, 8, 8)


@pytest.mark.parametrize("attack", [PGD(steps=2), Noise(steps=2), FGSM()], ids=["pgd", "noise", "fgsm"])
def test_a_model_that_answers_no_number_has_no_accuracy(attack):
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] * torch.nan

    with pytest.raises(PassError, match="Odd answered with NaN"):
        call(attack, model=Odd())


def test_rounding_just_outside_the_box_is_forgiven_and_put_right():
    x = torch.ones(2, 3, 8, 8) + 1e-7
    found = call(model=linear(3, dtype=torch.float32), x=x, y=torch.zeros(2, dtype=torch.long))
    assert float(found.max()) <= 1


def test_vectors_are_as_good_as_pictures():
    x, model = pictures(6, (7,)), linear(3, (7,))
    y = model(x).argmax(1)
    found = PGD(L2(1.0), steps=10)(model, x, y)
    assert float((model(found).argmax(1) == y).double().mean()) < 0.5


def test_train_mode_attacks_the_model_as_the_caller_left_it():
    model, x = Spy(conv_net(norm=True)), pictures(4)
    model.inner.train()
    y = torch.zeros(4, dtype=torch.long)
    PGD(steps=1)(model, x, y)
    assert model.modes == {False}
    model.modes.clear()
    PGD(steps=1)(model, x, y, mode="train")
    assert model.modes == {True}


@dataclass(frozen=True)
class Blurred(Climb):
    """Sees the first value of every query raised, by draws of its own."""

    views: int = 4

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        return query + 0.1 * rng.uniform(dtype=query.dtype)[:, None] * torch.tensor([1.0, 0.0], dtype=query.dtype)


def test_every_view_is_counted_and_none_overfills_a_pass():
    x, goal = steps_to_fall(*FALL)
    spy = Spy(Threshold())
    result = go(Blurred(), spy, x, goal, batch_size=8, keep="last")
    assert result.run.forwards.tolist() == [8 * 4 + 1] * len(FALL)
    assert result.run.backwards.tolist() == [8 * 4] * len(FALL)
    assert spy.largest <= 8


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_views_belong_to_the_example(batch_size):
    x, goal = steps_to_fall(*FALL)
    whole = go(Blurred(), Threshold(), x, goal, batch_size=32)
    parts = go(Blurred(), Threshold(), x, goal, batch_size=batch_size)
    assert torch.equal(whole.x_adv, parts.x_adv)
    assert whole.steps.tolist() == parts.steps.tolist()
    assert whole.success.tolist() == [k <= 8 for k in FALL]
