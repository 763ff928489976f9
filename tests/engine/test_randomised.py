"""Models that draw, and steps without a gradient: means over draws, verdicts that are no luck, generators left alone."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Quantiser, trained
from torch import Tensor, nn

import advkit
from advkit.attacks import PGD
from advkit.core import Linf, Margin, Untargeted
from advkit.core.defense import RandomWrapper
from advkit.core.modes import reseeded
from advkit.core.rng import Rng
from advkit.engine.defend import defend
from advkit.engine.evaluate import evaluate
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.repeats import Repeats
from advkit.errors import InputError
from advkit.results.outcome import Evaluation, Repeated
from advkit.results.robustness import long_table, robustness_table

BALL = Linf(0.06)


def net() -> nn.Module:
    return copy.deepcopy(trained()[0]).float()


def held() -> tuple[Tensor, Tensor]:
    _, x, y = trained()
    return x.float(), y


class Noisy(nn.Module):
    """Adds noise of which nobody is told, from torch's generator: the same for all pictures of a call."""

    def __init__(self, inner: nn.Module, size: float = 0.2) -> None:
        super().__init__()
        self.inner, self.size, self.calls = inner, size, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        answer: Tensor = self.inner(x + self.size * torch.randn(x.shape[1:], dtype=x.dtype))
        return answer


class Shaken(RandomWrapper):
    """Noise that is declared."""

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        return x + 0.3 * rng.normal(*x.shape[1:], dtype=x.dtype)


