"""AutoAttack as published, and the ensemble that takes a fraction of its passes."""

from __future__ import annotations

import copy
from dataclasses import fields, replace

import pytest
import torch
from helpers import conv_net, linear, pictures, trained

from advkit.attacks import APGD, FAB, Square, TargetedAPGD, TargetedFAB, autoattack, standard
from advkit.catalog import ATTACKS
from advkit.core import DLR, L0, L1, L2, CrossEntropy, Ensemble, Linf
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.stages import Observer
from advkit.errors import InputError


def test_the_standard_version_has_the_papers_order_and_budgets():
    stages = autoattack(Linf("8/255")).stages
    assert [name for name, _ in stages] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    ce, apgd_t, fab_t, square = (attack for _, attack in stages)
    assert (type(ce), ce.steps, ce.loss, ce.restarts) == (APGD, 100, CrossEntropy(), 1)
    assert (type(apgd_t), apgd_t.steps, apgd_t.targets) == (TargetedAPGD, 100, 9)
    assert (type(fab_t), fab_t.steps, fab_t.targets) == (TargetedFAB, 100, 9)
    assert (type(square), square.queries) == (Square, 5000)


def test_plus_has_five_restarts_and_rand_twenty_draws():
    plus = dict(autoattack(version="plus").stages)
    assert list(plus) == ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"]
    assert [plus[name].restarts for name in ("apgd-ce", "apgd-dlr", "fab")] == [5, 5, 5]
    assert (plus["apgd-dlr"].loss, type(plus["fab"])) == (DLR(), FAB)
    rand = dict(autoattack(version="rand").stages)
    assert [(name, attack.views) for name, attack in rand.items()] == [("apgd-ce", 20), ("apgd-dlr", 20)]


@pytest.mark.parametrize("name", ["autoattack", "standard"])
def test_other_balls_and_versions_are_refused(name):
    with pytest.raises(InputError, match="works in Linf, L2 and L1, not in L0"):
        ATTACKS.create(name, threat=L0(3))
    with pytest.raises(InputError, match="allowed: standard, plus, rand"):
        ATTACKS.create("autoattack", version="fast")
    with pytest.raises(InputError, match=r"'fast'; it is one of standard, plus, rand\."):
        autoattack(version="fast")


def short(ensemble: Ensemble) -> Ensemble:
    """The same with few steps."""
    return Ensemble(
        tuple(
            (name, type(a)(**{k: (min(v, 6) if k in ("steps", "queries") else v) for k, v in settings(a).items()}))
            for name, a in ensemble.stages
        )
    )


def settings(attack) -> dict[str, object]:
    return {each.name: getattr(attack, each.name) for each in fields(attack) if each.init}


@pytest.mark.parametrize("classes", [2, 3, 4, 12])
@pytest.mark.parametrize("ball", [Linf(0.05), L2(0.5), L1(4)], ids=lambda ball: ball.norm)
@pytest.mark.parametrize("make", [autoattack, standard], ids=["autoattack", "standard"])
def test_any_number_of_classes_will_do(make, ball, classes):
    model, x = linear(classes, dtype=torch.float32), pictures(4, dtype=torch.float32)
    y = model(x).argmax(1)
    result = evaluate(model, TensorData(x, y), short(make(ball)))
    assert len(result.outcomes) >= 4
    assert result.stands(ball.eps.exact).sum() <= len(x)


def most(ensemble: Ensemble, classes: int = 10) -> tuple[int, int]:
    """Forward and backward passes of an example that nothing beats."""
    forwards = backwards = 0
    for _, attack in ensemble.stages:
        rivals = min(attack.targets, classes - 1)
        steps = attack.steps * attack.restarts * max(1, rivals)
        asked = classes - 1 if attack.targets and attack.ranking == "malt" else 0
        forwards += steps + asked
        backwards += (steps + asked) * (attack.tells == "gradient")
    return forwards, backwards


