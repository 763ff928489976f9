"""Transfer: the attack sees the surrogate alone, has one try on the model, and counts all passes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import Spy, conv_net, linear, pictures, trained
from torch import Tensor, nn

from advkit.attacks import BIM, FGSM, PGD, Square
from advkit.core import L2, Attack, Goal, Linf, Targeted, Untargeted
from advkit.core.modes import borrowed
from advkit.data import TensorData
from advkit.engine.examples import Finished, Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.search import Found
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan, sweep
from advkit.engine.transfer import Made, transfer
from advkit.errors import InputError

EXACT = {"rtol": 0, "atol": 1e-12}
ATTACKS: list[Attack] = [PGD(Linf(0.03), steps=5), BIM(L2(0.4), steps=5), FGSM(Linf(0.03))]


def shown(
    attacks: Sequence[Attack],
    surrogate: nn.Module,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    goal: Goal | None = None,
    attacked: Tensor | None = None,
    batch_size: int = 16,
    made: Made | None = None,
) -> tuple[Found, dict[tuple[int, int], Tensor]]:
    """What was made on the surrogate, judged by the model; the pictures by radius and example."""
    kept: dict[tuple[int, int], Tensor] = {}

    def sink(done: Finished) -> None:
        for i, radius in enumerate(done.rung.tolist()):
            kept[radius, int(done.example[i])] = done.x_adv[i]

    with borrowed(surrogate), borrowed(model):
        found = transfer(
            attacks,
            Passes(surrogate, Precision.own(surrogate), batch_size),
            Passes(model, Precision.own(model), batch_size),
            Source(lambda indices: x[list(indices)], goal or Untargeted(y)),
            torch.ones(len(attacks), len(x), dtype=torch.bool) if attacked is None else attacked,
            y,
            sink=sink,
            made=made,
            index=torch.arange(len(x)) + 100,
        )
    return found, kept


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_shown_to_the_model_it_was_made_on_it_is_the_attack(attack: Attack) -> None:
    model, x, y = trained()
    found, kept = shown([attack], model, model, x, y)
    x_adv = attack(model, x, y, keep="best")
    torch.testing.assert_close(torch.stack([kept[0, i] for i in range(len(x))]), x_adv, **EXACT)
    assert torch.equal(found.prediction[0], model(x_adv).argmax(1))
    assert torch.equal(found.success[0], model(x_adv).argmax(1) != y)
    torch.testing.assert_close(found.distance[0], attack.threat.distance(x_adv, x), **EXACT)
    assert 0 < int(found.success.sum()) < len(x), "an easy case shows nothing"


def test_a_search_by_scores_ends_at_its_first_success_on_the_surrogate() -> None:
    model, x, y = trained()
    attack = Square(Linf(0.12), queries=80)
    found, kept = shown([attack], model, model, x, y)
    torch.testing.assert_close(
        torch.stack([kept[0, i] for i in range(len(x))]), attack(model, x, y, keep="first"), **EXACT
    )
    beaten = found.success[0]
    assert 0 < int(beaten.sum()) < len(x), "an easy case shows nothing"
    assert bool((found.steps[0][~beaten] == 80).all())
    assert float(found.steps[0][beaten].double().mean()) < 60


@pytest.mark.parametrize("ball", [Linf(0.004), L2(0.06)], ids=repr)
def test_a_linear_surrogate_that_differs_in_scale_alone_is_as_good_as_the_model(ball: Linf | L2) -> None:
    model, x = linear(2, seed=3), pictures(30, margin=0.35)
    with torch.no_grad():
        model[1].bias.copy_(-0.5 * model[1].weight.sum(1))
    surrogate = copy.deepcopy(model)
    with torch.no_grad():
        surrogate[1].weight.mul_(7.0)
        surrogate[1].bias.mul_(7.0)
    y = model(x).argmax(1)
    slope = (model[1].weight[1] - model[1].weight[0]).detach()
    margin = (model(x)[:, 1] - model(x)[:, 0]).abs()
    cost = margin / torch.linalg.vector_norm(slope, 1 if isinstance(ball, Linf) else 2)
    near = cost < 0.98 * ball.eps
    clear = near | (cost > ball.eps)
    found, _ = shown([BIM(ball, steps=20)], surrogate, model, x, y)
    assert torch.equal(found.success[0][clear], near[clear])
    assert 3 < int(near.sum()) < 27, "an easy case shows nothing"


def test_a_surrogate_that_knows_nothing_of_the_model_helps_less_than_the_model_and_the_model_judges() -> None:
    model, x, y = trained()
    attack = PGD(Linf(0.06), steps=8)
    stranger = conv_net(4, norm=True, seed=9)
    own, _ = shown([attack], model, model, x, y)
    strange, kept = shown([attack], stranger, model, x, y)
    assert int(strange.success.sum()) < int(own.success.sum()) / 2
    pictures_shown = torch.stack([kept[0, i] for i in range(len(x))])
    assert torch.equal(strange.prediction[0], model(pictures_shown).argmax(1))
    on_stranger = stranger(pictures_shown).argmax(1) != y
    assert int(on_stranger.sum()) > int(strange.success.sum())


@pytest.mark.parametrize("room", [1 << 20, 20_000], ids=["all is kept", "the oldest give way"])
def test_what_is_kept_for_the_next_model_changes_no_fact(room: int) -> None:
    surrogate, x, y = trained()
    models = [conv_net(4, norm=True, seed=seed) for seed in (9, 10)]
    made, spy = Made(room), Spy(surrogate)
    attacks = [PGD(Linf(eps), steps=4) for eps in (0.03, 0.06)]
    first = torch.ones(2, len(x), dtype=torch.bool)
    first[0, ::2] = False
    shown(attacks, spy, models[0], x, y, attacked=first, made=made)
    paid = spy.backwards
    again, kept = shown(attacks, spy, models[1], x, y, made=made)
    fresh, pictures_shown = shown(attacks, surrogate, models[1], x, y)
    for name, value in vars(fresh).items():
        assert torch.equal(getattr(again, name), value), name
    assert all(torch.equal(kept[key], picture) for key, picture in pictures_shown.items())
    if room > 1 << 19:
        assert spy.backwards - paid == paid / 3, "a quarter of the pictures was still to be made"
    else:
        assert spy.backwards - paid > paid / 2


def test_pictures_lie_in_the_ball_of_their_own_radius() -> None:
    model, x, y = trained()
    attacks = [PGD(Linf(eps), steps=4) for eps in (0.01, 0.03, 0.08)]
    model, x = copy.deepcopy(model).float(), x.float()
    found, kept = shown(attacks, conv_net(4, seed=9, dtype=torch.float32), model, x, y)
    assert len(kept) == 3 * len(x)
    for (radius, example), x_adv in kept.items():
        assert bool(attacks[radius].threat.contains(x_adv[None], x[example][None]).all())
        assert float(found.distance[radius, example]) <= attacks[radius].threat.eps
    assert bool(found.tested.all())


def test_the_passes_of_both_models_are_counted_and_only_the_surrogate_is_asked_for_gradients() -> None:
    inner, x, y = trained()
    attacks = [PGD(Linf(eps), steps=4, restarts=2) for eps in (0.01, 0.03)]
    attacked = torch.ones(2, len(x), dtype=torch.bool)
    attacked[0, ::2] = False
    surrogate, model = Spy(conv_net(4, seed=9)), Spy(inner)
    found, kept = shown(attacks, surrogate, model, x, y, attacked=attacked, batch_size=7)
    assert model.forwards == int(attacked.sum()), "one try for each example and radius"
    assert model.backwards == 0
    assert surrogate.backwards == int(found.backwards.sum()) > 0
    assert surrogate.forwards + model.forwards == int(found.forwards.sum())
    assert torch.equal(found.tested, attacked)
    assert {place for place in kept if not attacked[place]} == set()
    assert int(found.forwards[~attacked].sum()) == 0
    assert torch.equal(found.prediction[0, ::2], y[::2]), "who is not attacked stays as it was"


def test_what_is_found_does_not_depend_on_the_batch() -> None:
    model, x, y = trained()
    surrogate = conv_net(4, norm=True, seed=9)
    attacks = [PGD(Linf(eps), steps=4, restarts=2) for eps in (0.03, 0.08)]
    whole, kept = shown(attacks, surrogate, model, x, y, batch_size=64)
    for size in (1, 7):
        other, pictures_made = shown(attacks, surrogate, model, x, y, batch_size=size)
        assert torch.equal(other.prediction, whole.prediction)
        assert torch.equal(other.forwards, whole.forwards)
        for place, x_adv in kept.items():
            torch.testing.assert_close(pictures_made[place], x_adv, **EXACT)


def test_a_target_is_reached_on_the_model_or_not_at_all() -> None:
    model, x, y = trained()
    goal = Targeted((y + 1) % 4)
    found, _ = shown([PGD(Linf(0.08), steps=8)], model, model, x, y, goal=goal)
    assert torch.equal(found.success[0], found.prediction[0] == goal.classes)
    assert int(found.success.sum()) > 0


# ---------------------------------------------------------------------- in a sweep


def patterns() -> TensorData:
    _, x, y = trained()
    return TensorData(x[:10].float(), y[:10], name="patterns")


def three() -> tuple[ModelSpec, ...]:
    nets = {"a": trained()[0], "b": conv_net(4, seed=8), "c": conv_net(4, norm=True, seed=9)}
    return tuple(ModelSpec(name, made=copy.deepcopy(net).float()) for name, net in nets.items())


@pytest.fixture
def wanted() -> Sweep:
    data = patterns()
    return Sweep(
        models=three(),
        attacks=(AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 2),))),
        radii=("0.03", "0.06"),
        data=DataSpec("patterns", made=data),
        samples=10,
        transfer=True,
    )


def test_a_sweep_shows_every_model_what_was_made_on_every_other_and_none_its_own(wanted: Sweep, tmp_path: Path) -> None:
    lines = run_plan(make_plan(wanted), tmp_path).grid.lines
    moved = [(line.attack, line.cell.surrogate, line.model, line.eps) for line in lines if line.cell.surrogate]
    pairs = [(a, b) for a in "abc" for b in "abc" if a != b]
    expected = [
        (f"{attack} via {a}", a, b, eps) for attack in ("fgsm", "pgd") for a, b in pairs for eps in ("0.03", "0.06")
    ]
    assert sorted(moved) == sorted(expected)
    own = [line for line in lines if not line.cell.surrogate]
    assert len(own) == 3 * 2 * 2, "attacks on the models themselves are made all the same"
    assert all(line.complete and line.n == 10 for line in lines)


def test_a_line_of_a_sweep_is_the_accuracy_of_one_model_on_what_was_made_on_another(
    wanted: Sweep, tmp_path: Path
) -> None:
    nets = {spec.model: spec.made for spec in wanted.models}
    data = patterns()
    x, y = data.pictures(range(10)), torch.as_tensor(data.labels)
    checked = 0
    for line in run_plan(make_plan(wanted), tmp_path).grid.lines:
        if line.cell.surrogate:
            steps = {"fgsm": FGSM, "pgd": lambda ball: PGD(ball, steps=2)}[line.attack.split()[0]]
            x_adv = steps(Linf(line.eps))(nets[line.cell.surrogate], x, y, keep="best")
            right = nets[line.model](x).argmax(1) == y
            stands = right & (nets[line.model](x_adv).argmax(1) == y)
            assert line.stands.tolist() == stands.tolist()
            checked += 1
    assert checked == 24


def test_the_surrogate_has_no_defense_and_the_model_has_its_own(wanted: Sweep) -> None:
    plan = make_plan(replace(wanted, defenses=("none", "bits:3")))
    moved = [p for p in plan.cells if p.cell.surrogate and "oblivious" not in p.record.about]
    assert {(p.cell.model, p.cell.surrogate, p.cell.defense) for p in moved} == {
        (a, b, defense) for a in "abc" for b in "abc" if a != b for defense in ("none", "bits:3")
    }
    assert all(p.task.surrogate is not None and p.task.surrogate.model == p.cell.surrogate for p in moved)


def test_transfer_needs_two_models(wanted: Sweep) -> None:
    sentence = "made on one model and shown to another; give at least two models"
    with pytest.raises(InputError, match=sentence):
        make_plan(replace(wanted, models=wanted.models[:1]))


def test_transfer_of_python_objects_is_one_argument(tmp_path: Path) -> None:
    data = patterns()
    nets = {spec.model: spec.made for spec in three()[:2]}
    result = sweep(nets, data, FGSM(), 0.06, out=tmp_path, transfer=True)  # type: ignore[arg-type]
    assert sorted((line.model, line.attack) for line in result.grid.lines) == [
        ("a", "fgsm"),
        ("a", "fgsm via b"),
        ("b", "fgsm"),
        ("b", "fgsm via a"),
    ]