class Round(nn.Module):
    """Sixteen levels, without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return (15 * x).round() / 15


def plain(points: Tensor, index: Tensor) -> Tensor:
    return points


# ---------------------------------------------------------------------- generators


def test_global_generators_start_from_the_seed_and_go_on_as_if_nothing_had_been_drawn() -> None:
    def draw() -> tuple[float, ...]:
        return (float(torch.rand(1)), random.random(), float(np.random.random()))

    before = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    seen = []
    for seed in (3, 3, 4, 2**63 - 1):
        with reseeded(seed, torch.device("cpu")):
            seen.append(draw())
    with pytest.raises(TypeError), reseeded(3, torch.device("cpu")):
        torch.rand("none")  # type: ignore[call-overload]
    assert seen[0] == seen[1]
    assert all(one != other for one, other in zip(seen[0], seen[2], strict=True))
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()  # type: ignore[index]


# ---------------------------------------------------------------------- means over draws


def test_the_gradient_loss_and_scores_told_are_means_over_calls() -> None:
    x, y = held()
    goal, model = Untargeted(y), Noisy(net())

    def asked(eot: int, kind: str) -> tuple[Tensor, ...]:
        passes = Passes(model, Precision.own(model), 64, eot=eot)
        at = passes.gradient(x, goal, Margin(), plain) if kind == "gradient" else passes.scores(x, goal, Margin())
        return at.loss, at.logits, at.grad

    for kind in ("gradient", "scores"):
        with reseeded(0, torch.device("cpu")):
            each = [asked(1, kind) for _ in range(5)]
        with reseeded(0, torch.device("cpu")):
            model.calls = 0
            mean = asked(5, kind)
        assert model.calls == 5
        for told, single in zip(mean, zip(*each, strict=True), strict=True):
            torch.testing.assert_close(told, torch.stack(single).mean(0))
        assert not torch.equal(each[0][0], each[1][0]), "it must draw"


def test_another_librarys_attack_is_told_the_mean_logits_over_calls() -> None:
    x, _ = held()
    model = Noisy(net())
    with reseeded(0, torch.device("cpu")):
        each = torch.stack([model(x) for _ in range(3)])
    with reseeded(0, torch.device("cpu")):
        mean = Passes(model, Precision.own(model), 64, eot=3).logits(x)
    torch.testing.assert_close(mean, each.mean(0))


def test_a_verdict_is_the_mean_of_the_probabilities_of_many_calls() -> None:
    x, _ = held()
    model = Noisy(net())
    with reseeded(0, torch.device("cpu")):
        each = torch.stack([model(x).softmax(1) for _ in range(4)])
    with reseeded(0, torch.device("cpu")):
        verdict = Passes(model, Precision.own(model), 64, verdicts=4).judge(x)
    torch.testing.assert_close(verdict.softmax(1), each.mean(0))
    torch.testing.assert_close(verdict.exp(), each.mean(0))


def test_repeats_of_a_declared_defense_have_draws_of_their_own_and_are_the_same_again() -> None:
    x, y = held()
    model = defend(net(), [Shaken(draws=1)])
    once, again = (Repeats(model, 6, 8, y).clean(advkit.TensorData(x, y)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.shape == (6, len(y))
    assert len({tuple(row) for row in once.tolist()}) > 1, "each repeat draws anew"


# ---------------------------------------------------------------------- evaluations

WALK = PGD(BALL, steps=6, loss=Margin())


def facts(result: Evaluation) -> list[object]:
    return [(o.prediction.tolist(), o.steps.tolist(), o.forwards.tolist()) for o in result.outcomes]


def test_an_evaluation_of_a_model_that_draws_hangs_on_the_seed_and_leaves_the_generators() -> None:
    model, data = Noisy(net()), held()
    state = torch.get_rng_state()
    once, other = (evaluate(model, data, WALK, seed=seed) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)  # the caller goes on drawing
    assert facts(evaluate(model, data, WALK, seed=1)) == facts(once)
    assert facts(other) != facts(once)
    torch.set_rng_state(state)


def test_the_mean_gradient_over_draws_beats_more_of_a_noisy_model_and_is_counted() -> None:
    loud, data = Noisy(net(), 0.5), held()
    single, mean = (evaluate(loud, data, WALK, eot=eot, repeats=8, doubts=False) for eot in (1, 8))
    before, after = (result.rows()[0].repeats for result in (single, mean))
    assert before is not None
    assert after is not None
    assert after.mean.value < before.mean.value
    (one,), (many,) = single.outcomes, mean.outcomes
    full = (one.steps == 6) & (many.steps == 6) & one.attacked
    assert bool(full.any())
    assert torch.equal(many.backwards[full], 8 * one.backwards[full])


def test_accuracy_over_repeats_counts_the_pictures_that_stand_in_the_rows_own_place() -> None:
    data = held()
    both = {"few": PGD(Linf(0.03), steps=2), "all": PGD(Linf(0.03), steps=4, loss=Margin())}
    result = evaluate(Noisy(net(), 0.3), data, both, survivors=True, repeats=5)
    few, rest = result.outcomes
    assert result.repeated is not None
    assert few.repeated is not None
    assert rest.repeated is not None
    right = torch.where(few.attacked, few.repeated, result.repeated)
    assert result.rows()[0].repeats == Repeated.of(right)
    right = torch.where(rest.attacked, rest.repeated, right)
    row = result.rows()[1].repeats
    assert row == Repeated.of(right)
    assert result.worst_repeats() == [row]
    each = right.double().mean(1)
    assert row.mean.value == pytest.approx(float(each.mean()))
    assert (row.least, row.most) == (float(each.min()), float(each.max()))
    assert row.least < row.most, "it must draw"
    assert row.mean.low < row.mean.value < row.mean.high
    found = result.to_json()
    assert found["rows"][1]["repeats"] == row.to_json()  # type: ignore[index]
    assert list(row.to_json()) == ["k", "mean", "low", "high", "least", "most"]
    assert found["worst"][0]["repeats"]["k"] == 5  # type: ignore[index]
    table, long = robustness_table(result), long_table(result, per_class=True)
    assert table.heads[3] == "over 5 repeats %"
    assert [line[3] for line in table.rows][2:] == [row.text, row.text]
    assert {len(line) for line in (table.heads, table.align, *table.rows)} == {len(table.heads)}
    assert {len(line) for line in (long.heads, long.align, *long.rows)} == {len(long.heads)}
    assert long.heads[-5] == "repeats_mean"
    assert long.rows[2][-5] == str(row.mean.value)


def test_repeats_of_a_model_that_does_not_draw_are_all_the_same() -> None:
    result = evaluate(net(), held(), WALK, repeats=3)
    again = result.rows()[0].repeats
    assert again is not None
    assert again.mean == result.rows()[0].accuracy
    assert again.least == again.most
    assert result.doubts == ()


def test_what_was_lucky_is_told() -> None:
    loud, data = defend(net(), [Shaken(draws=1)]), held()
    found = evaluate(loud, data, PGD(Linf(0.02), steps=20, restarts=3), repeats=9)
    said = [doubt.sentence for doubt in found.doubts if doubt.code == "P12"]
    assert any("were the luck of a draw" in sentence for sentence in said), found.doubts


def test_chance_that_is_taken_care_of_is_no_doubt() -> None:
    def said(**settings: int) -> list[str]:
        return [d.sentence for d in evaluate(Noisy(net(), 0.02), held(), WALK, **settings).doubts if d.code == "P12"]

    assert any("it draws" in sentence for sentence in said())
    assert any("it draws" in sentence for sentence in said(eot=2))
    assert not any("it draws" in sentence for sentence in said(eot=2, repeats=2))


def test_a_declared_defense_counts_its_own_draws() -> None:
    told: list[int] = []

    class Counted(Shaken):
        def drawn(self, x: Tensor, rng: Rng) -> Tensor:
            told.append(int(x.requires_grad))
            return super().drawn(x, rng)

    evaluate(net(), held(), PGD(BALL, steps=1), defense=Counted(draws=1), against="adaptive", doubts=False)
    single = sum(told)
    told.clear()
    evaluate(net(), held(), PGD(BALL, steps=1), defense=Counted(draws=1), against="adaptive", doubts=False, eot=5)
    assert sum(told) == 5 * single > 0


@pytest.mark.parametrize("name", ["eot", "repeats"])
def test_less_than_one_draw_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0; give the number of draws, 1 or more"):
        evaluate(net(), held(), WALK, **{name: 0})  # type: ignore[arg-type]


def test_sweeps_of_a_model_that_draws_hang_on_the_seed_and_leave_the_generators(tmp_path: Path) -> None:
    x, y = held()
    state = torch.get_rng_state()

    def swept(name: str) -> list[object]:
        torch.rand(3)
        found = advkit.sweep(Noisy(net()), advkit.TensorData(x, y, name="patterns"), WALK, 0.06, out=tmp_path / name)
        return [line.stands.tolist() for line in found.grid.lines]

    assert swept("one") == swept("two")
    torch.set_rng_state(state)
    torch.rand(6)
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    swept("three")
    swept("four")
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_rng_state(state)


# ---------------------------------------------------------------------- steps without a gradient


def test_a_step_without_a_gradient_keeps_its_value_and_gets_another_gradient() -> None:
    x, _ = held()
    rounding, smooth = advkit.StraightThrough(Round()), advkit.StraightThrough(Round(), surrogate=torch.sin)
    points = x.clone().requires_grad_()
    for step, slope in ((rounding, torch.ones_like(x)), (smooth, x.cos())):
        assert torch.equal(step(points), Round()(x))
        (grad,) = torch.autograd.grad(step(points).sum(), points)
        torch.testing.assert_close(grad, slope)
    with torch.no_grad():
        assert torch.equal(rounding(x), Round()(x))


def test_modules_inside_it_move_and_learn_modes_with_it() -> None:
    dropout = nn.Dropout(0.5)
    step = advkit.StraightThrough(dropout).eval()
    assert not dropout.training
    assert dropout in list(step.modules())


def test_a_gradient_that_cannot_fit_is_refused() -> None:
    x, _ = held()
    with pytest.raises(InputError, match="give a surrogate whose answers have the step's shape"):
        advkit.StraightThrough(lambda pictures: pictures[..., ::2, ::2])(x.requires_grad_())


def test_a_network_that_rounds_falls_once_its_rounding_is_passed_straight_through() -> None:
    x, y = held()
    attack = PGD(BALL, steps=10, loss=Margin())
    masked, open_ = Quantiser(net(), 15), nn.Sequential(advkit.StraightThrough(Round()), net())

    def standing(model: nn.Module, x_adv: Tensor) -> int:
        return int((masked(x_adv).argmax(1) == y).sum())

    assert torch.equal(masked(x), open_(x))
    assert standing(masked, attack(open_, x, y)) < standing(masked, attack(masked, x, y)) - 5
