"""Saliency maps: the pixels to which a rival's probability answers most are driven to the end of their range."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._settings import check_ball, check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal, Targeted, Untargeted
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.rng import Rng
from advkit.core.threat import L0, Ball, pixels
from advkit.errors import InputError


@dataclass(frozen=True)
class _RivalProbability(Loss):
    """Log-probability of the class that is to win: the target, or of a goal without one the chosen rival."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """As the cross-entropy towards that class has it."""
        rival = goal.towards if isinstance(goal, Untargeted) else None
        return CrossEntropy()(logits, goal if rival is None else Targeted(rival))


class _Walk(NamedTuple):
    query: Tensor
    free: Tensor  # (B, pixels) bool: not moved yet


@ATTACKS.register("jsma", paper="arXiv:1511.07528")
@dataclass(frozen=True)
class JSMA(Attack):
    """Saliency maps (Papernot et al. 2016): two pixels a step, those that raise a rival's probability most, for each rival.

    The paper's map, for a class t and a pair of features, is -ab where a is the sum of the gradients of t's probability and b
    that of the other classes' together. Probabilities sum to 1, so b is -a, the map is a squared, and one gradient is
    enough; that of the logarithm, which is used, gives the same order. The best pair are the two best. Where it departs
    from the paper: a pixel is a place, whatever its channels, and moves all the way, up or down; and pixels are ranked
    by the gradient times the room that they have (``rank="gain"``, Loison et al. 2020), unless ``rank`` is ``gradient``.
    Without a target, every rival is one in turn, and the nearest picture counts; with ``targets=0`` the probability of the
    true class falls instead.
    """

    threat: Ball = field(default=L0(math.inf))
    steps: int = 50
    width: int = 2  # pixels of a step
    direction: Literal["both", "up", "down"] = "both"
    rank: Literal["gain", "gradient"] = "gain"
    targets: int = 9
    loss: Loss = field(default=_RivalProbability(), init=False, repr=False)

    minimal: ClassVar[bool] = True  # type: ignore[misc]
    balls: ClassVar[tuple[type[Ball], ...]] = (L0,)

    def __post_init__(self) -> None:
        check_ball(self)
        check_least(self, steps=1, width=1, targets=0)
        for name, allowed in (("direction", ("both", "up", "down")), ("rank", ("gain", "gradient"))):
            if getattr(self, name) not in allowed:
                raise InputError(f"JSMA: {name} is {getattr(self, name)!r}; allowed: {', '.join(allowed)}.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Walk:
        """No pixel has moved."""
        return _Walk(first, torch.ones_like(pixels(x), dtype=torch.bool))

    def step(self, state: _Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Walk:  # type: ignore[override]
        """Move the most salient pixels; who has arrived stays."""
        rising = at.grad > 0
        room = torch.where(rising, 1 - state.query, state.query)
        allowed = (self.direction == "both") | (rising == (self.direction == "up"))
        worth = at.grad.abs() * (room if self.rank == "gain" else (room > 0).to(room)) * allowed
        saliency = pixels(worth).masked_fill(~state.free, 0)
        best = saliency.topk(min(self.width, saliency.shape[1]), dim=1)
        moves = torch.zeros_like(state.free).scatter(1, best.indices, best.values > 0)
        moves &= ~goal.reached(at.logits)[:, None]
        here = moves.reshape(len(x), 1, *x.shape[2:]) if x.ndim == 4 else moves.reshape(x.shape)
        query = torch.where(here & (worth > 0), rising.to(x), state.query)
        return _Walk(query, state.free & ~moves)
