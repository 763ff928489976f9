"""Training learns, repeats itself to the bit, and stops where the loss is no number."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import conv_net, trained
from torch import Tensor, nn

from advkit.attacks import PGD
from advkit.core import Linf, Rng
from advkit.core.defense import Objective
from advkit.data import TensorData
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.standard import Standard
from advkit.engine.evaluate import accuracy, evaluate
from advkit.engine.training import Recipe, shifted, train
from advkit.errors import AdvkitError, DataError, InputError

SHORT = Recipe(epochs=4, batch_size=16, learning_rate=0.05, shift=0, bfloat16=False)


@pytest.fixture
def data() -> TensorData:
    _, x, y = trained()
    return TensorData(x.float(), y)


def fresh() -> nn.Module:
    return conv_net(4, norm=True, dtype=torch.float32)


def test_a_small_net_learns(data: TensorData) -> None:
    net = fresh()
    losses: list[float] = []
    train(net, data, Standard(), Recipe(15, 8, 0.05, shift=0), lambda epoch: losses.append(epoch.loss))
    assert len(losses) == 15
    assert losses[-1] < losses[0] / 2
    assert accuracy(net, data).value > 0.9
    assert not net.training


@pytest.mark.parametrize("objective", [Standard(), PGDTraining(Linf(0.05), steps=2)])
def test_the_same_seed_gives_the_same_weights_to_the_bit(data: TensorData, objective: Objective) -> None:
    nets = [fresh() for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        torch.rand(3)  # what the caller draws has no say
        train(net, data, objective, Recipe(2, 16, 0.05, shift=1, seed=seed))
    one, again, other = (net.state_dict() for net in nets)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_adversarial_training_raises_robust_accuracy(data: TensorData) -> None:
    ball = Linf(0.06)
    attack = PGD(ball, steps=10)
    recipe = Recipe(25, 8, 0.05, shift=0, bfloat16=False)
    robust = {}
    for objective in (Standard(), PGDTraining(ball, steps=4)):
        net = fresh()
        train(net, data, objective, recipe)
        robust[type(objective)] = evaluate(net, data, attack).worst()[0][1].value
    assert robust[PGDTraining] > robust[Standard] + 0.1, robust


def test_only_what_asks_for_a_gradient_is_trained(data: TensorData) -> None:
    net = fresh()
    first = next(net.parameters())
    first.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    train(net, data, Standard(), SHORT)
    assert torch.equal(before["0.weight"], net.state_dict()["0.weight"])
    assert not torch.equal(before["7.weight"], net.state_dict()["7.weight"])


class Broken(Objective):
    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        return model(x).sum() * torch.nan


def test_a_loss_that_is_no_number_stops_training(data: TensorData) -> None:
    with pytest.raises(AdvkitError, match="loss is nan at step 0; lower the learning rate"):
        train(fresh(), data, Broken(), SHORT)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 1}, "batch_size is 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"shift": -1}, "shift is -1"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(settings: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Recipe(**settings)  # type: ignore[arg-type]


def test_data_that_cannot_be_learned_is_refused(data: TensorData) -> None:
    x, y = data.tensors()
    with pytest.raises(InputError, match="at least 2"):
        train(fresh(), TensorData(x[:1], y[:1]), Standard(), SHORT)
    with pytest.raises(DataError, match="out of range for a model with 4 classes"):
        train(fresh(), TensorData(x, y + 1), Standard(), SHORT)
    data.labels = y.clone().index_fill(0, torch.tensor([3]), -1)
    with pytest.raises(DataError, match="without a label"):
        train(fresh(), data, Standard(), SHORT)


def test_a_last_batch_of_one_is_left_out(data: TensorData) -> None:
    net, losses = fresh(), []
    train(net, data.head(17), Standard(), Recipe(1, 16, 0.05, bfloat16=False), lambda epoch: losses.append(epoch.loss))
    assert len(losses) == 1
    assert all(bool(parameter.isfinite().all()) for parameter in net.parameters())


def test_shifted_pictures_are_windows_of_the_picture_with_its_border_repeated() -> None:
    x = torch.rand(40, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    moved = shifted(x, 2, Rng.of(0, torch.arange(40)))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="replicate")
    found = set()
    for i in range(40):
        places = [
            (top, left)
            for top in range(5)
            for left in range(5)
            if torch.equal(moved[i], padded[i, :, top : top + 6, left : left + 6])
        ]
        assert places
        found.update(places)
    assert len(found) > 15, "all ways to move occur"
    assert shifted(x, 0, Rng.of(0, torch.arange(40))) is x
