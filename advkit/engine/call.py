"""What calling an attack does: the loop on tensors that are in memory already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.backbones.given import as_module
from advkit.backbones.unfit import check_ready
from advkit.core.attack import Attack
from advkit.core.goal import Goal
from advkit.core.modes import borrowed
from advkit.data.base import check_pictures, check_values
from advkit.engine.examples import Finished, Keep, Source
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.errors import DataError, InputError

__all__ = ["attack_tensors", "check_tensors"]


def attack_tensors(
    attack: Attack,
    model: nn.Module | Callable[[Tensor], Tensor],
    x: Tensor,
    goal: Goal,
    *,
    seed: int,
    keep: Keep,
    start: Tensor | None,
    batch_size: int | None,
    mode: Literal["eval", "train"],
) -> Tensor:
    """Run the loop, and put each example's result in its place."""
    check_tensors(x, goal.classes, start)
    model = as_module(model)
    check_ready(model)
    if attack.threat.is_point:
        return x.detach().clone().clamp(0, 1)
    batch_size = batch_size or batch_for(model, x[0])
    with borrowed(model, mode=mode), torch.no_grad():
        clean = x.detach().clone().clamp(0, 1)
        first = None if start is None else start.detach().clone()
        source = Source(
            fetch=lambda indices: clean[indices[0] : indices[-1] + 1],
            goal=goal.take(
                torch.arange(len(x), device=goal.classes.device)
            ),  # a copy: the caller may be in inference mode
            first=None if first is None else lambda indices: first[indices],
        )
        result = torch.empty_like(clean)

        def collect(finished: Finished) -> None:
            result[finished.example.to(result.device)] = finished.x_adv.to(result.device)

        with torch.enable_grad():
            passes = Passes(model, Precision.own(model), batch_size, labels=goal.classes)
            Run(attack, passes, source, seed=seed, keep=keep).go(collect)
    return result


def check_tensors(x: object, classes: Tensor, start: Tensor | None = None) -> None:
    """Raises DataError for pictures or labels that no attack can use, InputError for a start that does not fit them."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        given = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise DataError(f"the pictures are {given}; give a floating-point tensor (N, ...) in [0, 1].")
    check_values("pictures", x)
    check_values("labels", classes)
    if x.ndim < 2 or len(x) == 0:
        raise DataError(f"the pictures have shape {tuple(x.shape)}; give at least one, as (N, ...).")
    if x.ndim == 3 and classes.shape != x.shape[:1] and classes.numel() == 1:
        raise DataError(
            f"the pictures have shape {tuple(x.shape)} and there is one label; if that is one picture (C, H, W), give a batch "
            "of one: x[None] and its label as (1,)."
        )
    if classes.shape != x.shape[:1] or classes.dtype != torch.long:
        raise DataError(
            f"labels are {classes.dtype} of shape {tuple(classes.shape)} for {len(x)} pictures; "
            "give one class index for each, (N,) int64."
        )
    if int(classes.min()) < 0:
        raise DataError(f"the label {int(classes.min())} is negative; labels count from 0.")
    check_pictures(x.detach(), "the pictures")
    if start is not None and start.shape != x.shape:
        raise InputError(f"start has shape {tuple(start.shape)}; give one point per picture, {tuple(x.shape)}.")
