"""Rectangular occlusion: one rectangle, where the gradient says, then sign steps inside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._rectangles import GREY, Blank, check_pictures, heaviest, places, rectangle, sides
from advkit.attacks._settings import check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.regions import Area
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError


class _Search(NamedTuple):
    query: Tensor
    taken: Tensor  # (B,) questions answered
    places: Tensor  # (B, tried)
    place: Tensor  # (B,) of the best rectangle so far
    highest: Tensor  # (B,) loss met there, while it was grey
    grad: Tensor  # (B, C, H, W) met there


@ATTACKS.register("roa", paper="arXiv:1909.09552")
@dataclass(frozen=True)
class ROA(Attack):
    """One rectangle, placed by the gradient or by trying all places, then filled by sign steps (Wu et al. 2020).

    A grey rectangle is tried at each candidate place; from the worst of them sign steps go on, inside alone. A step is a
    question to the model: one at the clean picture, one for each candidate, the rest inside the rectangle.
    """

    threat: Ball = Area(0.05)
    steps: int = 50
    step_size: float = 0.05  # of the range of a pixel
    search: Literal["gradient", "exhaustive", "random"] = "gradient"
    candidates: int = 10  # places with the largest squared gradient that are tried; at most half of the steps
    stride: int = 1  # pixels between the places of an exhaustive search
    aspect: float = 1.0  # width / height of the rectangle, whose area is eps
    loss: Loss = CrossEntropy()
    restarts: int = 1

    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Area):
            raise InputError(f"ROA works in Area, where eps is a share of the picture, not in {self.threat.label}.")
        least = 2 if self.search == "gradient" else 1
        check_least(self, steps=least, candidates=1, stride=1, restarts=1)
        for name in ("step_size", "aspect"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"ROA: {name} is {getattr(self, name)}; give a number above 0.")

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Search:
        """The clean picture; without its gradient, the first grey rectangle."""
        check_pictures(self, x)
        height, width = self._sides(x)
        tried = self._tried(x)
        if self.search == "random":
            open_places = rng.fold("place").integers(places(height, width, x), 1)
        else:
            open_places = self._grid(x).expand(len(x), -1)[:, :tried]
        gradient = self.search == "gradient"
        return _Search(
            query=first if gradient else self._grey(x, open_places[:, 0]),
            taken=torch.zeros(len(x), dtype=torch.long, device=x.device),
            places=open_places,
            place=open_places[:, 0],
            highest=torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device),
            grad=torch.zeros_like(x),
        )

    def step(self, state: _Search, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Search:  # type: ignore[override]
        """Where the gradient is largest; then the next grey rectangle; then sign steps from the best one."""
        height, width = self._sides(x)
        tried, before = self._tried(x), int(self.search == "gradient")
        open_places = state.places
        if before:
            ranked = heaviest(at.grad, height, width, tried)
            open_places = torch.where((state.taken == 0)[:, None], ranked, open_places)
        number = state.taken - before  # of the candidate that was asked about; -1 is the clean picture
        asked = open_places.gather(1, number.clamp(0, tried - 1)[:, None]).squeeze(1)
        higher = (number >= 0) & (number < tried) & (at.loss > state.highest)
        place = torch.where(higher, asked, state.place)
        highest = torch.where(higher, at.loss, state.highest)
        grad = torch.where(expand(higher, x), at.grad, state.grad)

        following = open_places.gather(1, (number + 1).clamp(0, tried - 1)[:, None]).squeeze(1)
        grey = self._grey(x, following)
        # The first sign step goes from the grey rectangle that won, whose gradient is known.
        ends = number == tried - 1
        begin = torch.where(expand(ends, x), self._grey(x, place), state.query)
        slope = torch.where(expand(ends, x), grad, at.grad)
        inside = rectangle(place, height, width, x)
        stepped = torch.where(inside, (begin + self.step_size * slope.sign()).clamp(0, 1), x)
        query = torch.where(expand(number < tried - 1, x), grey, stepped)
        return _Search(query, state.taken + 1, open_places, place, highest, grad)

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        """The same rectangle at a random place: full of noise, and grey."""
        return (
            ("random", Blank(self.threat, "noise", aspect=self.aspect)),
            ("grey", Blank(self.threat, "grey", aspect=self.aspect)),
        )

    def _sides(self, x: Tensor) -> tuple[int, int]:
        assert isinstance(self.threat, Area)
        return sides(self.threat.room(x), self.aspect, x)

    def _tried(self, x: Tensor) -> int:
        """How many places get a grey rectangle."""
        if self.search == "random":
            return 1
        if self.search == "gradient":
            return min(self.candidates, self.steps // 2, places(*self._sides(x), x))
        count = self._grid(x).shape[1]
        if self.steps < count:
            raise InputError(
                f"ROA: an exhaustive search tries {count} places of a picture of {x.shape[3]}x{x.shape[2]}, one a step, and "
                f"steps is {self.steps}; give {count + 30} steps (30 of them inside the rectangle), or a larger stride."
            )
        return count

    def _grid(self, x: Tensor) -> Tensor:
        """(1, n) places ``stride`` apart, the last row and column always among them."""
        height, width = self._sides(x)
        ends = (int(x.shape[2]) - height, int(x.shape[3]) - width)
        rows, columns = (sorted({*range(0, end, self.stride), end}) for end in ends)
        across = ends[1] + 1
        return torch.tensor([[row * across + column for row in rows for column in columns]], device=x.device)

    def _grey(self, x: Tensor, place: Tensor) -> Tensor:
        """The pictures under a grey rectangle."""
        return torch.where(rectangle(place, *self._sides(x), x), torch.full_like(x, GREY), x)
