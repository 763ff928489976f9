"""What was run, and for each example the worst picture that any of it found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.core.threat import Ball
from advkit.core.types import expand

__all__ = ["Entry", "Ledger"]


@dataclass(frozen=True)
class Entry:
    """One attack on the examples that it was tried on, through one form of the model."""

    attack: str
    form: str
    tried: int
    beaten: int
    more: int
    """Of the beaten, those that nothing before it had beaten."""
    forwards: int
    backwards: int

    def to_json(self) -> dict[str, object]:
        """All of it, by name."""
        return dict(vars(self))


class Ledger:
    """The worst picture (N, ...) of each example inside the ball, and the share (N,) of the model's answers wrong there."""

    def __init__(self, x: Tensor, ball: Ball, wrong: Tensor) -> None:
        """``wrong`` (N,) is that share at the clean pictures x (N, ...), which are the worst to begin with."""
        self.x, self.ball = x, ball
        self.worst, self.wrong = x.clone(), wrong.double()
        self.runs: list[Entry] = []

    @property
    def fallen(self) -> Tensor:
        """(N,) bool: wrong at least every other time."""
        return self.wrong >= 0.5

    @property
    def accuracy(self) -> float:
        """What is left of it at the worst pictures."""
        return 1 - float(self.wrong.mean())

    def offer(self, where: Tensor, x_adv: Tensor, wrong: Tensor) -> None:
        """Keep the pictures of the examples ``where`` (B,) that are worse than those there are, and inside the ball."""
        x_adv = x_adv.to(self.worst)
        better = (wrong.double() > self.wrong[where]) & self.ball.contains(x_adv, self.x[where])
        self.worst[where] = torch.where(expand(better, x_adv), x_adv, self.worst[where])
        self.wrong[where] = torch.where(better, wrong.double(), self.wrong[where])
