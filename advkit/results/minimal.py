"""From the smallest distances at which examples fall: robust accuracy at every radius, and the median distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from advkit.errors import DataError, InputError
from advkit.results.statistics import Share, share

__all__ = ["Curve", "asked_radius", "minimal_curve"]


@dataclass(frozen=True)
class Curve:
    """Robust accuracy over the radius, a step function that falls at each of ``distances``.

    An example falls at a radius that is its distance or larger; one that is wrong without attack has fallen everywhere.
    """

    distances: npt.NDArray[
        np.float64
    ]  # ascending, of the examples that are right without attack; inf where none was found
    total: int  # examples, wrong ones included

    @property
    def clean(self) -> Share:
        """Accuracy without attack."""
        return share(len(self.distances), self.total)

    @property
    def median(self) -> float | None:
        """Of the examples that are right without attack; inf where more than half stand, None where there are none.

        Half of them have fallen at this radius: of an even number it is the lower of the two in the middle.
        """
        count = len(self.distances)
        return float(self.distances[(count - 1) // 2]) if count else None

    @property
    def found(self) -> int:
        """Examples for which a distance was found."""
        return int(np.isfinite(self.distances).sum())

    def accuracy(self, radius: float | str) -> Share:
        """The share of all examples that stand at a radius; at inf, those for which nothing was found.

        Raises InputError for what is no radius.
        """
        fallen = min(int(np.searchsorted(self.distances, asked_radius(radius), side="right")), self.found)
        return share(len(self.distances) - fallen, self.total)

    def steps(self) -> list[tuple[float, float]]:
        """(radius, accuracy from there on): at 0, and wherever it falls."""
        at, counts = np.unique(self.distances[np.isfinite(self.distances)], return_counts=True)
        left = len(self.distances) - np.cumsum(counts)
        start = [] if len(at) and at[0] == 0 else [(0.0, len(self.distances) / self.total)]
        return [*start, *((float(x), int(n) / self.total) for x, n in zip(at, left, strict=True))]

    def rows(self, radii: Iterable[float]) -> list[tuple[float, Share]]:
        """Each radius with the accuracy there."""
        return [(float(radius), self.accuracy(radius)) for radius in radii]

    def to_json(self, radii: Sequence[float] = ()) -> dict[str, object]:
        """The stable form: accuracies are fractions; a distance that is infinite is null."""
        median = self.median
        return {
            "n": self.total,
            "clean": _shown(self.clean),
            "found": self.found,
            "median_distance": None if median is None or math.isinf(median) else median,
            "rows": [{"eps": radius, **_shown(accuracy)} for radius, accuracy in self.rows(radii)],
            "curve": [{"eps": radius, "accuracy": accuracy} for radius, accuracy in self.steps()],
        }

    def table(self, radii: Sequence[float]) -> str:
        """Plain text: a line for each radius, and the median distance."""
        lines = [f"{'eps':>10}  accuracy (%)", f"{'0':>10}  {self.clean.percent}"]
        lines += [f"{radius:>10.4g}  {accuracy.percent}" for radius, accuracy in self.rows(radii)]
        median = self.median
        said = "none, no example is right without attack" if median is None else f"{median:.4g}"
        return "\n".join([*lines, f"median distance: {said}"])


def asked_radius(radius: float | str) -> float:
    """A radius as a number. Raises InputError for what is none."""
    if isinstance(radius, float) and radius >= 0:
        return radius
    from advkit.core.units import Eps  # with torch, which tables and figures do without

    return Eps(radius)


def _shown(accuracy: Share) -> dict[str, float]:
    return {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}


def minimal_curve(distances: Sequence[float] | npt.ArrayLike, correct: Sequence[bool] | npt.ArrayLike) -> Curve:
    """The curve of examples (N,) with these smallest distances (inf where none was found), ``correct`` without attack.

    Distances of examples that are wrong without attack mean nothing. Raises InputError where the two differ in length or
    are empty, DataError for a distance of an example that is right which is negative or NaN.
    """
    given, right = np.asarray(distances, np.float64), np.asarray(correct, bool)
    if given.ndim != 1 or given.shape != right.shape or not len(given):
        raise InputError(
            f"distances have shape {given.shape} and correct has {right.shape}; give one of each for every example, (N,)."
        )
    kept = given[right]
    bad = ~(kept >= 0)  # also true of NaN
    if bad.any():
        raise DataError(f"a distance is {kept[bad][0]}; distances are 0 or more, inf where nothing was found.")
    return Curve(np.sort(kept), len(given))
