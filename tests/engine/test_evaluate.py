"""evaluate: every attack meets every correct example, each verdict is the caller's model's, and the model comes back."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import Detached, FailsAt, conv_net, pictures, trained
from torch import Tensor, nn

import advkit
from advkit.attacks import FGSM, PGD, Noise
from advkit.core import L2, Linf, Margin
from advkit.core.attack import Ensemble
from advkit.data import TensorData
from advkit.data.picture import Picture
from advkit.engine.evaluate import accuracy, evaluate
from advkit.engine.stages import Observer
from advkit.errors import InputError, ModelError, PassError
from advkit.results.outcome import Evaluation

WEAK, STRONG = PGD(Linf(0.03), steps=3), PGD(Linf(0.06), steps=5)


@pytest.fixture
def net() -> nn.Module:
    return copy.deepcopy(trained()[0]).float()


@pytest.fixture
def data() -> TensorData:
    _, x, y = trained()
    y = y.clone()
    y[:4] = (y[:4] + 1) % 4  # four that the model gets wrong
    return TensorData(x.float(), y, name="patterns")


def facts(result: Evaluation) -> list[tuple[object, ...]]:
    names = ("attacked", "success", "prediction", "distance", "steps", "forwards", "backwards")
    return [(o.name, *(getattr(o, name).tolist() for name in names)) for o in result.outcomes]


def test_every_attack_meets_all_that_the_model_gets_right_and_nothing_else(net: nn.Module, data: TensorData) -> None:
    result = evaluate(net, data, [STRONG, WEAK, Noise(Linf(0.06), steps=2)])
    assert torch.equal(result.clean, net(data.tensors()[0]).argmax(1))
    assert result.clean_accuracy.value <= 28 / 32
    for outcome in result.outcomes:
        assert torch.equal(outcome.attacked, result.correct)
        assert not outcome.success[~result.correct].any()
        assert (outcome.forwards[result.correct] > 0).all()
        assert (outcome.forwards[~result.correct] == 0).all()
        assert (outcome.distance <= 0.06).all()
    assert 0 < result.rows()[0].success < 1, "an easy case shows nothing"


def test_every_stated_fact_can_be_seen_again_on_the_callers_model(net: nn.Module, data: TensorData) -> None:
    seen: dict[int, Tensor] = {}

    def finished(name: str, part: object) -> None:
        seen.update(zip(part.example.tolist(), part.x_adv, strict=True))  # type: ignore[attr-defined]

    result = evaluate(net, data, STRONG, observer=Observer(finished=finished))
    (outcome,) = result.outcomes
    index = sorted(seen)
    x_adv = torch.stack([seen[i] for i in index])
    assert index == result.correct.nonzero().squeeze(1).tolist()
    assert torch.equal(net(x_adv).argmax(1), outcome.prediction[index])
    assert torch.equal(outcome.prediction[index] != data.labels[index], outcome.success[index])
    assert torch.equal(Linf(0.06).distance(x_adv, data.pictures(index)), outcome.distance[index])


def test_the_worst_case_joins_attacks_per_example(net: nn.Module, data: TensorData) -> None:
    result = evaluate(net, data, [PGD(Linf(0.05), steps=3), PGD(Linf(0.05), steps=3, loss=Margin())])
    both = [outcome.stands(result.labels) for outcome in result.outcomes]
    assert result.worst()[0][1].value == float((both[0] & both[1]).double().mean())


def test_stages_of_an_ensemble_meet_only_survivors(net: nn.Module, data: TensorData) -> None:
    stages = Ensemble((("first", STRONG), ("second", STRONG), ("third", Noise(Linf(0.06), steps=1))))
    result = evaluate(net, data, stages)
    first, second, third = result.outcomes
    assert torch.equal(second.attacked, first.stands(result.labels))
    assert torch.equal(third.attacked, second.stands(result.labels))
    accuracies = [row.accuracy.value for row in result.rows()]
    assert accuracies == sorted(accuracies, reverse=True)
    assert result.worst()[0][1].value == accuracies[-1]


def test_survivors_join_attacks_of_the_same_ball_only(net: nn.Module, data: TensorData) -> None:
    plain = evaluate(net, data, [STRONG, WEAK, STRONG])
    joined = evaluate(net, data, [STRONG, WEAK, STRONG], survivors=True)
    assert [outcome.follows for outcome in joined.outcomes] == ["", "", "pgd"]
    assert joined.outcomes[2].attacked.sum() < plain.outcomes[2].attacked.sum()
    assert [a.value for _, a in joined.worst()] == [a.value for _, a in plain.worst()]


def test_attacks_may_be_names_values_and_mappings(net: nn.Module, data: TensorData) -> None:
    def names(attacks: object) -> list[str]:
        return [outcome.name for outcome in evaluate(net, data, attacks, samples=4).outcomes]  # type: ignore[arg-type]

    assert names("fgsm") == ["fgsm"]
    assert names(["fgsm", FGSM(Linf(0.1)), FGSM()]) == ["fgsm", "fgsm", "fgsm (2)"]
    assert names({"mine": FGSM(), "yours": Ensemble((("a", FGSM()),))}) == ["mine", "yours/a"]
    assert names(Ensemble((("a", FGSM()), ("a", FGSM())))) == ["a", "a (2)"]


def test_two_attacks_of_one_name_in_one_ball_are_told_apart_however_the_radius_is_written(
    net: nn.Module, data: TensorData
) -> None:
    result = evaluate(net, data, [FGSM(Linf("1/10")), FGSM(Linf("0.1"))], samples=8, survivors=True)
    assert [(o.name, o.follows) for o in result.outcomes] == [("fgsm", ""), ("fgsm (2)", "fgsm")]


@pytest.mark.parametrize(
    ("attacks", "said"),
    [
        ([], "no attack was given"),
        ([FGSM(Linf(0.1)), FGSM(L2(0.1))], "different norms"),
        ([3], "given as int"),
        ("pdg", "Did you mean 'pgd'"),
    ],
)
def test_attacks_that_make_no_table_are_refused(net: nn.Module, data: TensorData, attacks: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        evaluate(net, data, attacks)  # type: ignore[arg-type]


@pytest.mark.parametrize("attack", [STRONG, PGD(L2(0.4), steps=4, restarts=2), Noise(Linf(0.06), steps=3)])
def test_neither_batch_nor_order_changes_what_happens_to_an_example(
    net: nn.Module, data: TensorData, attack: PGD
) -> None:
    plain = facts(evaluate(net, data, attack, batch_size=64))
    for size in (1, 7):
        for mine, theirs in zip(facts(evaluate(net, data, attack, batch_size=size))[0], plain[0], strict=True):
            # Sums over another batch may differ in the last bit of float32; nothing else may.
            if isinstance(mine, list) and isinstance(mine[0], float):
                assert mine == pytest.approx(theirs, abs=1e-6)
            else:
                assert mine == theirs
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    x, y = data.tensors()
    moved = evaluate(net, (x[order], y[order]), attack, batch_size=64).outcomes[0]
    (first,) = evaluate(net, data, attack, batch_size=64).outcomes
    for name in ("attacked", "success", "prediction", "steps", "forwards", "backwards"):
        assert torch.equal(getattr(moved, name), getattr(first, name)[order]), name


def state(net: nn.Module) -> tuple[object, ...]:
    return (
        [(name, module.training) for name, module in net.named_modules()],
        [(name, p.requires_grad, None if p.grad is None else p.grad.clone()) for name, p in net.named_parameters()],
        {name: tensor.clone() for name, tensor in net.state_dict().items()},
        [len(module._forward_hooks) for module in net.modules()],
    )


def same(left: object, right: object) -> bool:
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and torch.equal(left, right)
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@pytest.mark.parametrize("fails", [None, 1, 3])
def test_the_model_comes_back_as_it_was(net: nn.Module, data: TensorData, fails: int | None) -> None:
    net.train()
    norm = next(module for module in net.modules() if isinstance(module, nn.BatchNorm2d))
    norm.eval()
    first = next(net.parameters())
    first.requires_grad_(False)
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 0.5) if parameter.requires_grad else None
    net.register_forward_hook(lambda *_: None)
    before = copy.deepcopy(state(net))
    generator = torch.get_rng_state()
    model = net if fails is None else FailsAt(net, fails)
    if fails is None:
        with torch.no_grad():
            evaluate(model, data, STRONG)
    else:
        with pytest.raises(ValueError, match="no answer"):
            evaluate(model, data, STRONG, precision="float32")
    assert same(state(net), before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_an_observer_that_raises_stops_the_run_and_the_model_comes_back(net: nn.Module, data: TensorData) -> None:
    net.train()
    told: list[Evaluation] = []

    def row(result: Evaluation) -> None:
        told.append(result)
        if len(result.outcomes) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(net, data, [WEAK, STRONG], observer=Observer(row=row))
    assert [len(result.outcomes) for result in told] == [0, 1]
    assert net.training


def test_a_caller_in_inference_mode_gets_the_same_facts(net: nn.Module, data: TensorData) -> None:
    with torch.inference_mode():
        inside = facts(evaluate(net, data, STRONG))
    assert inside == facts(evaluate(net, data, STRONG))


def test_an_unknown_label_is_what_the_model_says(tmp_path: object) -> None:
    data = TensorData(pictures(6, dtype=torch.float32), torch.zeros(6, dtype=torch.long))
    data.labels = torch.full((6,), -1)
    net = conv_net(dtype=torch.float32)
    result = evaluate(net, data, FGSM(Linf(0.05)))
    assert torch.equal(result.labels, net(data.tensors()[0]).argmax(1))
    assert result.clean_accuracy.value == 1
    assert (data.labels == -1).all(), "the data is the caller's"


def test_class_names_are_the_datas_else_the_models(net: nn.Module) -> None:
    _, x, y = trained()
    named = advkit.Classifier(net, name="net", classes=("a", "b", "c", "d"))
    assert evaluate(named, (x.float(), y), "fgsm", samples=2).classes == ("a", "b", "c", "d")
    theirs = TensorData(x.float(), y, classes=("w", "x", "y", "z"))
    assert evaluate(named, theirs, "fgsm", samples=2).classes == ("w", "x", "y", "z")
    assert evaluate(net, (x.float(), y), "fgsm", samples=2).classes == ("0", "1", "2", "3")


def test_a_target_counts_only_where_it_is_reached(net: nn.Module, data: TensorData) -> None:
    result = evaluate(net, data, STRONG, target="next")
    (outcome,) = result.outcomes
    assert result.targets is not None
    assert torch.equal(result.targets, (data.labels + 1) % 4)
    hit = outcome.success
    assert hit.any()
    assert torch.equal(outcome.prediction[hit], result.targets[hit])
    away = outcome.attacked & ~hit
    assert (outcome.prediction[away] != result.targets[away]).all()


def test_a_target_that_is_the_label_is_refused(net: nn.Module, data: TensorData) -> None:
    with pytest.raises(InputError, match=r"the target equals the label in \d+ of 32 .*--exclude 2"):
        evaluate(net, data, FGSM(), target="2")


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused(net: nn.Module, data: TensorData, size: int) -> None:
    with pytest.raises(InputError, match="batch size"):
        evaluate(net, data, FGSM(), batch_size=size)


def test_scores_that_are_no_numbers_end_the_run(data: TensorData) -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4] + torch.nan

    with pytest.raises(PassError, match="NaN"):
        evaluate(Nan(), data, FGSM())


def test_weights_that_are_no_numbers_are_named(net: nn.Module, data: TensorData) -> None:
    with torch.no_grad():
        net[0].bias[0] = torch.inf  # type: ignore[index, union-attr, operator]
    with pytest.raises(ModelError, match=r"0\.bias"):
        evaluate(net, data, FGSM())


def test_an_answer_without_a_gradient_can_still_meet_noise(net: nn.Module, data: TensorData) -> None:
    assert evaluate(Detached(net), data, Noise(Linf(0.05), steps=2)).outcomes[0].attacked.any()
    with pytest.raises(ModelError, match="without a gradient"):
        evaluate(Detached(net), data, FGSM())


def test_pictures_with_another_number_of_channels_are_explained_by_the_model_that_fails(net: nn.Module) -> None:
    gray = TensorData(pictures(4, (1, 8, 8), dtype=torch.float32), torch.zeros(4, dtype=torch.long), name="gray")
    with pytest.raises(ModelError, match="3 channels and these have 1"):
        evaluate(net, gray, FGSM())


def test_a_model_that_makes_its_own_channels_is_believed(net: nn.Module) -> None:
    class Triple(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.expand(-1, 3, -1, -1))

    gray = TensorData(pictures(4, (1, 8, 8), dtype=torch.float32), torch.zeros(4, dtype=torch.long))
    assert len(evaluate(Triple(net), gray, FGSM())) == 4


def test_folding_changes_the_cost_and_no_fact(net: nn.Module, data: TensorData) -> None:
    folded, plain = (evaluate(net, data, STRONG, precision=name) for name in ("folded", "float32"))
    assert (folded.precision, plain.precision) == ("float32, folded", "float32")
    for mine, theirs in zip(facts(folded)[0][1:], facts(plain)[0][1:], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_a_model_in_float64_steers_and_judges_itself(data: TensorData) -> None:
    model = trained()[0]
    result = evaluate(model, data, STRONG)
    assert result.precision == "float32"
    assert torch.equal(result.clean, model(data.tensors()[0].double()).argmax(1))


def test_a_model_without_parameters_can_be_evaluated(data: TensorData) -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :4]

    result = evaluate(Corner(), data, FGSM())
    assert result.model == "Corner"
    assert result.weights == "caller's"


def test_accuracy_counts_what_is_right(net: nn.Module, data: TensorData) -> None:
    right = (net(data.tensors()[0]).argmax(1) == data.labels).double().mean()
    assert accuracy(net, data).value == float(right)


def test_one_picture_file_is_data_too(tmp_path: object) -> None:
    from PIL import Image

    path = f"{tmp_path}/one.png"
    Image.new("RGB", (8, 8), "gray").save(path)
    result = evaluate(conv_net(dtype=torch.float32), Picture(path), FGSM(Linf(0.2)))
    assert len(result) == 1
    assert result.clean_accuracy.value == 1
