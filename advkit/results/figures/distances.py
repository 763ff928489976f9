"""At which distance examples fall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from advkit.errors import InputError
from advkit.results.cell import Numbers
from advkit.results.figures._choice import Chosen, Series, made_up, radius, unit
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._panels import by_model, tiles
from advkit.results.figures._paper import STYLES, Style
from advkit.results.grid import WORST, Line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["distances", "smallest"]


@KINDS.register("distances")
def distances(chosen: Chosen) -> Figure:
    """Of the examples that are right without attack, the share that was beaten within a distance."""
    series = chosen.reaching(chosen.worst)
    found = {id(each): smallest(_under(chosen, each)) for each in series}
    if not any(len(values) for values in found.values()):
        raise InputError("no example is right without attack, so there are no distances to draw.")
    lines = [line for each in series for line in each.lines]
    named = [replace(each, name=f"{each.name} (n = {len(found[id(each)])})") for each in series]
    values = {each.name: found[id(old)] for each, old in zip(named, series, strict=True)}
    mark = 2.5 if len(named) > 2 * STYLES else 3.5
    end = max(radius(line.eps) for line in lines if radius(line.eps) != float("inf"))

    def draw(axes: Axes, each: Series, look: Style | None) -> None:
        x, y = _steps(values[each.name], 1.03 * end)
        if look is None:
            axes.plot(x, y, color="0.85", linewidth=0.6, drawstyle="steps-post", zorder=1)
            return
        axes.plot(
            x, y, color=look.color, linestyle=look.dash, drawstyle="steps-post", zorder=3,
            marker=look.marker, markersize=mark, markevery=slice(1, len(x) - 1, max(1, len(x) // 8)), clip_on=False,
        )  # fmt: skip

    return tiles(
        by_model(named),
        draw,
        chosen.said(lines, chosen.met(), "of the examples that are right without attack"),
        labels=(f"smallest distance found ({unit(lines[0])})", "beaten (%)"),
        width=chosen.width,
        made_up=made_up(lines),
    )


def smallest(lines: Sequence[Line]) -> Numbers:
    """For each example that is right without attack, the smallest distance at which it was beaten; inf where it was not."""
    best: dict[int, float] = {}
    for line in lines:
        right = line.clean
        distance = np.full(line.n, np.nan) if line.distance is None else line.distance
        # A stage before this one may have beaten it: then only the radius is known.
        beaten = np.where(np.isfinite(distance), distance, np.where(line.stands, np.inf, radius(line.eps)))
        for index, value in zip(line.index[right].tolist(), beaten[right].tolist(), strict=True):
            best[index] = min(value, best.get(index, np.inf))
    return np.sort(np.array([best[index] for index in sorted(best)]))


def _under(chosen: Chosen, series: Series) -> list[Line]:
    """The lines of attacks whose distances count."""
    if series.attack != WORST:
        return list(series.lines)
    first, most = series.first, radius(series.lines[-1].eps)
    return [
        line
        for line in chosen.grid.lines
        if (line.cell.setting, line.cell.threat, line.cell.precision)
        == (first.cell.setting, first.cell.threat, first.cell.precision)
        and radius(line.eps) <= most
    ]


def _steps(values: Numbers, end: float) -> tuple[Numbers, Numbers]:
    """The share of values up to x, at 0, at every value and at the end."""
    at, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    share = 100 * np.cumsum(counts) / max(1, len(values))
    last = share[-1] if len(share) else 0.0
    return np.array([0.0, *at, max(end, *at, 0.0)]), np.array([0.0, *share, last])
