"""Shares as a matrix of colours, with the numbers in it where they have room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from advkit.results.cell import Numbers
from advkit.results.figures._paper import names_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure
    from matplotlib.image import AxesImage

__all__ = ["colour_bar", "matrix"]


def matrix(axes: Axes, values: Numbers, rows: Sequence[str], columns: Sequence[str], cell: float) -> AxesImage:
    """Draw values (rows, columns) in percent, NaN where there is none; a cell is about ``cell`` inches wide."""
    import matplotlib as mpl

    colours = mpl.colormaps["cividis"].with_extremes(bad="0.9")
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=100, aspect="auto")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    names_on(axes, "y", rows)
    names_on(axes, "x", columns, most=22, rotation=45 if cell > 0.3 else 90, ha="right" if cell > 0.3 else "center",
             va="top", rotation_mode="anchor" if cell > 0.3 else "default")  # fmt: skip
    if cell < 0.2:
        return image
    for row, column in np.ndindex(values.shape):
        value = values[row, column]
        if np.isfinite(value):
            color = "white" if value < 55 else "black"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", size=6, color=color)
    return image


def colour_bar(figure: SubFigure, image: AxesImage, axes: Sequence[Axes], label: str) -> None:
    """The scale on the right, and above the matrix what it is of: the bar of a low matrix has no room for that."""
    bar = figure.colorbar(image, ax=list(axes), fraction=0.04, pad=0.015, aspect=25, ticks=(0, 50, 100))
    bar.outline.set_visible(False)
    axes[0].set_title(label, size=7, loc="left", pad=3)
    bar.ax.tick_params(length=0, labelsize=6.5)
