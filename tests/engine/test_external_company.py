"""Attacks of other libraries may depend on who shares their batch: so the batch is fixed, and outcomes are."""

from __future__ import annotations

import copy

import pytest
import torch
from company import Crowd
from helpers import trained
from torch import Tensor, nn

from advkit import evaluate
from advkit.core import Linf
from advkit.core.goal import Untargeted
from advkit.data import TensorData
from advkit.engine import external
from advkit.engine.examples import Finished, Source
from advkit.engine.external import companies, company
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.transfer import Made, transfer

CROWD = Crowd(Linf(0.2))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(external._COMPANY, "cpu", 6)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return copy.deepcopy(trained()[0]).float()


def data(count: int = 32) -> TensorData:
    _, x, y = trained()
    y = y.clone()
    y[::5] = (y[::5] + 1) % 4  # wrong already, so not attacked
    return TensorData(x[:count].float(), y[:count], name="patterns")


def test_neighbours_in_the_data_stay_together_whoever_else_is_left_out() -> None:
    place = torch.tensor([0, 2, 5, 6, 7, 12, 17, 18])
    assert [part.tolist() for part in companies(place, 6)] == [[0, 1, 2], [3, 4], [5, 6], [7]]
    assert companies(torch.arange(0), 6) == []


def test_the_company_is_of_one_size_for_small_pictures_and_smaller_for_large_ones() -> None:
    assert company(3 * 32 * 32, torch.device("cpu")) == 6
    assert company(3 * 224 * 224, torch.device("cpu")) == 1
    assert external._COMPANY["cuda"] % 50 == 0


@pytest.mark.parametrize("size", [1, 4, 7, 32])
def test_the_batch_size_changes_nothing(net: nn.Module, size: int) -> None:
    expected, found = (evaluate(net, data(), CROWD, batch_size=each).outcomes[0] for each in (16, size))
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(found.distance, expected.distance)
    assert 0 < int(expected.success.sum()) < int(expected.attacked.sum())


def test_more_examples_change_nothing_for_whole_companies(net: nn.Module) -> None:
    some, everyone = (evaluate(net, data(count), CROWD).outcomes[0] for count in (18, 32))
    assert torch.equal(some.prediction, everyone.prediction[:18])
    other = evaluate(net, data(20), CROWD).outcomes[0]
    assert torch.equal(other.prediction[:18], everyone.prediction[:18])


def test_on_a_surrogate_nothing_is_taken_from_another_company(net: nn.Module) -> None:
    """Whom the attack meets on the surrogate hangs on the model that is attacked, and so does what it makes."""
    x, y = data().tensors()
    passes = Passes(net, Precision.own(net), 16)
    clean = passes.judge(x).argmax(1)
    source = Source(lambda indices: x[list(indices)], Untargeted(y))
    attacked = torch.stack([clean == y, (clean == y) & (torch.arange(32) % 2 == 0)])
    made, kept = Made(), dict[int, Tensor]()

    def keep(finished: Finished) -> None:
        for place, picture in zip(finished.example.tolist(), finished.x_adv, strict=True):
            kept[place] = picture

    for mine, who in ((made, attacked[0]), (made, attacked[1]), (None, attacked[1])):
        kept.clear()
        transfer([CROWD], passes, passes, source, who[None], clean, sink=keep, made=mine)
        if mine is made and bool((who == attacked[1]).all()):
            after_another = dict(kept)
    assert kept.keys() == after_another.keys()
    assert all(torch.equal(kept[place], after_another[place]) for place in kept)
