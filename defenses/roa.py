"""Rectangles laid on the pictures, where and as they hurt most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks._rectangles import GREY, heaviest, rectangle
from advkit.catalog import DEFENSES
from advkit.core.attack import Ascent, Attack
from advkit.core.defense import Objective
from advkit.core.goal import Goal
from advkit.core.rng import Rng
from advkit.core.threat import L0, Ball
from advkit.core.types import expand
from advkit.defenses._settings import above, at_least, side_in_pixels


@DEFENSES.register("roa", paper="arXiv:1909.09552")
@dataclass(frozen=True)
class OcclusionTraining(Objective):
    """Cross-entropy under a rectangle, placed by the gradient and then filled by sign steps (DOA, Wu et al. 2020).

    For stickers and patches, against which training in a ball hardly helps. The paper begins from a model that is trained
    on clean pictures. Every place of the picture is tried, the last row and column too.
    """

    side: float = 7  # height of the rectangle: pixels or, below 1, a share of the picture's
    width: float | None = None  # likewise; none: a square
    place: Literal["gradient", "random"] = "gradient"
    candidates: int = 5  # places with the largest gradient, on which a grey rectangle is tried
    steps: int = 30
    step_size: float = 0.05  # of the range of a pixel

    def __post_init__(self) -> None:
        above("roa", side=self.side, step_size=self.step_size)
        if self.width is not None:
            above("roa", width=self.width)
        at_least("roa", 1, candidates=self.candidates, steps=self.steps)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """The pictures under their rectangles, at the highest loss met; the attack sees the model in eval mode."""
        height = side_in_pixels(self.side, x.shape[2])
        width = height if self.width is None else side_in_pixels(self.width, x.shape[3])
        width = min(width, x.shape[3])
        places = (x.shape[2] - height + 1) * (x.shape[3] - width + 1)
        tried = min(self.candidates, places) if self.place == "gradient" else 0
        attack = _Occlusion(height, width, tried, self.steps, self.step_size)
        return attack(model, x, y, seed=seed, keep="last", batch_size=len(x))

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)


class _Search(NamedTuple):
    query: Tensor
    taken: Tensor  # (B,) steps
    places: Tensor  # (B, tried)
    place: Tensor  # (B,) of the rectangle, or of the best one so far
    highest: Tensor  # (B,) loss met there
    best: Tensor  # the picture under the rectangle at that loss


@dataclass(frozen=True)
class _Occlusion(Attack):
    """One look at the clean picture, ``tried`` at grey rectangles, then sign steps inside the best one.

    With none tried, the place is drawn. A step of the attack is a question to the model.
    """

    height: int
    width: int
    tried: int
    inside: int  # sign steps
    step_size: float

    @property
    def threat(self) -> Ball:  # type: ignore[override]
        """As many pixels as the rectangle has, changed by any amount."""
        return L0(self.height * self.width)

    @property
    def looks(self) -> int:
        """Questions before the first one of the sign steps."""
        return self.tried + 1 if self.tried else 0

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Questions: the looks, the sign steps, and where these end."""
        return self.looks + self.inside + 1

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Search:
        """The clean picture, or a grey rectangle at a drawn place."""
        count = (x.shape[2] - self.height + 1) * (x.shape[3] - self.width + 1)
        place = rng.fold("place").integers(count)
        query = first if self.tried else self._grey(x, place)
        return _Search(
            query=query,
            taken=torch.zeros_like(place),
            places=place[:, None].expand(-1, max(1, self.tried)),
            place=place,
            highest=torch.full(place.shape, -torch.inf, dtype=x.dtype, device=x.device),
            best=query,
        )

    def step(self, state: _Search, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Search:  # type: ignore[override]
        """Where the gradient is largest; then the next grey rectangle; then a sign step, until the best is shown."""
        searching = state.taken < self.looks
        if self.looks:
            first = (state.taken == 0)[:, None]
            state = state._replace(
                places=torch.where(first, heaviest(at.grad, self.height, self.width, self.tried), state.places)
            )
        # The answer to a question is about the query: of the clean picture it says nothing of a place.
        asked = state.taken > 0 if self.looks else torch.ones_like(searching)
        index = (state.taken - 1).clamp(0, state.places.shape[1] - 1)
        here = torch.where(searching, state.places.gather(1, index[:, None]).squeeze(1), state.place)
        higher = asked & (at.loss > state.highest)
        place = torch.where(higher, here, state.place)
        highest = torch.where(higher, at.loss, state.highest)
        best = torch.where(expand(higher, x), state.query, state.best)

        following = state.places.gather(1, state.taken.clamp(0, state.places.shape[1] - 1)[:, None]).squeeze(1)
        grey = self._grey(x, following)
        # The first sign step goes from the grey rectangle that won, and its gradient is asked for once more.
        inside = rectangle(place, self.height, self.width, x)
        stepped = torch.where(inside, (state.query + self.step_size * at.grad.sign()).clamp(0, 1), x)
        query = torch.where(
            expand(state.taken < self.looks - 1, x), grey, torch.where(expand(searching, x), best, stepped)
        )
        ending = state.taken == self.steps - 1
        query = torch.where(expand(ending, x), best, query)
        return _Search(query, state.taken + 1, state.places, place, highest, best)

    def _grey(self, x: Tensor, place: Tensor) -> Tensor:
        """The pictures under a grey rectangle."""
        return torch.where(rectangle(place, self.height, self.width, x), torch.full_like(x, GREY), x)
