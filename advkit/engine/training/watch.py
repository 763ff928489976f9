"""What is known of a network while it is trained: accuracy on examples held out, with and without attack, and the alarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.core.defense import Objective
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.data import Data
from advkit.engine.passes import automatic_batch, device_of
from advkit.engine.training.ranks import ALONE, Ranks

__all__ = ["ALARM", "Epoch", "Scores", "Validate", "alarming", "ball_of", "better", "hold_out", "robustness"]

Scores = Mapping[str, float]
"""Numbers by name; the first one decides which epoch is the best, and more is better."""
Validate = Callable[[nn.Module], Scores]

ALARM = 0.2  # fall of robust accuracy


@dataclass(frozen=True)
class Epoch:
    """One round through the data."""

    number: int  # from 1
    loss: float  # mean over its examples
    learning_rate: float  # of its last step
    seconds: float
    scores: Scores
    best: bool = False  # better than every one before
    alarm: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a file holds it."""
        return asdict(self)


def hold_out(data: Data, wanted: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """The places of the examples to train on, and of those to hold out (sorted), drawn by the seed."""
    count = min(512, len(data) // 10) if wanted is None else wanted
    order = Rng.of(seed, torch.arange(len(data))).fold("held out").bits().argsort()
    return order[count:].sort().values, order[:count].sort().values


def ball_of(objective: Objective) -> Ball | None:
    """The ball that an objective trains against, of its last moment, if PGD can search it; None where there is none."""
    threat = getattr(objective.at(1.0), "threat", None)
    return threat if isinstance(threat, PGD.balls) else None


def robustness(
    data: Data,
    ball: Ball | None,
    *,
    seed: int = 0,
    ranks: Ranks = ALONE,
    steps: int = 10,
    single: bool = True,
    between: Callable[[], None] = lambda: None,
) -> Validate:
    """Measures accuracy on all of ``data``: under PGD in the ball (``robust``), without attack (``clean``), under one step
    (``fgsm``). ``between`` is called between the batches."""

    def measure(model: nn.Module) -> Scores:
        device = device_of(model)
        names = ("clean",) if ball is None else ("robust", "clean", *(("fgsm",) if single else ()))
        right = dict.fromkeys(names, 0)
        mine = torch.arange(len(data)).tensor_split(ranks.world)[ranks.rank]
        size = automatic_batch(data.pictures([0]).numel(), device)
        for part in torch.split(mine, size):
            between()
            if len(part) == 0:
                continue
            x, y = data.pictures(part.tolist()).to(device), data.labels[part].to(device)
            left = _right(model, x, y)
            right["clean"] += int(left.sum())
            x, y = x[left], y[left]
            if ball is None or len(x) == 0:
                continue
            attack = PGD(ball, steps=steps, step_size=0.25)
            right["robust"] += int(_right(model, attack(model, x, y, seed=seed, keep="first"), y).sum())
            if single:
                fgsm = PGD(ball, steps=1, step_size=1.0, random_start=False)
                right["fgsm"] += int(_right(model, fgsm(model, x, y, seed=seed, keep="last"), y).sum())
        counts = ranks.total(torch.tensor([float(right[name]) for name in names], device=device))
        return {name: count / len(data) for name, count in zip(names, counts.tolist(), strict=True)}

    return measure


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with borrowed(model), torch.no_grad():
        right: Tensor = model(x).argmax(1) == y
    return right


def better(scores: Scores, history: Sequence[Epoch]) -> bool:
    """Whether the first of the scores is higher than ever before."""
    return all(scores[name] > epoch.scores[name] for epoch in history for name in list(scores)[:1])


def alarming(scores: Scores, history: Sequence[Epoch]) -> bool:
    """Catastrophic overfitting (Wong et al. 2020): PGD finds far more than it once did, and a single step does not.

    Robust accuracy is more than 20 points below its best, or less than half of it and more than 20 points below accuracy under
    one step (what was never high cannot fall far); and accuracy under one step is no lower than it was at the best.
    """
    if "robust" not in scores or "fgsm" not in scores or not history:
        return False
    best = max(history, key=lambda epoch: epoch.scores["robust"])
    fell = best.scores["robust"] - scores["robust"] > ALARM
    parted = scores["robust"] < best.scores["robust"] / 2 and scores["fgsm"] - scores["robust"] > ALARM
    return (fell or parted) and scores["fgsm"] >= best.scores["fgsm"]
