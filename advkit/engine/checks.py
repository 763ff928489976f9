"""What is looked at before a model is attacked: it must fit the data, or the numbers would mean nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.backbones.unfit import check_ready
from advkit.backbones.weights import SOME
from advkit.data.base import Data, OtherOrder, ignored
from advkit.errors import DataError, ModelError

__all__ = ["better_order", "check_classes", "check_labels", "check_weights"]

_SURE, _SHARE, _ODDS = 5, 0.15, 4  # more right, of the examples, and for each that is right in the order taken alone


def check_weights(model: nn.Module) -> None:
    """Refuse a network without weights, and weights that are not finite."""
    check_ready(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"the weights hold NaN or infinite values (in {name}); load or train them again.")


def check_classes(data: Data, scores: int) -> None:
    """Refuse a model that tells another number of classes apart than the data names."""
    if data.named and scores != len(data.classes):
        raise ModelError(
            f"the weights have {scores} classes and {data.name} has {len(data.classes)}; "
            f"use weights that were trained on this data.{SOME if scores > len(data.classes) else ''}"
        )
    check_labels(data, scores)


def check_labels(data: Data, scores: int) -> None:
    """Refuse labels that the model has no score for."""
    wrong = torch.nonzero(data.labels >= scores)
    if len(wrong):
        example = int(wrong[0])
        raise DataError(
            f"the label of example {example} of {data.name} is {int(data.labels[example])}, "
            f"out of range for a model with {scores} classes (0 to {scores - 1}).{ignored(int(data.labels[example]))}"
        )


def better_order(order: OtherOrder | None, labels: Tensor, predictions: Tensor) -> tuple[str, str] | None:
    """What is found and what to do, where the other order of the class folders fits a model's answers (N,) much better."""
    if order is None or bool((labels < 0).any()):
        return None
    taken, other = labels == predictions, torch.tensor(order.places)[labels] == predictions
    gained, lost = int((other & ~taken).sum()), int((taken & ~other).sum())
    if gained - lost < max(_SURE, _SHARE * len(labels)) or gained < _ODDS * lost:
        return None
    theirs, ours = (f"{100 * each.double().mean():.1f} %" for each in (other, taken))
    found = (
        f"With class folders in the order of their {order.other}s {theirs} are right without attack, in that of their "
        f"{order.taken}s, which was taken, {ours}."
    )
    return found, (
        f"The model learnt the other order: give --class-order {order.other} (in Python class_order={order.other!r})."
    )
