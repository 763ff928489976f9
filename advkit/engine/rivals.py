"""Which rival classes a targeted loss is to pull towards, and in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.goal import Untargeted
from advkit.core.losses import CrossEntropy, TargetedMargin
from advkit.engine.passes import Passes

__all__ = ["Ranked", "ranked"]

_ASKED = 100  # rivals whose slope is asked for


class Ranked(NamedTuple):
    """Rivals (B, R), first those to be tried first, and the passes that it took to know, of each example."""

    order: Tensor
    forwards: int
    backwards: int


def ranked(attack: Attack, passes: Passes, x: Tensor, classes: Tensor) -> Ranked:
    """The rivals of pictures x (B, ...) of ``classes`` (B,), in the attack's order; no more than it has targets."""
    goal = Untargeted(classes)
    logits = passes.scores(x, goal, CrossEntropy()).logits
    others = logits.scatter(1, classes[:, None], -torch.inf)
    count = logits.shape[1] - 1
    wanted = min(attack.targets, count)
    if attack.ranking != "malt":
        return Ranked(others.topk(wanted, dim=1).indices, passes.eot, 0)
    # Classes of low scores are too far whatever their slope; the paper asks of 100.
    among = others.topk(min(max(_ASKED, attack.targets), count), dim=1).indices
    order = among.gather(1, _nearness(attack, passes, x, goal, among).topk(wanted, dim=1).indices)
    slopes = passes.eot * among.shape[1]
    return Ranked(order, passes.eot + slopes, slopes)


def _nearness(attack: Attack, passes: Passes, x: Tensor, goal: Untargeted, among: Tensor) -> Tensor:
    """Of classes ``among`` (B, R), minus the distance at which a linear model of the network reaches them, (B, R)."""
    loss, nearness = TargetedMargin(), []
    for rival in among.unbind(1):
        at = passes.gradient(x, replace(goal, towards=rival), loss, lambda points, _: points)
        # What a unit of the ball gains: the dual norm of the gradient.
        slope = (at.grad * attack.threat.steepest(at.grad, x)).flatten(1).sum(1)
        nearness.append(at.loss / slope.clamp_min(torch.finfo(slope.dtype).tiny))
    return torch.stack(nearness, 1)
