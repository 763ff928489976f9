"""Data that is made in Python: tensors, and some examples of other data."""

from __future__ import annotations

import pytest
import torch

from advkit.attacks import PGD
from advkit.data import Subset, TensorData
from advkit.errors import DataError


def few() -> TensorData:
    return TensorData(torch.rand(3, 3, 4, 4), torch.tensor([0, 1, 1]))


@pytest.mark.parametrize("given", [None, 3, "abc", [], {}, object()])
def test_what_is_no_tensor_is_refused(given: object) -> None:
    with pytest.raises(DataError, match="give tensors"):
        TensorData(given, given)
    with pytest.raises(DataError, match="give tensors"):
        TensorData(torch.rand(3, 3, 4, 4), given)


@pytest.mark.parametrize("given", [None, 3, "abc", [], torch.rand(3, 3, 4, 4)])
def test_a_part_is_of_data(given: object) -> None:
    with pytest.raises(DataError, match="load_data"):
        Subset(given, [0])


@pytest.mark.parametrize("places", [None, 3, "abc", [0.5], [None], [3], [-4], [2**70], torch.tensor([0.5])])
def test_a_part_has_places_that_are_there(places: object) -> None:
    with pytest.raises(DataError, match=r"give whole numbers|out of range"):
        Subset(few(), places)


def test_a_part_is_those_examples_in_that_order() -> None:
    data = few()
    for places in ([2, 0], torch.tensor([2, 0]), (2, 0)):
        assert torch.equal(Subset(data, places).labels, data.labels[[2, 0]])
        assert torch.equal(Subset(data, places).pictures([0, 1]), data.pictures([2, 0]))


@pytest.mark.parametrize("x", [torch.zeros(2, 3, 4, 4, dtype=torch.complex64), torch.zeros(2, 3, 4, 4, device="meta")])
def test_pixels_without_a_value_between_0_and_1_are_refused(x: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"pixel values|hold no values"):
        TensorData(x, torch.tensor([0, 1]))


def test_an_attack_refuses_what_holds_no_values() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    with pytest.raises(DataError, match="to_dense"):
        PGD(steps=1)(net, torch.zeros(2, 3, 4, 4).to_sparse(), [0, 1])
    for x, y in (
        (torch.zeros(2, 3, 4, 4, device="meta"), [0, 1]),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2, device="meta").long()),
    ):
        with pytest.raises(DataError, match="hold no values"):
            PGD(steps=1)(net, x, y)
