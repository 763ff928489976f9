"""The first answer of a network, and why there is none: lazy layers, other channels, a fixed batch, another image size."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from advkit.core.answers import called, checked_scores
from advkit.errors import AdvkitError, ModelError, first_line

__all__ = ["check_ready", "first_answer"]

_SIZES = (1, 2, 4, 8, 10, 16, 32, 64, 100, 128, 256)  # of batches that are tried where one was refused


def check_ready(model: nn.Module) -> None:
    """Refuse a network without weights: with lazy layers that never saw an image, or on the meta device."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, (UninitializedBuffer, UninitializedParameter)):
            raise ModelError(
                f"{called(model)} has lazy layers that have no weights yet (first {name}); call it once, model(x[:1]), and "
                "train it or load its weights."
            )
        if tensor.is_meta:
            raise ModelError(
                f"{called(model)} lies on the meta device, which holds shapes and no numbers (first {name}); "
                "build it on cpu or cuda and load its weights."
            )


def first_answer(
    model: nn.Module, ask: Callable[[Tensor], object], x: Tensor, passed_on: Callable[[Exception], bool] | None = None
) -> tuple[Tensor, bool]:
    """The scores (B, K) that ``ask``, a form of ``model``, gives for x (B, ...), and whether it writes to what it is given.

    Raises ModelError that says why there is none, or what is wrong with it; an error that is ``passed_on`` is not explained.
    """
    shown = x.clone()  # whoever normalises in place writes to this
    before = shown._version
    try:
        answer = ask(shown)
    except AdvkitError:
        raise
    except Exception as error:  # whatever the user's forward raises
        if passed_on is not None and passed_on(error):
            raise
        _refuse(model, ask, x, error)
    return checked_scores(answer, len(x), called(model)), shown._version != before


def _refuse(model: nn.Module, ask: Callable[[Tensor], object], x: Tensor, error: Exception) -> NoReturn:
    """Raise the ModelError that says why ``ask``, a form of ``model``, failed on the first images x (B, ...) by ``error``."""
    check_ready(model)
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and x.ndim == 4 and first.in_channels != x.shape[1]:
        raise ModelError(
            f"the model takes pictures with {first.in_channels} channels and these have {x.shape[1]}; "
            "use weights made for such pictures, or convert the data."
        ) from error
    only = _only_size(ask, x)
    if only:
        way = "; with a batch size of 1 (batch_size=1, --batch-size 1) it can be asked as it is" if only == 1 else ""
        raise ModelError(
            f"{called(model)} takes exactly {only} picture{'s' * (only > 1)} at a time and was given {len(x)}: its batch size "
            f"is fixed ({first_line(error)}). Export or build it with a batch axis of any length (dynamic_shapes, "
            f"dynamic_axes, x.flatten(1)){way}."
        ) from error
    shape = " x ".join(map(str, x.shape[1:]))
    raise ModelError(
        f"{called(model)} cannot take pictures of {shape} ({first_line(error, typed=True)}); "
        "give the channels and the size that it was built for."
    ) from error


def _only_size(ask: Callable[[Tensor], object], x: Tensor) -> int:
    """The number of images that it answers where it does not answer these; 0 where none was found."""
    for size in (len(x), *_SIZES):
        try:
            with torch.no_grad():
                answer = ask(x[:1].detach().expand(size, *x.shape[1:]).clone())
        except Exception:  # see first_answer
            continue
        told = size != len(x) and isinstance(answer, Tensor) and answer.shape[:1] == (size,)
        return size if told else 0  # who answers as many now has failed for another reason
    return 0
