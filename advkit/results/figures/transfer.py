"""Whose adversarial examples beat whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from advkit.errors import InputError
from advkit.results.cell import Numbers
from advkit.results.figures._choice import Chosen, Series, made_up, norm
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._matrix import colour_bar, matrix
from advkit.results.figures._paper import COLUMN, PAGE, apart, sheet, text_width
from advkit.results.grid import WORST, Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["transfer"]


@KINDS.register("transfer")
def transfer(chosen: Chosen) -> Figure:
    """Accuracy of each model on adversarial examples made for another; on its own ones, the attack's accuracy."""
    replayed = _of_attack(chosen, [line for line in chosen.grid.lines if line.surrogate])
    if not replayed:
        raise InputError("no adversarial examples were replayed on other models; advkit sweep --transfer does that.")
    makers = list(dict.fromkeys(line.surrogate for line in replayed))
    models = list(dict.fromkeys(line.model for line in chosen.grid.lines))
    makers.sort(key=lambda maker: models.index(maker) if maker in models else len(models))
    by = {maker: chosen.worst_at([line for line in replayed if line.surrogate == maker]) for maker in makers}
    own = chosen.worst_at(_of_attack(chosen, [line for line in chosen.grid.lines if not line.surrogate]))
    eps = chosen.common_eps([each for group in by.values() for each in group])

    names = [name for name in chosen.names.values() if any(_base(s) == name for group in by.values() for s in group)]
    values = np.full((len(names), len(makers)), np.nan)
    lines: list[Line] = []
    outlined: list[tuple[int, int]] = []
    for row, name in enumerate(names):
        for column, maker in enumerate(makers):
            line = _at(by[maker], name, eps)
            white = _at(own, name, eps)
            if white is not None and white.model == maker:
                outlined.append((row, column))
                line = line or white
            if line is not None:
                values[row, column] = 100 * line.accuracy.value
                lines.append(line)
    return _drawn(chosen, values, names, makers, outlined, lines, eps)


def _drawn(
    chosen: Chosen,
    values: Numbers,
    names: list[str],
    makers: list[str],
    outlined: list[tuple[int, int]],
    lines: list[Line],
    eps: str,
) -> Figure:
    from matplotlib.patches import Rectangle

    left = max(text_width(name, 7) for name in apart(names, 26)) + 0.35
    deep = max(text_width(maker, 7) for maker in apart(makers, 22))
    width = chosen.width or (COLUMN if left + 0.28 * len(makers) + 0.6 < COLUMN else PAGE)
    cell = (width - left - 0.6) / len(makers)
    high = min(cell, 0.32) if cell > 0.15 else 0.15
    said = chosen.said(
        lines,
        _attacks_of(chosen, lines),
        "outlined: attacked directly" if outlined else "",
        "grey: not measured" if np.isnan(values).any() else "",
    )
    figure = sheet(
        width, max(1.0, high * len(names)) + (0.75 if cell > 0.3 else 1.0) * deep + 0.6, said, made_up=made_up(lines)
    )
    axes = figure.subplots()
    image = matrix(axes, values, names, makers, cell)
    for row, column in outlined:
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.2))
    axes.set_xlabel("adversarial examples made for")
    axes.set_ylabel("evaluated on")
    colour_bar(figure, image, [axes], f"accuracy at ε = {eps}, {norm(lines[0])} (%)")
    return figure.figure


def _attacks_of(chosen: Chosen, lines: list[Line]) -> str:
    """Under which attacks."""
    names = dict.fromkeys(name.partition(" via ")[0] for line in lines for name in line.over or (line.title,))
    return f"attack{'' if len(names) == 1 else 's'}: {', '.join(names)}"


def _of_attack(chosen: Chosen, lines: list[Line]) -> list[Line]:
    """Those of the attack that was asked for; all where it has none here."""
    if chosen.attack in (None, WORST):
        return lines
    return [line for line in lines if chosen.attack in (line.cell.attack, line.attack)] or lines


def _base(series: Series) -> str:
    return series.name.removesuffix(" †")


def _at(series: tuple[Series, ...], name: str, eps: str) -> Line | None:
    return next((each.at(eps) for each in series if _base(each) == name), None)
