"""Auto-PGD in L1: few values move, fewer where that serves, and it begins in larger balls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Ascent
from advkit.core.rng import Rng
from advkit.core.threat import L1
from advkit.core.types import expand

__all__ = ["SparseAscent"]

# Of Croce & Hein 2021, section 4.
_RADII, _SHARES = (3, 2, 1), (0.3, 0.3)  # in eps, each for so much of the steps; the last for what is left
_FIRST = 0.2  # of the values move first
_FEWER = 1.5  # the values that the best point has changed, over those that move
_SPAN = 0.04  # of a ball's steps between two checkpoints
_THINS = 0.95  # of the values changed before: below that, the best point is still becoming sparser
_SHORTER, _LEAST = 1.5, 0.1  # of the stride
_END = 1e-6  # room that is none


class _Rising(NamedTuple):
    query: Tensor
    best: Tensor
    best_grad: Tensor
    best_loss: Tensor
    stride: Tensor  # (B,) in radii
    moving: Tensor  # (B,) how many values move
    changed: Tensor  # (B,) how many values the best point had changed at the last checkpoint
    since: Tensor  # (B,) steps since then; -1 before the first point of a ball is known
    taken: Tensor  # (B,) steps


@dataclass(frozen=True)
class SparseAscent:
    """The climb of Auto-PGD in L1 (Croce & Hein 2021): ``steps`` in balls of three, two and one radii.

    At a checkpoint the number of values that move follows that of the values which the best point has changed. Where that
    still falls the stride is whole again and the climb goes on from the best point; where not, the stride is shortened.
    """

    threat: L1
    steps: int

    def first(self, x: Tensor, rng: Rng) -> Tensor:
        """A random point of the first ball."""
        return self._ball(int(self._phase(torch.zeros(1)))).random_point(x, rng)

    def start(self, first: Tensor, x: Tensor) -> _Rising:
        """Nothing is known of the first point yet."""
        none = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        values = torch.full((len(x),), x[0].numel(), device=x.device)
        zero = torch.zeros_like(values)
        return _Rising(
            query=first,
            best=first,
            best_grad=torch.zeros_like(first),
            best_loss=none,
            stride=torch.ones_like(none),
            moving=(_FIRST * values).long(),
            changed=values,
            since=zero - 1,
            taken=zero,
        )

    def step(self, state: _Rising, at: Ascent, x: Tensor) -> _Rising:
        """Keep the best, look at a checkpoint how many values shall move, and move on or into the next ball."""
        better = at.loss > state.best_loss
        best = torch.where(expand(better, x), state.query, state.best)
        best_grad = torch.where(expand(better, x), at.grad, state.best_grad)
        best_loss = torch.where(better, at.loss, state.best_loss)

        phase = self._phase(state.taken)
        since = state.since + 1
        due = since >= self._span(phase)
        changed = _changes(best, x)
        thins = due & (changed < _THINS * state.changed)
        shorter = (state.stride / _SHORTER).clamp_min(_LEAST)
        stride = torch.where(thins, 1.0, torch.where(due, shorter, state.stride))
        moving = torch.where(due, (changed / _FEWER).long(), state.moving)
        here = torch.where(expand(thins, x), best, state.query)
        grad = torch.where(expand(thins, x), best_grad, at.grad)

        taken = state.taken + 1
        following = self._phase(taken)
        enters = following != phase
        length = stride.double() * torch.tensor([self._ball(p).reach(x) for p in range(3)], device=x.device)[phase]
        ahead = here + expand(length.to(x.dtype), x) * _thinned(grad, here, moving)
        # A smaller ball begins where the larger one was best.
        query = self._projected(torch.where(expand(enters, x), best, ahead), x, following)
        changed = torch.where(due, changed, state.changed)
        entered = _changes(query, x)
        return _Rising(
            query=query,
            best=best,
            best_grad=best_grad,
            best_loss=torch.where(enters, -torch.inf, best_loss),
            stride=torch.where(enters, 1.0, stride),
            moving=torch.where(enters, (entered / _FEWER).long(), moving),
            changed=torch.where(enters, entered, changed),
            since=torch.where(enters, -1, torch.where(due, 0, since)),
            taken=taken,
        )

    @property
    def _ends(self) -> tuple[int, int]:
        """After how many steps the first and the second ball are left."""
        first, second = (int(share * self.steps) for share in _SHARES)
        return first, first + second

    def _phase(self, taken: Tensor) -> Tensor:
        """(B,) which ball a query after so many steps belongs to."""
        first, second = self._ends
        return (taken >= first).long() + (taken >= second).long()

    def _span(self, phase: Tensor) -> Tensor:
        first, second = self._ends
        lengths = (first, second - first, self.steps - second)
        return torch.tensor([max(1, int(_SPAN * length)) for length in lengths], device=phase.device)[phase]

    def _ball(self, phase: int) -> L1:
        return L1(_RADII[phase] * float(self.threat.eps))

    def _projected(self, point: Tensor, x: Tensor, phase: Tensor) -> Tensor:
        """Each row on its own ball; most often all stand in one."""
        return _apart(phase, lambda which, rows: self._ball(which).project(point[rows], x[rows]))


def _apart(phase: Tensor, make: Callable[[int, Tensor], Tensor]) -> Tensor:
    """``make(phase, rows)`` for the rows of each phase; they come back in their order."""
    places = [(phase == each).nonzero().squeeze(1) for each in range(len(_RADII))]
    parts = [make(each, rows) for each, rows in enumerate(places) if len(rows)]
    return torch.cat(parts)[torch.cat(places).argsort()]


def _changes(point: Tensor, x: Tensor) -> Tensor:
    """(B,) how many values differ."""
    return (point != x).flatten(1).sum(1)


def _thinned(grad: Tensor, point: Tensor, moving: Tensor) -> Tensor:
    """The signs of the ``moving`` (B,) largest values of the gradient that can still move, at length 1 in L1."""
    flat, place = grad.flatten(1), point.flatten(1)
    stuck = ((flat > 0) & (place > 1 - _END)) | ((flat < 0) & (place < _END))
    size = flat.abs().masked_fill(stuck, 0)
    ranked = size.sort(1, descending=True).values
    least = ranked.gather(1, moving.clamp(1, size.shape[1])[:, None] - 1)
    sign = flat.sign().where((size >= least) & (size > 0), 0.0)
    return (sign / sign.abs().sum(1, keepdim=True).clamp_min(1)).reshape(grad.shape)
