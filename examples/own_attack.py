"""Add an attack in one file: say where to look next, and the engine does the rest.

Once registered it has a name; in ``attacks/`` of the repository this file would need no other edit to be on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

import advkit
from advkit.catalog import ATTACKS
from advkit.core import Attack, Goal, Rng
from advkit.core.attack import Ascent
from advkit.core.threat import Ball, Linf
from advkit.core.types import expand


class Walk(NamedTuple):
    """What is remembered between steps: tensors whose rows are examples, and where to look next."""

    query: Tensor
    taken: Tensor  # (B,) steps so far


@ATTACKS.register("shrinking")
@dataclass(frozen=True)
class Shrinking(Attack):
    """Steepest ascent whose steps shrink from eps to nothing."""

    threat: Ball = Linf("8/255")
    steps: int = 20

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> Walk:
        """The clean picture; no steps yet."""
        return Walk(first, torch.zeros(len(x), device=x.device))

    def step(self, state: Walk, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Walk:
        """Up the gradient, and back into the ball."""
        length = self.threat.reach(x) * (1 - state.taken / self.steps)
        move = expand(length, x) * self.threat.steepest(at.grad, state.query)
        return Walk(self.threat.project(state.query + move, x), state.taken + 1)


if __name__ == "__main__":
    data = advkit.load_data("signs", samples=35)
    model = advkit.load_model("resnet", data=data)
    result = advkit.evaluate(model, data, [Shrinking(Linf("2/255")), ATTACKS.create("pgd", threat=Linf("2/255"))])
    for row in result.rows():
        print(f"{row.attack} at {row.eps}: accuracy {row.accuracy.percent} %, {row.forwards} forwards")
