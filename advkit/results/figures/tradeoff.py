"""Robust against clean accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from advkit.results.figures._choice import Chosen, Series, made_up, norm
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._panels import styles
from advkit.results.figures._paper import COLUMN, PAGE, Style, apart, sheet, style
from advkit.results.figures._points import Point, are_many, put_names
from advkit.results.grid import Line

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.ticker import MaxNLocator

__all__ = ["tradeoff"]


@KINDS.register("tradeoff")
def tradeoff(chosen: Chosen) -> Figure:
    """Robust accuracy at one radius against clean accuracy, with 95 % intervals."""
    eps = chosen.common_eps(chosen.worst)
    found = chosen.at(eps, chosen.worst)
    series, lines = [each for each, _ in found], [line for _, line in found]
    points = [_point(each, line, look) for (each, line), look in zip(found, looks(series), strict=True)]
    figure, axes = scatter(points, chosen, lines, eps)
    axes.set_xlabel("clean accuracy (%)")
    axes.xaxis.set_major_locator(whole_numbers())
    axes.set_xlim(*limits([value for point in points for value in point.x_span or ()]))
    put_names(figure.figure, axes, points, labels(points))
    return figure.figure


def _point(series: Series, line: Line, look: Style) -> Point:
    clean, robust = line.clean_accuracy, line.accuracy
    return Point(
        series.name,
        100 * clean.value,
        100 * robust.value,
        look,
        (100 * clean.low, 100 * clean.high),
        (100 * robust.low, 100 * robust.high),
    )


def scatter(
    points: Sequence[Point],
    chosen: Chosen,
    lines: Sequence[Line],
    eps: str,
    *more: str,
    key: Sequence[tuple[Artist, str]] = (),
    marks: bool = True,
) -> tuple[SubFigure, Axes]:
    """Axes with the points and their intervals; the names stand below, by number, where they are many."""
    from matplotlib.lines import Line2D

    many = are_many([point.name for point in points])
    width = chosen.width or (PAGE if many else COLUMN)
    short = apart([point.name for point in points], 35)  # before numbers make all of them differ
    names: list[tuple[Artist, str]] = [
        (Line2D([], [], color=point.look.color, marker=point.look.marker, linestyle="none"), f"{number}: {name}")
        for number, (point, name) in enumerate(zip(points, short, strict=True), 1)
        if many
    ]
    said = chosen.said(lines, chosen.met(), "bars: 95 % Wilson intervals", *more)
    figure = sheet(width, min(0.78 * width, 4.2), said, key=[*key, *names], made_up=made_up(lines))
    axes = figure.subplots()
    for point in points:
        axes.errorbar(
            point.x,
            point.y,
            xerr=_reach(point.x, point.x_span),
            yerr=_reach(point.y, point.y_span),
            color=point.look.color,
            ecolor=(point.look.color, 0.3 if many else 0.8),
            elinewidth=0.5 if many else 0.7,
            capsize=0 if many else 1.5,
            marker=point.look.marker if marks else "",
            linestyle="none",
            zorder=3,
        )
    axes.yaxis.set_major_locator(whole_numbers())
    axes.set_ylim(*limits([value for point in points for value in point.y_span or ()]))
    axes.set_ylabel(f"accuracy at ε = {eps}, {norm(lines[0])} (%)")
    return figure, axes


def _reach(value: float, span: tuple[float, float] | None) -> list[list[float]] | None:
    return [[value - span[0]], [span[1] - value]] if span else None


def looks(series: Sequence[Series]) -> list[Style]:
    """A colour for each model where they are few; where they have numbers, for each defense."""
    if not are_many([each.name for each in series]):
        return styles(series)
    defenses = list(dict.fromkeys(each.first.defense for each in series))
    return [style(defenses.index(each.first.defense)) for each in series]


def whole_numbers() -> MaxNLocator:
    """Where ticks of percentages stand."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6, steps=[1, 2, 5, 10], integer=True)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """A little more than the values, and not much more than there can be of 100."""
    low, high = min(values), max(values)
    room = max(2.0, 0.08 * (high - low))
    return max(-3.0, low - room), min(103.0, high + room)


def labels(points: Sequence[Point]) -> list[str]:
    """Names, or numbers where the points are many."""
    names = [point.name for point in points]
    return [str(number) for number in range(1, len(names) + 1)] if are_many(names) else names
