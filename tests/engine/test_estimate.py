"""What a plan says a cell costs: counted like the engine counts, likely near the truth, and never above the most."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import trained
from torch import nn

from advkit.attacks import NES, PGD, Square, TargetedAPGD
from advkit.core import Linf
from advkit.data import TensorData
from advkit.engine.estimate import Cost, Odds, Outlook, Pace, effort_of, time_passes, try_out
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Spectator, Sweep, make_plan, run_plan
from advkit.results.store import Store

PACE = Pace(call=0.0, each=1.0, gradient_call=0.0, gradient_each=3.0, batch=16, least=1, classes=4)
X = torch.full((1, 3, 8, 8), 0.5)
RADII = ("0.01", "0.03", "0.06")


@pytest.fixture(scope="module")
def wanted() -> Sweep:
    model, x, y = trained()
    return Sweep(
        models=(ModelSpec("mine", made=copy.deepcopy(model).float()),),
        attacks=(AttackSpec("pgd"),),
        radii=RADII,
        data=DataSpec("patterns", made=TensorData(x.float(), y, name="patterns")),
        samples=32,
        shard=16,
        batch_size=16,
        keep_pictures=0,
    )


def outlook(*efforts: object, radii: tuple[str, ...] = ("0.03",), **more: object) -> Outlook:
    return Outlook(efforts, radii, PACE, 10, **more)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- a step


def test_scores_need_no_backward_pass() -> None:
    assert (effort_of(Square(), X, 4, "apart").forwards, effort_of(Square(), X, 4, "apart").backwards) == (1, 0)
    nes = effort_of(NES(), X, 4, "apart")
    assert (nes.forwards, nes.backwards) == (NES().probes, 0)


def test_a_gradient_costs_both_and_a_look_elsewhere_a_forward_pass_more() -> None:
    from advkit.catalog import ATTACKS

    asked = {name: effort_of(ATTACKS[name].create(threat=Linf("8/255")), X, 4, "apart") for name in ("pgd", "ni-fgsm")}
    assert {name: (each.forwards, each.backwards) for name, each in asked.items()} == {
        "pgd": (1, 1),
        "ni-fgsm": (2, 1),
    }


def test_no_more_rivals_are_tried_than_there_are() -> None:
    assert effort_of(TargetedAPGD(steps=10, targets=9), X, 4, "apart").steps == 30
    assert effort_of(TargetedAPGD(steps=10, targets=2, restarts=3), X, 4, "apart").steps == 60


# ---------------------------------------------------------------------- a cell


def test_who_falls_is_not_paid_for_like_who_stands() -> None:
    pgd = outlook(effort_of(PGD(steps=40), X, 4, "apart"))
    all_stand, none_stand = (pgd.likely(100, Odds(1.0, {"0.03": share})) for share in (1.0, 0.0))
    assert all_stand.backwards == 100 * 40
    assert none_stand.backwards < 100 * 40 / 5
    assert pgd.most(100, Odds()).backwards == 100 * 40


def test_a_later_stage_meets_those_that_stand() -> None:
    two = outlook(effort_of(PGD(steps=40), X, 4, "apart"), effort_of(Square(queries=1000), X, 4, "apart"))
    cost = two.likely(100, Odds(1.0, {"0.03": 0.1}))
    assert 10_000 < cost.forwards < 12_000
    assert two.most(100, Odds()).forwards > 100_000


def test_a_search_that_gives_up_does_not_take_all_its_queries() -> None:
    patient, hasty = (effort_of(Square(queries=5000, patience=p), X, 4, "apart") for p in (0, 200))
    assert patient.stood == 5000
    assert hasty.stood < 500
    assert hasty.steps == 5000, "at most it does"


def test_a_nested_search_fails_once_for_each_example_that_stands() -> None:
    stands = dict.fromkeys(RADII, 1.0)
    cost = outlook(effort_of(PGD(steps=40), X, 4, "ladder"), radii=RADII).likely(100, Odds(1.0, stands))
    assert cost.backwards == 100 * 40
    afresh = outlook(effort_of(PGD(steps=40), X, 4, "apart"), radii=RADII).likely(100, Odds(1.0, stands))
    assert afresh.backwards == 3 * 100 * 40


def test_what_was_made_before_is_only_shown() -> None:
    made = outlook(effort_of(PGD(steps=40), X, 4, "all"), shown=PACE)
    again = replace(made, known=True)
    assert made.likely(100, Odds()).backwards == 100 * 40
    assert again.likely(100, Odds()).passes == made.likely(100, Odds()).passes, "which are counted all the same"
    assert again.likely(100, Odds()).seconds < made.likely(100, Odds()).seconds / 10


def test_seconds_are_those_of_the_passes() -> None:
    cost = PACE.cost(rounds=0, forwards=10, backwards=4)
    assert cost.seconds == pytest.approx(4 * 3 + 6 * 1)
    call = replace(PACE, call=0.5, gradient_call=2.0, least=4)
    assert call.cost(rounds=5, forwards=5, backwards=5).seconds == pytest.approx(5 * 2 + 20 * 3, rel=0.01), (
        "rounds of one example are filled up"
    )


# ---------------------------------------------------------------------- measured


def test_a_pass_is_timed_with_and_without_its_gradient() -> None:
    class Slow(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([(x * k).tanh().sum((1, 2, 3)) for k in range(40)], 1)

    pace = time_passes(Slow(), torch.rand(16, 3, 32, 32), 16, 4, 40)
    assert pace.classes == 40
    assert pace.each > 0
    assert pace.gradient_each > 0


def test_a_model_without_a_gradient_can_be_timed() -> None:
    class Silent(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.detach().flatten(1)[:, :3]

    assert time_passes(Silent(), torch.rand(1, 3, 8, 8), 16, 4, 3).each > 0


def test_the_trial_sees_who_stands(wanted: Sweep) -> None:
    net, data = wanted.models[0].made, wanted.data.made
    assert net is not None
    assert data is not None
    odds = try_out(net, data, Linf, ("1e-6", "0.9"), replace(PACE, each=1e-6, gradient_each=1e-6))
    assert odds.pictures == 32
    assert odds.stands["1e-6"] == pytest.approx(odds.clean)
    assert odds.stands["0.9"] < 0.1
    few = try_out(net, data, Linf, ("0.9",), replace(PACE, each=10.0, gradient_each=30.0))
    assert few.pictures == 8, "a slow model is tried on few"


def test_a_model_without_a_gradient_is_planned_without_a_trial(wanted: Sweep) -> None:
    class Silent(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x).detach()

    net = wanted.models[0].made
    assert net is not None
    plan = make_plan(replace(wanted, models=(ModelSpec("silent", made=Silent(net)),), attacks=(AttackSpec("noise"),)),
                     tried=True)  # fmt: skip
    odds = plan.cells[1].odds
    assert not odds.stands
    assert odds.clean > 0.5


SLOW_SEARCH = (("queries", 150),)


@pytest.mark.parametrize(
    ("attack", "independent"),
    [
        (AttackSpec("fgsm"), False),
        (AttackSpec("pgd"), False),
        (AttackSpec("pgd", (("restarts", 2),)), True),
        (AttackSpec("square", SLOW_SEARCH), False),
        (AttackSpec("fmn", (("steps", 20),)), False),
        (AttackSpec("worst-case", (("steps", 20),)), False),
        (AttackSpec("nes", (("queries", 303),)), False),
        (AttackSpec("apgd-t", (("steps", 10),)), False),
    ],
    ids=lambda given: f"{given.name} {dict(given.settings)}" if isinstance(given, AttackSpec) else "",
)
def test_likely_is_near_the_truth_and_most_is_not_exceeded(
    wanted: Sweep, attack: AttackSpec, independent: bool, tmp_path: Path
) -> None:
    plan = make_plan(replace(wanted, attacks=(attack,), independent=independent), tried=True)
    run_plan(plan, tmp_path)
    store = Store(tmp_path)
    likely, most, truth = Cost(), Cost(), Cost()
    for planned in plan.cells:
        facts = store.facts(planned.cell)
        assert facts is not None
        likely, most = likely + planned.likely, most + planned.most
        if planned.cell.stages:
            truth += Cost(float(facts.forwards.sum()), float(facts.backwards.sum()))
    assert truth.forwards / 2 < likely.forwards < 2 * truth.forwards
    assert truth.backwards / 2 <= likely.backwards <= 2 * truth.backwards
    assert likely.forwards <= most.forwards >= truth.forwards
    assert likely.backwards <= most.backwards >= truth.backwards


def test_of_a_cell_that_was_begun_the_rest_costs_what_was_seen(wanted: Sweep, tmp_path: Path) -> None:
    plan = make_plan(wanted)  # without a trial: half of the examples are taken to stand

    class Enough(Exception):
        pass

    def stop(report: object) -> None:
        if report.task.cell.stages:  # type: ignore[attr-defined]
            raise Enough

    with pytest.raises(Enough):
        run_plan(plan, tmp_path, spectator=Spectator(report=stop))
    store = Store(tmp_path)
    clean, attacked = plan.costs(store)
    assert (clean.done, attacked.done) == (32, 16)
    assert clean.likely.passes == clean.most.passes == 0
    facts = store.facts(attacked.planned.cell)
    assert facts is not None
    assert attacked.likely.passes == pytest.approx(facts.forwards.sum() + facts.backwards.sum())
    assert attacked.most.passes == pytest.approx(attacked.planned.most.passes / 2)
