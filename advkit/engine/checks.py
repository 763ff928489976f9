"""What is looked at before a model is attacked: it must fit the data, or the numbers would mean nothing."""

from __future__ import annotations

import torch
from torch import nn

from advkit.backbones.unfit import check_ready
from advkit.data.base import Data
from advkit.errors import DataError, ModelError

__all__ = ["check_classes", "check_labels", "check_weights"]


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
            "use weights that were trained on this data."
        )
    check_labels(data, scores)


def check_labels(data: Data, scores: int) -> None:
    """Refuse labels that the model has no score for."""
    wrong = torch.nonzero(data.labels >= scores)
    if len(wrong):
        example = int(wrong[0])
        raise DataError(
            f"the label of example {example} of {data.name} is {int(data.labels[example])}, "
            f"out of range for a model with {scores} classes (0 to {scores - 1})."
        )
