"""What is known for certain of each example, and what is derived: certified accuracy over the radius. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from advkit.results.cell import Bools, Numbers
from advkit.results.minimal import asked_radius
from advkit.results.statistics import Share, share

__all__ = ["Certificates", "Certification", "equivalents"]


@dataclass(frozen=True)
class Certificates:
    """Facts of n examples, (n,) each. A radius means nothing beyond the box that pictures are in."""

    index: Numbers  # places in the data, ascending
    label: Numbers
    prediction: Numbers  # -1 where it abstains
    radius: Numbers  # of the prediction, right or wrong
    forwards: Numbers
    seconds: float = 0.0

    def __len__(self) -> int:
        return len(self.index)

    @classmethod
    def joined(cls, parts: Iterable[Certificates]) -> Self:
        """The facts of several parts, each example once, in the order of the data."""
        parts = list(parts)
        arrays: dict[str, Numbers] = {
            name: np.concatenate([np.zeros(0, kind), *(getattr(part, name) for part in parts)]).astype(kind)
            for name, kind in KINDS.items()
        }
        _, rows = np.unique(arrays["index"], return_index=True)
        taken = {name: array[rows] for name, array in arrays.items()}
        return cls(**taken, seconds=sum(part.seconds for part in parts))


KINDS: dict[str, type] = {
    f.name: np.float64 if f.name == "radius" else np.int64 for f in fields(Certificates) if f.name != "seconds"
}


@dataclass(frozen=True)
class Certification:
    """The certificates of a model on a data set by one certifier, and what they are of."""

    model: str
    weights: str
    defense: str
    data: str
    by: str  # name of the certifier
    settings: str  # its repr, which holds every setting
    norm: str
    seed: int
    values: int  # of one picture
    facts: Certificates
    samples: int  # wanted; more than the facts where it was interrupted
    asked: tuple[float, ...] = ()  # where not empty, only these radii were looked at

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def complete(self) -> bool:
        """Whether every example is done."""
        return len(self) == self.samples

    @property
    def correct(self) -> Bools:
        """(n,) the prediction is the label; to abstain is to be wrong."""
        right: Bools = (self.facts.prediction == self.facts.label) & (self.facts.prediction >= 0)
        return right

    def certified_at(self, radius: float | str) -> Bools:
        """(n,) right, and certain to stay so up to this radius. Raises InputError for what is no radius."""
        certain: Bools = self.correct & (self.facts.radius >= asked_radius(radius))
        return certain

    def accuracy_at(self, radius: float | str) -> Share:
        """Certified accuracy, with its Wilson interval; at radius 0 the accuracy of the certified model."""
        return share(int(self.certified_at(radius).sum()), len(self))

    @property
    def abstained(self) -> Share:
        """How often there was no answer."""
        return share(int((self.facts.prediction < 0).sum()), len(self))

    @property
    def average_radius(self) -> float:
        """The average certified radius (Zhai et al. 2020): of wrong examples, 0."""
        return float(np.where(self.correct, self.facts.radius, 0).mean())

    def steps(self) -> tuple[Numbers, Numbers]:
        """The curve: every radius at which certified accuracy falls, ascending from 0, and the number that reaches it."""
        radii = np.unique(np.concatenate([[0.0], self.facts.radius[self.correct]]))
        reached = np.sort(self.facts.radius[self.correct])
        return radii, len(reached) - np.searchsorted(reached, radii, side="left")

    def usual_radii(self) -> tuple[float, ...]:
        """Those asked for, else round ones from 0 to the largest that was certified."""
        if self.asked:
            return self.asked
        largest = float(np.where(self.correct, self.facts.radius, 0).max(initial=0))
        if self.norm == "patch":
            return tuple(float(side) for side in range(int(largest) + 1))
        if largest <= 0:
            return (0.0,)
        unit = 255 if self.norm == "linf" else 1
        largest *= unit
        width = 10 ** math.floor(math.log10(largest / 4))
        width = next(width * step for step in (1, 2.5, 5, 10) if width * step * 10 >= largest)
        return tuple(round(number * width, 10) / unit for number in range(int(largest / width + 1e-9) + 1))

    def to_json(self, radii: Sequence[float]) -> dict[str, Any]:
        """Everything derived; the facts themselves are in the folder."""
        return {
            "model": self.model,
            "weights": self.weights,
            "defense": self.defense,
            "data": self.data,
            "n": len(self),
            "wanted": self.samples,
            "by": self.by,
            "settings": self.settings,
            "norm": self.norm,
            "seed": self.seed,
            "rows": [{"radius": radius, **_named(self.accuracy_at(radius))} for radius in radii],
            "abstained": None if self.asked else _named(self.abstained),
            "average_radius": None if self.asked else self.average_radius,
            "forwards": int(self.facts.forwards.sum()),
            "seconds": self.facts.seconds,
        }


def equivalents(norm: str, radius: float, values: int) -> dict[str, float]:
    """The largest balls of other norms inside a ball of this one, for pictures of so many values."""
    root = math.sqrt(values)
    factors = {
        "l2": {"l1": 1.0, "linf": 1 / root},
        "l1": {"l2": 1 / root, "linf": 1 / values},
        "linf": {"l1": 1.0, "l2": 1.0},
    }
    return {other: radius * factor for other, factor in factors.get(norm, {}).items()}


def _named(found: Share) -> dict[str, float]:
    return {"accuracy": found.value, "low": found.low, "high": found.high}
