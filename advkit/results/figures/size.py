"""What robustness costs: accuracy against multiply-adds and parameters."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from advkit.errors import InputError
from advkit.results.figures._choice import Chosen
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._points import Point, are_many, put_names
from advkit.results.figures.tradeoff import labels, looks, scatter
from advkit.results.grid import Line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["size"]

_LARGEST = 20.0  # points across, of the model with most parameters


@KINDS.register("size")
def size(chosen: Chosen) -> Figure:
    """Robust accuracy against multiply-adds; the area of a bubble is the number of parameters."""
    series = [each for each in chosen.worst if _known(each.first)]
    left = sorted({each.first.model for each in chosen.worst} - {each.first.model for each in series})
    if not series:
        raise InputError("the results do not say how many parameters and multiply-adds the models have.")
    if left:
        warnings.warn(f"left out for unknown parameters or multiply-adds: {', '.join(left)}", stacklevel=2)
    eps = chosen.common_eps(series)
    found = chosen.at(eps, series)
    most = max(_number(line, "parameters") for _, line in found)
    points = [
        Point(
            each.name,
            _number(line, "multiply_adds"),
            100 * line.accuracy.value,
            look,
            y_span=(100 * line.accuracy.low, 100 * line.accuracy.high),
            size=_across(_number(line, "parameters"), most),
        )
        for (each, line), look in zip(found, looks([each for each, _ in found]), strict=True)
    ]
    crowded = are_many([point.name for point in points])
    areas = [] if crowded else _sizes([_number(line, "parameters") for _, line in found], most)
    lines = [line for _, line in found]
    figure, axes = scatter(
        points, chosen, lines, eps, f"largest bubble: {short(most)} parameters", key=areas, marks=False
    )
    for point in sorted(points, key=lambda point: -point.size):  # small ones before large ones
        axes.scatter(
            point.x, point.y, s=point.size**2, color=point.look.color, alpha=0.45, zorder=2 - point.size / 100,
            marker="o", edgecolors=point.look.color, linewidths=0.8,
        )  # fmt: skip
        axes.plot(point.x, point.y, marker=point.look.marker, color=point.look.color, markersize=2.5, zorder=4)
    axes.set_xlabel("multiply-adds of one pass")
    _log_axis(axes, [point.x for point in points])
    put_names(figure.figure, axes, points, labels(points))
    return figure.figure


def _known(line: Line) -> bool:
    return all(_number(line, key) > 0 for key in ("parameters", "multiply_adds"))


def _number(line: Line, key: str) -> float:
    found = line.record.about.get(key)
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else 0.0


def _across(parameters: float, most: float) -> float:
    return _LARGEST * math.sqrt(parameters / most)


def _log_axis(axes: Axes, values: list[float]) -> None:
    """From below the smallest to above the largest, with ticks that have plain names."""
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ratio = high / low
    steps = (1,) if ratio > 3000 else (1, 3) if ratio > 100 else (1, 2, 5) if ratio > 5 else (1, 1.5, 2, 3, 4, 5, 7)
    ticks = [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]
    axes.set_xticks(ticks, [short(tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def _sizes(parameters: list[float], most: float) -> list[tuple[Artist, str]]:
    """A key of the areas: round numbers near the largest model and, where there is one, near a much smaller."""
    from matplotlib.lines import Line2D

    top = 10 ** math.floor(math.log10(most))
    return [
        (
            Line2D(
                [], [], linestyle="none", marker="o", markersize=_across(value, most), color="0.85", mec="0.4", mew=0.6
            ),
            f"{short(value)} parameters",
        )
        for value in ([top / 10, top] if min(parameters) < top / 3 else [top])
    ]


def short(count: float) -> str:
    """A few digits: 999, 20k, 4.5M, 3G."""
    for unit, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g}{letter}"
    return f"{count:.3g}"
