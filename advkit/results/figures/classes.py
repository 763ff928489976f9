"""Which classes fall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from advkit.results.cell import Numbers
from advkit.results.figures._choice import Chosen, made_up, norm
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._matrix import colour_bar, matrix
from advkit.results.figures._paper import COLUMN, PAGE, apart, sheet, text_width
from advkit.results.grid import Line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["classes", "per_class"]

_MOST = 60  # classes that a figure shows
_NARROWEST = 0.135  # inches of a column


@KINDS.register("classes")
def classes(chosen: Chosen) -> Figure:
    """Robust accuracy of each class at one radius; of very many classes, those that fall most."""
    eps = chosen.common_eps(chosen.worst)
    found = chosen.at(eps, chosen.worst)
    names, lines = [each.name for each, _ in found], [line for _, line in found]
    labels = np.unique(np.concatenate([line.labels for line in lines]))
    values, counts = per_class(lines, labels)
    more = []
    if len(labels) > _MOST:
        hardest = np.sort(np.argsort(np.nanmean(values, axis=0), kind="stable")[:_MOST])
        more.append(f"the {_MOST} of {len(labels)} classes with the lowest mean")
        labels, values, counts = labels[hardest], values[:, hardest], counts[:, hardest]
    known = lines[0].classes
    heads = [known[label] if label < len(known) else str(label) for label in labels.tolist()]
    few, many = int(counts.min()), int(counts.max())
    more.append(f"n = {few} per class" if few == many else f"n = {few} to {many} per class")
    said = chosen.said(lines, chosen.met(), *more)

    left = max(text_width(name, 7) for name in apart(names, 26)) + 0.15
    deep = max(text_width(head, 7) for head in apart(heads, 22))
    width = chosen.width or (COLUMN if left + 0.26 * len(labels) + 0.6 < COLUMN else PAGE)
    fit = max(4, int((width - left - 0.6) / _NARROWEST))
    blocks = -(-len(labels) // fit)
    step = -(-len(labels) // blocks)
    cell = (width - left - 0.6) / step
    high = max(0.15, min(0.22, 8 / len(names)))
    deep = deep * 0.75 if cell > 0.3 else deep
    body = blocks * (max(0.3, high * len(names)) + deep + 0.15) + 0.2
    figure = sheet(width, body, said, made_up=made_up(lines))
    axes = list(figure.subplots(blocks, 1, squeeze=False)[:, 0])
    image = None
    for number, axis in enumerate(axes):
        part = slice(number * step, (number + 1) * step)
        image = matrix(axis, values[:, part], names, heads[part], cell)
        axis.set_xlim(-0.5, step - 0.5)  # a shorter last block has cells of the same width
    assert image is not None
    colour_bar(figure, image, axes, f"accuracy at ε = {eps}, {norm(lines[0])} (%)")
    return figure.figure


def per_class(lines: Sequence[Line], labels: Numbers) -> tuple[Numbers, Numbers]:
    """The accuracy in percent of each line (row) on each class (column), NaN where it has none; and of how many."""
    values = np.full((len(lines), len(labels)), np.nan)
    counts = np.zeros((len(lines), len(labels)), np.int64)
    for row, line in enumerate(lines):
        for column, label in enumerate(labels):
            of = line.labels == label
            counts[row, column] = of.sum()
            if of.any():
                values[row, column] = 100 * line.stands[of].mean()
    return values, counts
