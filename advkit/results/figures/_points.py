"""Points with their names beside them, where there is room; else with numbers, and the names below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from advkit.results.figures._paper import GREY, Style, apart, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Box", "Point", "are_many", "put_names"]

_NAMED = 12  # points that have their names beside them
_LETTERS = 170  # of all names together; more than that run into each other


class Box(NamedTuple):
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """The area that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return wide * high if wide > 0 and high > 0 else 0.0


def are_many(names: Sequence[str]) -> bool:
    """Whether points stand too close for their names, and get numbers."""
    return len(names) > _NAMED or sum(map(len, names)) > _LETTERS


@dataclass(frozen=True)
class Point:
    """A result with its intervals, in the units of the axes."""

    name: str
    x: float
    y: float
    look: Style
    x_span: tuple[float, float] | None = None
    y_span: tuple[float, float] | None = None
    size: float = 4.0  # points across


def put_names(figure: Figure, axes: Axes, points: Sequence[Point], texts: Sequence[str]) -> None:
    """Write each text near its point, where it covers least; with a line to the point where that is far."""
    figure.draw_without_rendering()  # the axes take their places
    scale = 72 / figure.dpi

    def on_paper(x: float, y: float) -> tuple[float, float]:
        found = axes.transData.transform((x, y)) * scale
        return float(found[0]), float(found[1])

    around = axes.get_window_extent()
    frame = Box(around.x0 * scale, around.y0 * scale, around.x1 * scale, around.y1 * scale)
    taken: list[tuple[Box, float]] = []
    for point in points:
        x, y = on_paper(point.x, point.y)
        for across, weight in ((4.0, 4.0), (point.size * 0.8, 0.5)):  # a name may lie on the rim of a bubble
            half = across / 2
            taken.append((Box(x - half, y - half, x + half, y + half), weight))
        if point.x_span:
            (left, _), (right, _) = (on_paper(value, point.y) for value in point.x_span)
            taken.append((Box(left, y - 0.8, right, y + 0.8), 1.5))
        if point.y_span:
            (_, low), (_, high) = (on_paper(point.x, value) for value in point.y_span)
            taken.append((Box(x - 0.8, low, x + 0.8, high), 1.5))
    for point, shown in zip(points, apart(texts, 30), strict=True):
        wide, high = 72 * text_width(shown, 6.5) + 6, 7.5  # names side by side are not to run into each other
        x, y = on_paper(point.x, point.y)
        costs: list[tuple[float, int, float, Box]] = []
        for far in (2.0, 6.0, 11.0, 17.0, 25.0, 35.0):
            for right, up in ((1, 0.3), (1, 1), (-1, 1), (1, -1), (-1, -1), (-1, 0.3), (0, 1), (0, -1)):
                reach = point.size / 2 + far
                left = x + right * reach * 0.8 + (0 if right > 0 else -wide if right < 0 else -wide / 2)
                bottom = y + up * reach * 0.8 + (-high / 2 if abs(up) < 1 else 0 if up > 0 else -high)
                box = Box(left, bottom, left + wide, bottom + high)
                outside = wide * high - box.shared(frame)
                cost = sum(weight * box.shared(other) for other, weight in taken) + 8 * outside + 1.5 * far
                costs.append((cost, len(costs), far, box))
        _, _, far, box = min(costs)
        taken.append((box, 6.0))
        away = far > 5
        axes.annotate(
            shown,
            (point.x, point.y),
            xytext=((box.left + box.right) / 2 - x, (box.bottom + box.top) / 2 - y),
            textcoords="offset points",
            ha="center",
            va="center",
            size=6.5,
            in_layout=False,
            zorder=5,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 1}
            if away
            else None,
        )
