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

    rung: Tensor  # being searched; at every higher one that was open, the example is beaten
    won: Tensor  # bool: ``found`` is an adversarial picture at the next higher rung
    found: Tensor | None  # (B, ...); None on a ladder of one rung, which needs no memory

    def after(self, beaten: Tensor, point: Tensor) -> tuple[Reach, Tensor]:
        """One rung down with ``point``, and for whom that holds, (B,) bool: who was ``beaten`` and has a rung left."""
        found = None if self.found is None else point
        return Reach((self.rung - 1).clamp_min(0), beaten, found), beaten & (self.rung > 0)


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
        return Reach(top, torch.zeros_like(top, dtype=torch.bool), x if len(self) > 1 else None)

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
