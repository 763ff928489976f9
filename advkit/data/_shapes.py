"""Flat shapes as signed distances, so that they can be inset, joined and drawn with soft edges at any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Both", "Disc", "Grown", "Join", "Points", "Polygon", "Shape", "Stroke", "arc", "bend", "placed"]

Array = NDArray[np.float64]
Points = tuple[tuple[float, float], ...]


class Shape(Protocol):
    """A region of the plane; x runs to the right, y down."""

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance to the edge, negative inside."""
        ...


@dataclass(frozen=True)
class Disc:
    """All points within ``radius`` of the centre."""

    x: float
    y: float
    radius: float

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance to the circle."""
        return np.asarray(np.sqrt((x - self.x) ** 2 + (y - self.y) ** 2) - self.radius)


@dataclass(frozen=True)
class Polygon:
    """The inside of a closed line, with corners rounded by growing it."""

    points: Points
    rounding: float = 0.0

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance to the outline; the inside by the even-odd rule."""
        squared = np.full(np.broadcast(x, y).shape, np.inf)
        is_inside = np.zeros(squared.shape, dtype=bool)
        for (ax, ay), (bx, by) in zip(self.points, self.points[1:] + self.points[:1], strict=True):
            squared = np.minimum(squared, _to_segment(x, y, ax, ay, bx, by))
            if ay != by:
                is_inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * ((bx - ax) / (by - ay)))
        return np.asarray(np.where(is_inside, -1.0, 1.0) * np.sqrt(squared) - self.rounding)


@dataclass(frozen=True)
class Stroke:
    """A line of some width with round ends."""

    points: Points
    width: float

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance to the outline of the line."""
        squared = np.full(np.broadcast(x, y).shape, np.inf)
        for (ax, ay), (bx, by) in zip(self.points, self.points[1:], strict=False):
            squared = np.minimum(squared, _to_segment(x, y, ax, ay, bx, by))
        return np.asarray(np.sqrt(squared) - self.width / 2)


@dataclass(frozen=True)
class Grown:
    """A shape made larger by ``by`` on every side (smaller where negative)."""

    shape: Shape
    by: float

    def distance(self, x: Array, y: Array) -> Array:
        """Signed distance, moved."""
        return self.shape.distance(x, y) - self.by


@dataclass(frozen=True)
class Join:
    """All points of any part."""

    parts: tuple[Shape, ...]

    def distance(self, x: Array, y: Array) -> Array:
        """Least distance of the parts."""
        return np.asarray(np.minimum.reduce([part.distance(x, y) for part in self.parts]))


@dataclass(frozen=True)
class Both:
    """The points that lie in two shapes."""

    first: Shape
    second: Shape

    def distance(self, x: Array, y: Array) -> Array:
        """Greater distance of the two."""
        return np.maximum(self.first.distance(x, y), self.second.distance(x, y))


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Points:
    """Points on an ellipse with half axes ``width`` and ``height``, from one angle to another (degrees, clockwise)."""
    steps = max(2, round(abs(end - start) / 15))
    angles = [radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return tuple((x + width * cos(a), y + height * sin(a)) for a in angles)


def bend(start: tuple[float, float], pull: tuple[float, float], end: tuple[float, float]) -> Points:
    """Points on the quadratic Bezier curve from ``start`` to ``end``, drawn towards ``pull``."""
    times = [i / 8 for i in range(9)]
    return tuple(
        (
            (1 - t) ** 2 * start[0] + 2 * t * (1 - t) * pull[0] + t**2 * end[0],
            (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * pull[1] + t**2 * end[1],
        )
        for t in times
    )


def placed(points: Sequence[tuple[float, float]], x: float, y: float, scale: float = 1.0, turn: float = 0.0) -> Points:
    """Points scaled, turned clockwise by ``turn`` degrees about the origin and moved to (x, y)."""
    c, s = scale * cos(radians(turn)), scale * sin(radians(turn))
    return tuple((x + c * px - s * py, y + s * px + c * py) for px, py in points)


def _to_segment(x: Array, y: Array, ax: float, ay: float, bx: float, by: float) -> Array:
    dx, dy = bx - ax, by - ay
    along = np.clip(((x - ax) * dx + (y - ay) * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
    return np.asarray((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
