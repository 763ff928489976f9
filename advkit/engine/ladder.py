"""One search over many radii: an attack at each of them, and where on it an example stands.

An example beaten at one radius is beaten at every larger one, so its curve is one number, the smallest radius at which it is
beaten. The largest radius comes first; then the next smaller one that is still open, until the example stands. What was found
is pulled back from radius to radius as far as it goes, by forward passes alone, before a search is paid for. That takes fewer
passes than bisection: a search that succeeds ends after a few steps, one that fails takes all of them, and here only the last
one fails. Examples at different radii share the lanes and the passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.types import Tree, rows, tree_map
from advkit.errors import InputError

__all__ = ["Index", "Ladder", "Reach"]

Index = Tensor | slice
"""Rows of a tensor: some, or all."""


class Reach(NamedTuple):
    """Where each example stands on the ladder, (B,) each; rungs count from the smallest radius."""

    rung: Tensor  # being searched
    low: Tensor  # the highest rung at which it is known to stand; -1 for none
    high: Tensor  # the lowest rung at which it is known to be beaten; one above its first for none
    won: Tensor  # bool: ``found`` is an adversarial picture at ``high``
    found: Tensor | None  # (B, ...); None on a ladder of one rung, which needs no memory

    @property
    def open(self) -> Tensor:
        """(B,) bool: some rung is undecided."""
        return self.high - self.low > 1

    def after(self, beaten: Tensor, point: Tensor) -> Reach:
        """What is known after a verdict at the rung being searched; the next one is the highest that is open."""
        low, high = torch.where(beaten, self.low, self.rung), torch.where(beaten, self.rung, self.high)
        found = self.found
        if found is not None:
            found = torch.where(beaten.reshape(beaten.shape + (1,) * (point.ndim - 1)), point, found)
        return Reach((high - 1).clamp_min(0), low, high, self.won | beaten, found)


class Ladder:
    """An attack at ascending radii; attacks that differ in nothing but their ball."""

    def __init__(self, attacks: Sequence[Attack]) -> None:
        if any(a.threat.eps >= b.threat.eps for a, b in pairwise(attacks)):
            raise InputError("the radii of a nested search must ascend, each given once.")
        self.attacks = tuple(attacks)

    def __len__(self) -> int:
        return len(self.attacks)

    @property
    def any(self) -> Attack:
        """One of the attacks, for what they all share: the loss, the probes, the restarts."""
        return self.attacks[-1]

    def start(self, top: Tensor, x: Tensor) -> Reach:
        """Examples (B,) whose highest open rung is ``top``, before the first search, which is there."""
        return Reach(top, torch.full_like(top, -1), top + 1, top < 0, x if len(self) > 1 else None)

    def steps(self, rung: Tensor) -> Tensor:
        """(B,) steps of the attack at each example's rung."""
        return torch.tensor([max(0, attack.steps) for attack in self.attacks], device=rung.device)[rung]

    def apart(self, rung: Tensor, make: Callable[[Attack, Index], Tree]) -> Tree:
        """Let the attack at each rung make its rows, ``make(attack, index)``; they come back in their order."""
        if len(self) == 1:
            return make(self.attacks[0], slice(None))
        used = rung.bincount().nonzero().squeeze(1).tolist()
        if len(used) == 1:
            return make(self.attacks[used[0]], slice(None))
        places = [(rung == r).nonzero().squeeze(1) for r in used]
        made = [make(self.attacks[r], place) for r, place in zip(used, places, strict=True)]
        back = torch.cat(places).argsort()
        return rows(tree_map(lambda *parts: torch.cat(parts), *made), back)
