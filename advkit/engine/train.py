"""Train a network on a data set: a plain loop, the objective is the defense."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.defense import Objective
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.data import Data
from advkit.engine.checks import check_labels
from advkit.errors import AdvkitError, DataError, InputError

__all__ = ["Recipe", "train"]

Epoch = Callable[[int, float], None]
"""Told (epochs done, mean loss of the last) after each."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: SGD with Nesterov momentum under a one-cycle learning rate (Smith & Topin 2018)."""

    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    shift: int = 2  # pixels by which pictures are moved at random
    seed: int = 0
    bfloat16: bool = True  # autocast; the weights stay in float32

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number above 0.")
        if self.batch_size < 2:
            raise InputError(f"batch_size is {self.batch_size}; give 2 or more: BatchNorm has no variance of one.")
        for name in ("shift", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}; give 0 or more.")


def train(model: nn.Module, data: Data, objective: Objective, recipe: Recipe, on_epoch: Epoch | None = None) -> None:
    """Train ``model`` in place, and leave it in eval mode. Raises AdvkitError where the loss stops being a number."""
    if len(data) < 2:
        raise InputError(f"{data.name} has {len(data)} example; training needs at least 2.")
    device = next(model.parameters()).device
    with borrowed(model), torch.no_grad():
        scores = model(data.pictures([0]).to(device)).shape[1]
    check_labels(data, scores)
    if bool((data.labels < 0).any()):
        raise DataError(f"{data.name} has examples without a label; training needs one for each.")
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1]},
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=0.9,
        nesterov=True,
    )
    total = recipe.epochs * math.ceil(len(data) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=total, pct_start=0.3, cycle_momentum=False
    )
    step = 0
    for epoch in range(recipe.epochs):
        model.train()
        order = Rng.of(recipe.seed, torch.arange(len(data))).fold("order").fold(epoch).uniform().argsort()
        losses = []
        for part in torch.split(order, recipe.batch_size):
            if len(part) < 2:  # BatchNorm has no variance of one
                continue
            rng = Rng.of(recipe.seed, part).fold("shift").fold(epoch)
            x = shifted(data.pictures(part.tolist()), recipe.shift, rng).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
                loss = objective(model, x, data.labels[part].to(device), recipe.seed + step)
            if not math.isfinite(float(loss.detach())):
                raise AdvkitError(f"the loss is {float(loss.detach())} at step {step}; lower the learning rate.")
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            step += 1
        if on_epoch is not None:
            on_epoch(epoch + 1, sum(losses) / len(losses))
    model.eval()


def shifted(x: Tensor, most: int, rng: Rng) -> Tensor:
    """Each picture (B, C, H, W) moved by up to ``most`` pixels, its border repeated."""
    if most == 0:
        return x
    count, channels, height, width = x.shape
    padded = F.pad(x, (most, most, most, most), mode="replicate")
    top, left = rng.integers(2 * most + 1, 2).unbind(1)
    down = (top[:, None] + torch.arange(height))[:, None, :, None].expand(count, channels, height, padded.shape[3])
    across = (left[:, None] + torch.arange(width))[:, None, None, :].expand(count, channels, height, width)
    return padded.gather(2, down).gather(3, across)
