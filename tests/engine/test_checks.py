"""What does not fit is refused by name; what merely looks odd is not."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, pictures
from torch import nn

from advkit.data import TensorData
from advkit.engine.checks import check_classes, check_labels, check_weights
from advkit.errors import DataError, ModelError


def data(labels: list[int], classes: tuple[str, ...] | None = None, channels: int = 3) -> TensorData:
    x = pictures(len(labels), (channels, 8, 8), dtype=torch.float32)
    return TensorData(x, torch.tensor(labels), name="mine", classes=classes)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("where", ["0.weight", "1.running_var"])
def test_a_value_that_is_no_number_is_found_wherever_it_is(value: float, where: str) -> None:
    net = conv_net(norm=True)
    check_weights(net)
    net.state_dict()[where].flatten()[0] = value
    with pytest.raises(ModelError, match=where.replace(".", r"\.")):
        check_weights(net)


def test_whole_numbers_among_the_weights_are_no_concern() -> None:
    net = nn.Sequential(nn.Flatten())
    net.register_buffer("steps", torch.tensor([2**62]))
    check_weights(net)


def test_named_classes_must_be_as_many_as_scores() -> None:
    check_classes(data([0, 1], ("a", "b")), 2)
    for scores in (1, 3):
        with pytest.raises(ModelError, match=f"{scores} classes and mine has 2"):
            check_classes(data([0, 1], ("a", "b")), scores)


def test_classes_by_number_may_be_fewer_than_scores() -> None:
    check_classes(data([0, 1]), 10)
    with pytest.raises(DataError, match=r"example 1 of mine is 7.*0 to 4"):
        check_labels(data([0, 7]), 5)
