"""Rows of a run: examples at their steps, those that wait for a verdict, and what is done to such rows as a whole."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import State
from advkit.core.types import join, rows
from advkit.engine.ladder import Reach

__all__ = ["Lanes", "Waiting", "is_better", "joined", "split"]


class Lanes(NamedTuple):
    """Examples at work, (B,) each: a row is one example in one of its branches."""

    example: Tensor
    branch: Tensor  # which restart and target
    taken: Tensor  # steps, in this branch
    steps: Tensor  # steps, in all branches
    x: Tensor
    keys: Tensor
    reach: Reach
    state: State
    best: Tensor
    best_rank: Tensor  # its loss; of a hit of a minimal-norm attack, minus its distance
    best_hit: Tensor


class Waiting(NamedTuple):
    """What left a lane for the verdict."""

    lanes: Lanes
    point: Tensor
    final: Tensor  # (B,) bool: the steps of the branch are spent


def is_better(lanes: Lanes, rank: Tensor, hit: Tensor) -> Tensor:
    """(B,) bool: a point of this rank beats the lane's best. A success beats any failure, then the rank decides."""
    return (hit & ~lanes.best_hit) | ((hit == lanes.best_hit) & (rank > lanes.best_rank))


def joined(lanes: Lanes | None, more: Lanes) -> Lanes:
    """The lanes with more behind them."""
    return more if lanes is None else join(lanes, more)


def split(lanes: Lanes, count: int) -> tuple[Lanes, Lanes | None]:
    """The first ``count`` lanes and the rest, if there is one."""
    order = torch.arange(len(lanes.example), device=lanes.example.device)
    return rows(lanes, order[:count]), rows(lanes, order[count:]) if len(order) > count else None
