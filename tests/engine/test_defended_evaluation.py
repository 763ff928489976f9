"""A defense is shown with what it costs, under an attack that does not know of it and under one that does."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, pictures

from advkit.attacks.pgd import PGD
from advkit.core import Linf
from advkit.data import TensorData
from advkit.defenses.bits import Bits
from advkit.engine.defend import defend
from advkit.engine.evaluate import evaluate
from advkit.errors import InputError

ATTACK = PGD(Linf(0.05), steps=5)


@pytest.fixture(scope="module")
def task() -> tuple[torch.nn.Module, TensorData]:
    net, x = conv_net(dtype=torch.float32, seed=5), pictures(24, dtype=torch.float32)
    return net, TensorData(x, net(x).argmax(1), name="own answers")


def test_both_numbers_and_the_clean_cost_stand_in_one_table(task: tuple[torch.nn.Module, TensorData]) -> None:
    net, data = task
    found = evaluate(net, data, ATTACK, defense="bits:1")
    assert [row.attack for row in found.rows()] == ["pgd (oblivious)", "pgd"]
    assert found.undefended is not None
    assert found.undefended.value == 1.0
    x, y = data.pictures(range(24)), data.labels
    defended = defend(net, [Bits(1)])
    assert found.clean.tolist() == defended(x).argmax(1).tolist()
    assert found.clean_accuracy.value < 1.0
    replayed = (defended(ATTACK(net, x, y)).argmax(1) == y) & found.correct
    assert found.outcomes[0].stands(y).tolist() == replayed.tolist()
    knowing = (defended(ATTACK(defended, x, y, keep="first")).argmax(1) == y) & found.correct
    assert found.outcomes[1].stands(y).tolist() == knowing.tolist()
    assert found.to_json()["defense"] == "bits:1"


@pytest.mark.parametrize(("against", "names"), [("oblivious", ["pgd (oblivious)"]), ("adaptive", ["pgd"])])
def test_one_of_the_two_can_be_asked_for(
    task: tuple[torch.nn.Module, TensorData], against: str, names: list[str]
) -> None:
    both = evaluate(*task, ATTACK, defense=Bits(1))
    found = evaluate(*task, ATTACK, defense=Bits(1), against=against)  # type: ignore[arg-type]
    assert [row.attack for row in found.rows()] == names
    mate = next(outcome for outcome in both.outcomes if outcome.name == names[0])
    assert torch.equal(found.outcomes[0].prediction, mate.prediction)


def test_the_worst_case_counts_what_either_attack_beats(task: tuple[torch.nn.Module, TensorData]) -> None:
    found = evaluate(*task, ATTACK, defense="bits:1")
    stands = torch.stack([outcome.stands(found.labels) for outcome in found.outcomes]).all(0)
    assert torch.equal(found.stands("0.05"), stands)


def test_without_a_defense_nothing_is_replayed(task: tuple[torch.nn.Module, TensorData]) -> None:
    found = evaluate(*task, ATTACK)
    assert [row.attack for row in found.rows()] == ["pgd"]
    assert found.undefended is None


def test_a_way_to_train_stands_for_shipped_weights_of_a_named_model() -> None:
    found = evaluate("resnet", "signs", PGD(Linf("8/255"), steps=5), samples=16, defense="pgd-at")
    oblivious, adaptive = (outcome.stands(found.labels).sum() for outcome in found.outcomes)
    assert "adversarial" in found.weights
    assert adaptive <= oblivious, "what was made on the standard network is weaker than an attack on the robust one"
    with pytest.raises(InputError, match="pgd-at is a way to train"):
        evaluate(conv_net(dtype=torch.float32), "signs", samples=2, defense="pgd-at")
