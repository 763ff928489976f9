"""Attacks made on a surrogate: it alone is searched on, the model judges once, and the rows say so."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from helpers import Spy, conv_net, linear, pictures, trained
from torch import nn

from advkit.attacks import BIM, FGSM, PGD, Patch
from advkit.core import Area, Linf
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.study import parse_study, write_study
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.errors import InputError, ModelError

BALL = Linf(0.03)


def relative(model: nn.Module, size: float = 0.05) -> nn.Module:
    """The model with noise on its weights: another one that sees alike."""
    other, draws = copy.deepcopy(model), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype))
    return other


def test_the_surrogate_alone_is_searched_on_and_the_model_is_shown_each_picture_once():
    model, x, y = trained()
    spy, other = Spy(model), Spy(relative(model))
    result = evaluate(spy, (x, y), BIM(BALL), surrogate=other)
    (row,) = result.rows()
    assert (row.attack, row.surrogate) == ("bim via Spy", "Spy")
    right = int(result.correct.sum())
    assert other.backwards == row.backwards == right * 10
    assert spy.backwards == 0

    x_adv = BIM(BALL)(other.inner, x, y, keep="best")
    with torch.no_grad():
        answers = model(x_adv).argmax(1)
    assert torch.equal(result.outcomes[0].prediction[result.correct], answers[result.correct])
    assert 0 < row.success < 1


def test_a_copy_in_another_scale_is_as_good_as_the_model_and_a_stranger_is_not():
    model, x = linear(5), pictures(40)
    y = model(x).argmax(1)
    scaled = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.mul_(3)
    own, through, strange = (
        evaluate(model, (x, y), PGD(Linf(0.1), steps=10), surrogate=other).rows()[0].success
        for other in (None, scaled, linear(5, seed=9))
    )
    assert own == through > 2 * strange
    assert own > 0.3


def test_the_row_the_json_and_the_table_say_that_it_is_a_transfer():
    from advkit.results.robustness import robustness_table

    model, x, y = trained()
    result = evaluate(model, (x, y), ["bim", "worst-case"], samples=6, surrogate=relative(model))
    found = json.loads(json.dumps(result.to_json()))
    assert found["surrogate"]["model"] == "Sequential"
    assert found["surrogate"]["weights"] == "caller's"
    assert 0.5 < found["surrogate"]["accuracy"] <= 1
    assert [row["attack"] for row in found["rows"]][:2] == ["bim via Sequential", "pgd-ce via Sequential"]
    assert {row["surrogate"] for row in found["rows"]} == {"Sequential"}
    assert result.outcomes[2].follows == "pgd-ce via Sequential"
    assert "Via Sequential: made on that model (weights caller's, " in robustness_table(result).caption
    assert "surrogate" not in evaluate(model, (x, y), "bim", samples=6).to_json()


def test_what_is_one_for_many_pictures_is_fitted_on_the_surrogate():
    model, x, y = trained()
    data, spy, other = TensorData(x.float(), y), Spy(copy.deepcopy(model).float()), Spy(relative(model).float())
    evaluate(spy, data, Patch(Area(0.2), steps=3, batch=8, pictures=16), samples=8, surrogate=other)
    assert other.backwards == 3 * 8
    assert spy.backwards == 0


def test_a_surrogate_must_be_another_model_of_the_same_classes():
    model, x, y = trained()
    with pytest.raises(InputError, match="the surrogate Sequential is the very model that is attacked"):
        evaluate(model, (x, y), "bim", surrogate=model)
    with pytest.raises(
        ModelError, match=r"^the surrogate Sequential has 5 classes and the model 4; a surrogate must tell"
    ):
        evaluate(model, (x, y), "bim", surrogate=conv_net(5))
    broken = relative(model)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(ModelError, match=r"^the surrogate Sequential: the weights hold NaN"):
        evaluate(model, (x, y), "bim", surrogate=broken)
    with pytest.raises(
        InputError, match=r"^adaptive says which model a defense's attacks are made on, and a surrogate"
    ):
        evaluate(model, (x, y), "bim", defense="bits:4", against="adaptive", surrogate=relative(model))


def test_both_models_come_back_as_they_were():
    model, x, y = trained()
    model, other = copy.deepcopy(model).train(), relative(model).train()
    evaluate(model, (x, y), BIM(BALL), samples=4, surrogate=other, defense="bits:5")
    for net in (model, other):
        assert all(module.training for module in net.modules())
        assert all(p.requires_grad and p.grad is None for p in net.parameters())


# ---------------------------------------------------------------------- in a sweep


@pytest.fixture
def wanted() -> Sweep:
    model, x, y = trained()
    nets = {"a": model, "b": relative(model, 0.1), "c": relative(model)}
    specs = {name: ModelSpec(name, made=copy.deepcopy(net).float()) for name, net in nets.items()}
    return Sweep(
        models=(specs["a"], specs["b"]),
        attacks=(AttackSpec("fgsm"),),
        radii=("0.03", "0.06"),
        data=DataSpec("patterns", made=TensorData(x[:10].float(), y[:10], name="patterns")),
        samples=10,
        surrogates=(specs["c"], specs["b"]),
        defenses=("bits:4",),
    )


def test_a_sweep_makes_every_attack_on_every_surrogate_and_shows_it_to_every_other_model(wanted, tmp_path):
    lines = run_plan(make_plan(wanted), tmp_path).grid.lines
    shown = {(line.attack, line.cell.surrogate, line.model, line.cell.defense, line.eps) for line in lines}
    pairs = [("c", "a"), ("b", "a"), ("c", "b")]
    assert shown == {(f"fgsm via {s}", s, m, "bits:4", eps) for s, m in pairs for eps in ("0.03", "0.06")}
    for line in lines:
        surrogate = next(spec.made for spec in wanted.surrogates if spec.model == line.cell.surrogate)
        model = next(spec.made for spec in wanted.models if spec.model == line.model)
        x, y = (each[:10] for each in (trained()[1].float(), trained()[2]))
        alone = evaluate(model, (x, y), FGSM(Linf(line.eps)), surrogate=surrogate, defense="bits:4")
        assert line.stands.tolist() == (alone.outcomes[0].stands(y)).tolist()


def test_a_sweep_refuses_surrogates_that_say_nothing(wanted):
    with pytest.raises(InputError, match=r"^transfer and surrogates each say which models attacks are made on"):
        make_plan(replace(wanted, transfer=True))
    with pytest.raises(InputError, match=r"^every surrogate is the very model that is attacked"):
        make_plan(replace(wanted, models=wanted.models[:1], surrogates=wanted.models[:1]))
    other = ModelSpec("five", made=conv_net(5, dtype=torch.float32))
    with pytest.raises(ModelError, match=r"^the surrogate five has 5 classes and the model a 4; a surrogate must"):
        make_plan(replace(wanted, surrogates=(other,)))


def test_a_study_file_names_surrogates_as_it_names_models(tmp_path):
    models = '[[model]]\nmodel = "lenet"\n[[surrogate]]\nmodel = "resnet"\nweights = "adversarial"\n'
    found = parse_study(f'[study]\neps = "8/255"\n{models}[[attack]]\nattack = "mi-fgsm"\n')
    assert found.surrogates == (ModelSpec("resnet", "adversarial", name="resnet@adversarial"),)
    assert parse_study(write_study(found)) == found
    with pytest.raises(
        InputError, match=r"^\[\[surrogate\]\]: the key model is missing; write for example model = \"vgg\""
    ):
        parse_study(models.replace('model = "resnet"', "seed = 1") + '[study]\neps = 0.1\n[[attack]]\nattack = "bim"\n')