def test_standard_takes_less_than_a_fifth_of_the_passes_of_autoattack_where_nothing_falls():
    theirs, their_backwards = most(autoattack())
    assert (theirs, their_backwards) == (6900, 1900)
    model, x = conv_net(10, dtype=torch.float32), pictures(3, dtype=torch.float32)
    data = TensorData(x, model(x).argmax(1))
    result = evaluate(model, data, standard(Linf(1e-6)), doubts=False)
    asked, given_back = (sum(int(getattr(o, way).sum()) for o in result.outcomes) for way in ("forwards", "backwards"))
    assert given_back == 329 * len(x)
    assert 5 * given_back < their_backwards * len(x)
    assert (329 + 200 + 250) * len(x) <= asked < theirs * len(x) / 5
    # What is counted for AutoAttack is what is asked, but for verdicts.
    few = short(autoattack(Linf(1e-6)))
    result = evaluate(model, data, few, doubts=False)
    asked, given_back = (sum(int(getattr(o, way).sum()) for o in result.outcomes) for way in ("forwards", "backwards"))
    expected, expected_back = (len(x) * passes for passes in most(few))
    assert given_back == expected_back
    assert expected <= asked <= expected + 50 * len(x)


def test_an_example_is_given_up_that_does_not_come_nearer_and_no_other():
    model, x, y = trained()
    patient, hasty = Square(Linf(0.03), queries=240), Square(Linf(0.03), queries=240, patience=40)
    data = TensorData(x.float(), y)
    model = copy.deepcopy(model).float()
    whole, some = (evaluate(model, data, attack, doubts=False).outcomes[0] for attack in (patient, hasty))
    stood = whole.attacked & ~whole.success
    assert int(stood.sum()) > 5
    assert bool((whole.steps[stood] == 240).all())
    left = some.attacked & ~some.success
    assert set(some.steps[left].tolist()) <= {40, 60, 90, 135, 202, 240}
    assert float(some.steps[left].double().mean()) < 200
    assert not bool((some.success & ~whole.success).any()), "the same search, as long as it lasts"
    assert int(some.success.sum()) >= int(whole.success.sum()) - 3


def test_the_last_stage_begins_where_the_others_came_nearest():
    model, x, y = trained()
    model = copy.deepcopy(model).float()
    data = TensorData(x.float(), y)
    ball = Linf(0.03)
    few = short(standard(ball))
    seen: dict[str, list[torch.Tensor]] = {}

    def finished(name: str, part) -> None:
        seen.setdefault(name.split("@")[0], []).append(part)

    evaluate(model, data, few, observer=Observer(finished=finished))
    margins = {
        name: {int(i): float(m) for part in parts for i, m in zip(part.example, part.margin, strict=True)}
        for name, parts in seen.items()
    }
    last = margins["square-near"]
    assert len(last) > 3
    for place, margin in last.items():
        assert margin >= max(found[place] for name, found in margins.items() if "square" not in name) - 1e-6
    alone = tuple((name, replace(a, resumes=False) if isinstance(a, Square) else a) for name, a in few.stages)
    scratch = evaluate(model, data, Ensemble(alone))
    assert scratch.stands(ball.eps.exact).sum() >= evaluate(model, data, few).stands(ball.eps.exact).sum()


def test_a_mean_over_draws_is_taken_by_the_version_for_models_that_draw():
    class Counted(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.rows = inner, 0

        def forward(self, x):
            self.rows += len(x) * bool(x.requires_grad)
            return self.inner(x)

    model, x = conv_net(4, dtype=torch.float32), pictures(3, dtype=torch.float32)
    y = model(x).argmax(1)
    rows = []
    for views in (1, 5):
        counted = Counted(model)
        APGD(Linf(0.001), steps=4, views=views)(counted, x, y)
        rows.append(counted.rows)
    assert rows[1] == 5 * rows[0]
