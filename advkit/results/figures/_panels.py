"""Panels of lines over the radius: a few lines share one; of many, each model has its own, before all others in grey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advkit.results.figures._choice import Series, radius
from advkit.results.figures._paper import COLUMN, PAGE, STYLES, Style, apart, sheet, style, text_width, write

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "by_model", "place", "radius_ticks", "styles", "tiles"]

Draw = Callable[["Axes", Series, "Style | None"], None]
"""Draws one line; without a style, as grey background."""


@dataclass(frozen=True)
class Panel:
    """Lines to look at, each with its style, and lines to compare them with."""

    title: str
    series: tuple[tuple[Series, Style], ...]
    behind: tuple[Series, ...] = ()


def styles(series: Sequence[Series]) -> list[Style]:
    """A style for each: one colour for each model and one dash for each defense, where both tell lines apart."""
    models = list(dict.fromkeys(_model(each) for each in series))
    defenses = list(dict.fromkeys(each.first.defense for each in series))
    pairs = {(_model(each), each.first.defense) for each in series}
    if len(pairs) < len(series) or 1 in (len(models), len(defenses)) or len(models) > STYLES or len(defenses) > 4:
        return [style(number) for number in range(len(series))]
    return [style(models.index(_model(each)), defenses.index(each.first.defense)) for each in series]


def by_model(series: Sequence[Series]) -> list[Panel]:
    """One panel where the lines are few; else a panel for each model."""
    if len(series) <= STYLES:
        return [Panel("", tuple(zip(series, styles(series), strict=True)))]
    groups: dict[object, list[Series]] = {}
    for each in series:
        groups.setdefault(_model(each), []).append(each)
    alone = len(groups) == len(series)
    defenses = list(dict.fromkeys(each.first.defense for each in series))
    return [
        Panel(
            group[0].name if alone else group[0].first.model,
            tuple((each, style(defenses.index(each.first.defense))) for each in group),
            tuple(each for each in series if each not in group),
        )
        for group in groups.values()
    ]


def tiles(
    panels: Sequence[Panel],
    draw: Draw,
    small_print: str,
    *,
    labels: tuple[str, str],
    width: float | None,
    made_up: bool,
) -> Figure:
    """All panels, with one key and the same axes."""
    from matplotlib.lines import Line2D

    many = len(panels) > 8
    most = 5 if many else 4
    width = width or (COLUMN if len(panels) == 1 else PAGE)
    columns = min(len(panels), most, max(1, int(width / 1.3)))
    if len(panels) > columns:  # as even as the rows allow
        columns = -(-len(panels) // -(-len(panels) // columns))
    rows = -(-len(panels) // columns)
    high = 2.1 if len(panels) == 1 else 0.95 if many else 1.75
    behind = any(panel.behind for panel in panels)
    key: dict[str, Artist] = {}
    for panel in panels:
        for each, look in panel.series:
            name = _short(each, panel) if behind else each.name
            handle = Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dash)
            key.setdefault(name, handle)
    if behind:
        key["all others"] = Line2D([], [], color="0.8", linewidth=0.7)
    shown = [(artist, name) for name, artist in key.items()] if len(key) > 1 or not panels[0].title else []
    figure = sheet(width, high * rows + (0.35 if rows > 1 else 0.0), small_print, key=shown, made_up=made_up)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    flat = list(axes.flat)
    titles = apart([panel.title for panel in panels], int(width / columns * 15))
    for axis, panel, title in zip(flat, panels, titles, strict=False):
        for each in panel.behind:
            draw(axis, each, None)
        for each, look in panel.series:
            draw(axis, each, look)
        if panel.title:
            write(axis.set_title("", pad=3), title, 60)
    for number, axis in enumerate(flat):
        if number >= len(panels):
            axis.set_visible(False)
        elif number + columns >= len(panels):
            axis.tick_params(labelbottom=True)
    every = [each for panel in panels for each, _ in panel.series]
    ticks, texts = radius_ticks(every, (width - 0.5) / columns - 0.2)
    flat[0].set_xticks(ticks, texts)
    flat[0].set_xlim(0, max(ticks) * 1.03)
    flat[0].set_ylim(-2, 102)
    flat[0].set_yticks((0, 25, 50, 75, 100))
    if len(panels) == 1:
        flat[0].set_xlabel(labels[0])
        flat[0].set_ylabel(labels[1])
    else:
        figure.supxlabel(labels[0], size=7.5)
        figure.supylabel(labels[1], size=7.5)
    return figure.figure


def place(eps: str | None, series: Sequence[Series]) -> float:
    """Where a radius stands on the axis; one without end, a little behind the largest that has one."""
    value = radius(eps)
    if value != float("inf"):
        return value
    ends = [radius(line.eps) for each in series for line in each.lines if radius(line.eps) != float("inf")]
    return 1.25 * max(ends, default=1.0)


def radius_ticks(series: Sequence[Series], inches: float) -> tuple[list[float], list[str]]:
    """A tick at 0 and every radius, in its exact text; texts for which there is no room are left out, smaller ones first."""
    texts = {place(line.eps, series): str(line.eps) for each in series for line in each.lines}
    ticks = [0.0, *sorted(texts)]
    texts[0.0] = "0"
    scale = inches / (ticks[-1] or 1.0)
    shown: list[float] = []
    for tick in [ticks[-1], 0.0, *reversed(ticks[1:-1])]:
        half = text_width(texts[tick], 7) / 2
        if all(abs(tick - o) * scale > half + text_width(texts[o], 7) / 2 + 0.07 for o in shown):
            shown.append(tick)
    return ticks, [texts[tick] if tick in shown else "" for tick in ticks]


def _model(series: Series) -> tuple[str, str]:
    return (series.first.cell.model, series.first.cell.model_hash)


def _short(series: Series, panel: Panel) -> str:
    """In a model's own panel, lines differ in defense."""
    return "no defense" if series.first.defense == "none" else series.first.defense
