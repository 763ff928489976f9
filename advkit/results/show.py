"""Pictures of one evaluation: examples with their changes, curves per step, distances, and what is taken for what."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from advkit.errors import InputError
from advkit.results.figures import check_suffix
from advkit.results.figures._paper import COLUMN, PAGE, STYLES, names_on, paper, plain, save, sheet, style, text_width
from advkit.results.outcome import Evaluation, Outcome, with_defense

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["Curve", "Shown", "confusion", "curves", "distances", "factor_of", "grid", "title_of"]

_RIGHT, _WRONG = "#009E73", "#D55E00"
_ACROSS = 2  # examples beside each other in a grid
_MOST_CLASSES = 45
_BINS = 40
_WHOLE = 5  # from here on, changes are amplified a whole number of times
_GAP = 0.14  # inches between examples
_LETTERS = 19  # of a line below a picture
_SMALL = 6.5  # points
_CELL = 0.16  # inches of a class in a confusion

Numbers = npt.NDArray[Any]


@dataclass(frozen=True)
class Shown:
    """An example of a grid: pictures (1 or 3, H, W) in [0, 1], and what the model says of each, with its confidence."""

    index: int
    label: str
    x: Tensor
    x_adv: Tensor
    clean: tuple[str, float]
    adversarial: tuple[str, float]
    success: bool
    distance: float


@dataclass(frozen=True)
class Curve:
    """What an attack saw of an example at each of its steps; ``branch`` counts its restarts and targets."""

    index: int
    label: str
    step: Numbers
    branch: Numbers
    loss: Numbers
    margin: Numbers
    success: bool


def title_of(result: Evaluation) -> str:
    """Of what a picture is; of a model in a file, the file's name without its folder."""
    return (
        f"{result.model.rpartition('/')[2]} (weights {result.weights}){with_defense(result.defense)} on {result.data}"
    )


def factor_of(examples: Sequence[Shown]) -> float:
    """By how much changes may be amplified so that the largest of them fills the range of a pixel: 15, 1.6, at least 1."""
    largest = max(float((each.x_adv - each.x).abs().max()) for each in examples)
    most = 0.5 / largest + 1e-6 if largest > 0 else 1.0
    return max(1.0, float(int(most)) if most >= _WHOLE else int(10 * most) / 10)


def grid(path: Path, examples: Sequence[Shown], title: str, *, dpi: int = 200) -> float:
    """Draw each example's clean picture, its change amplified and its adversarial picture; says how far it is amplified."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_suffix(path)
    if not examples:
        raise InputError(
            "there is nothing to show: no example was attacked, since the model is wrong on all without it."
        )
    factor = factor_of(examples)
    across = min(_ACROSS, len(examples))
    down = -(-len(examples) // across)
    block = PAGE / _ACROSS
    side, between, head = (block - _GAP) / 3 - 0.08, 0.47, 0.16
    width = block * across
    heading = (
        f"{title}. Changes are amplified {factor:g} times, grey is none. Framed: what the model sees right (green) and wrong "
        "(orange, dashed), with its confidence."
    )
    lines = _wrapped(heading, width - 0.1)
    top = 0.13 * len(lines) + 0.1 + head
    high = top + down * (side + between) + 0.02
    with paper():
        figure = Figure(figsize=(width, high))
        FigureCanvasAgg(figure)
        figure.text(0.05 / width, 1 - 0.05 / high, "\n".join(lines), va="top", size=7, linespacing=1.25)
        for number, each in enumerate(examples):
            row, column = divmod(number, across)
            wrong = (_WRONG, "--")
            parts = (
                ("clean", each.x, _answer(each.clean), (_RIGHT, "-") if each.clean[0] == each.label else wrong),
                (
                    "change",
                    0.5 + factor * (each.x_adv - each.x),
                    ["at a distance", f"of {each.distance:.3g}"],
                    ("0.75", "-"),
                ),
                ("adversarial", each.x_adv, _answer(each.adversarial), wrong if each.success else (_RIGHT, "-")),
            )
            for place, (name, picture, below, frame) in enumerate(parts):
                left = column * block + place * (block - _GAP) / 3 + 0.05
                bottom = high - top - row * (side + between) - side
                axes = figure.add_axes((left / width, bottom / high, side / width, side / high))
                _picture(axes, picture, *frame)
                axes.set_xlabel("\n".join(below), size=_SMALL, labelpad=2.5, linespacing=1.1, color="black")
                if row == 0:
                    axes.set_title(name, size=7, pad=3)
    save(figure, path, dpi)
    return factor


def _answer(said: tuple[str, float]) -> list[str]:
    """A class in at most two lines, and the confidence."""
    words = textwrap.wrap(plain(said[0], 34), _LETTERS)
    return [*words[:2], f"{100 * said[1]:.0f} %"]


def _picture(axes: Axes, picture: Tensor, colour: str, dash: Any) -> None:
    values = picture.detach().float().cpu().clamp(0, 1)
    shown = values.expand(3, -1, -1) if len(values) == 1 else values
    axes.imshow(shown.permute(1, 2, 0).numpy(), interpolation="nearest", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(colour)
        spine.set_linestyle(dash)
        spine.set_linewidth(1.6)


def _wrapped(text: str, inches: float) -> list[str]:
    lines = [""]
    for word in plain(text, 1000).split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, 7) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def curves(path: Path, found: Sequence[Curve], title: str, loss: str, *, dpi: int = 300) -> None:
    """Draw loss and margin of each example over the steps: a break is a restart or another target."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    check_suffix(path)
    if not found:
        raise InputError("there are no curves to draw: no example was attacked.")
    shown = found[: STYLES * 3]
    many = len(shown) > STYLES
    with paper():
        key: list[tuple[Artist, str]] = []
        for number, each in enumerate(shown):
            look = style(number)
            name = f"{each.index}: {each.label}{'' if each.success else ' (stands)'}"
            key.append((Line2D([], [], color=look.color, linestyle=look.dash, marker=look.marker), plain(name, 34)))
        said = f"{title}. Margin: by how much the goal is overreached, in logits; above 0 the example is beaten."
        figure = sheet(PAGE, 2.3, said, key=key)
        left, right = figure.subplots(1, 2)
        for number, each in enumerate(shown):
            look = style(number)
            for axes, values in ((left, each.loss), (right, each.margin)):
                x, y = _broken(each.step, each.branch, values)
                axes.plot(
                    x, y, color=look.color, linestyle=look.dash, linewidth=0.8 if many else 1.1, marker=look.marker,
                    markersize=3, markevery=[len(x) - 1], zorder=3,
                )  # fmt: skip
        right.axhline(0, color="0.3", linewidth=0.7, zorder=1)
        left.set_ylabel(f"loss ({plain(loss.removesuffix('()'), 40)})")
        right.set_ylabel("margin")
        last = max(int(each.step.max()) for each in shown)
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.set_xlim(-0.02 * max(last, 1), 1.03 * max(last, 1))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    save(figure.figure, path, dpi)


def _broken(step: Numbers, branch: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
    """The points with a gap where another branch begins."""
    places = np.flatnonzero(np.diff(branch)) + 1
    return np.insert(step.astype(float), places, np.nan), np.insert(values.astype(float), places, np.nan)


def distances(path: Path, result: Evaluation, *, dpi: int = 300) -> None:
    """Draw at which distances each attack ended, of examples that it beat and of those that stand; radius and median marked."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    check_suffix(path)
    chosen = [each for each in result.outcomes if bool(each.attacked.any())]
    if not chosen:
        raise InputError("there are no distances to draw: no example was attacked.")
    across = min(3, len(chosen))
    down = -(-len(chosen) // across)
    width = COLUMN if len(chosen) == 1 else PAGE
    most = max((float(each.threat.eps) for each in chosen if np.isfinite(each.threat.eps)), default=0.0)
    reached = max(float(each.distance[each.attacked].max()) for each in chosen)
    end = max(most, reached) * 1.06 or 1.0
    edges = np.linspace(0, end, _BINS + 1)
    with paper():
        key: list[tuple[Artist, str]] = [
            (Patch(facecolor=_WRONG, edgecolor="black", linewidth=0.4), "beaten"),
            (Patch(facecolor="white", edgecolor="0.35", hatch="////", linewidth=0.4), "stands"),
            (Line2D([], [], color="black", linestyle="-"), "radius"),
            (Line2D([], [], color="#0072B2", linestyle=(0, (1, 1)), linewidth=1.8), "median of the beaten"),
        ]
        norm = {"linf": "Linf", "l2": "L2", "l1": "L1", "l0": "L0"}.get(result.norm, result.norm)
        said = f"{_title(result)}. Distances in {norm}, measured in float64, values from 0 to 1."
        figure = sheet(width, (1.9 if down == 1 else 1.5) * down + 0.15, said, key=key)
        axes = list(figure.subplots(down, across, squeeze=False, sharex=True).flat)
        for axis, each in zip(axes, chosen, strict=False):
            _histogram(axis, each, edges)
        for axis in axes[len(chosen) :]:
            axis.set_visible(False)
        for number, axis in enumerate(axes[: len(chosen)]):
            axis.set_xlim(0, end)
            if number + across >= len(chosen):
                axis.tick_params(labelbottom=True)
        figure.supxlabel("distance from the clean picture", size=7.5)
        figure.supylabel("examples", size=7.5)
    save(figure.figure, path, dpi)


def _histogram(axes: Axes, outcome: Outcome, edges: Numbers) -> None:
    from matplotlib.ticker import MaxNLocator

    distance = outcome.distance.numpy().clip(edges[0], edges[-1])
    won = (outcome.attacked & outcome.success).numpy()
    stands = (outcome.attacked & ~outcome.success).numpy()
    parts = [distance[won], distance[stands]]
    drawn: Any
    _, _, drawn = axes.hist(parts, bins=list(edges), stacked=True, color=[_WRONG, "white"], zorder=2)
    for bars, edge, hatch in zip(drawn, ("black", "0.35"), ("", "////"), strict=True):
        for bar in bars:
            bar.set_edgecolor(edge)
            bar.set_linewidth(0.4 if bar.get_height() else 0)
            bar.set_hatch(hatch if bar.get_height() else "")
    if np.isfinite(outcome.threat.eps):
        axes.axvline(float(outcome.threat.eps), color="black", linewidth=1.0, zorder=3)
    if won.any():
        axes.axvline(float(np.median(distance[won])), color="#0072B2", linestyle=(0, (1, 1)), linewidth=1.8, zorder=4)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_title(
        f"{plain(outcome.name, 24)} at {outcome.threat.eps.exact}: {int(won.sum())} of {int(won.sum() + stands.sum())}",
        size=7, loc="left", pad=3,
    )  # fmt: skip


def confusion(path: Path, result: Evaluation, outcome: Outcome, *, dpi: int = 300) -> None:
    """Draw what the model says of adversarial pictures (columns) against what it said of the clean ones (rows), in counts."""
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    check_suffix(path)
    if not bool(outcome.attacked.any()):
        raise InputError("there is no confusion to draw: no example was attacked.")
    before, after = result.clean[outcome.attacked].numpy(), outcome.prediction[outcome.attacked].numpy()
    rows = columns = _frequent(np.concatenate([before, after]))
    values = np.zeros((len(rows), len(columns)), int)
    for one, other in zip(before.tolist(), after.tolist(), strict=True):
        values[_place(rows, one), _place(columns, other)] += 1
    names = [[_name(result, k) for k in side] for side in (rows, columns)]
    left = max(text_width(plain(name, 26), 7) for name in names[0]) + 0.35
    wide = [text_width(plain(name, 22), 7) for name in names[1]]
    width = min(max(COLUMN, left + _CELL * len(columns) + 0.75), PAGE)
    cell = (width - left - 0.75) / len(columns)
    level = max(wide) < cell - 0.05
    deep = 0.1 if level else max(wide) * (0.75 if cell > 0.3 else 1)
    body = max(1.0, min(_CELL, max(cell, 0.13)) * len(rows)) + deep + 0.55
    with paper():
        kept = int((before == after).sum())
        said = (
            f"{_title(result)}, {plain(outcome.name)} at {outcome.threat.label}. Of {len(before)} examples that were attacked "
            f"{kept} keep their answer (framed)."
        )
        figure = sheet(width, body, said)
        axes = figure.subplots()
        image = _counts(axes, values, names[0], names[1], cell, level)
        for row, label in enumerate(rows):
            if label >= 0:
                place = (row - 0.5, row - 0.5)
                axes.add_patch(Rectangle(place, 1, 1, fill=False, edgecolor=_WRONG, linewidth=0.9, clip_on=False))
        axes.set_ylabel("answer on the clean picture")
        axes.set_xlabel("answer on the adversarial picture")
        bar: Any = figure.colorbar(image, ax=axes, fraction=0.05, pad=0.02, aspect=25)
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0, labelsize=_SMALL)
        bar.locator = MaxNLocator(integer=True)
        bar.update_ticks()
        bar.set_label("examples", size=7)
    save(figure.figure, path, dpi)


def _counts(
    axes: Axes, values: Numbers, rows: Sequence[str], columns: Sequence[str], cell: float, level: bool
) -> AxesImage:
    import matplotlib as mpl

    colours = mpl.colormaps["cividis"].with_extremes(bad="0.95")
    most = int(values.max())
    image = axes.imshow(np.ma.masked_equal(values, 0), cmap=colours, vmin=0, vmax=most, aspect="auto")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    names_on(axes, "y", rows)
    slanted = not level and cell > 0.3
    names_on(axes, "x", columns, most=22, rotation=0 if level else 45 if slanted else 90, va="top",
             ha="right" if slanted else "center", rotation_mode="anchor" if slanted else "default")  # fmt: skip
    if cell < 0.1:
        return image
    for row, column in zip(*np.nonzero(values), strict=True):
        value = int(values[row, column])
        axes.text(
            column, row, str(value), ha="center", va="center", size=5 if cell < 0.2 else 6,
            color="white" if value < 0.55 * most else "black",
        )  # fmt: skip
    return image


def _frequent(answers: Numbers) -> list[int]:
    """The classes that occur, in order; of very many the most frequent, and -1 for all others."""
    found, counts = np.unique(answers, return_counts=True)
    if len(found) <= _MOST_CLASSES:
        return [int(k) for k in found]
    kept = found[np.argsort(-counts, kind="stable")[:_MOST_CLASSES]]
    return [*sorted(int(k) for k in kept), -1]


def _place(classes: Sequence[int], label: int) -> int:
    return classes.index(label) if label in classes else len(classes) - 1


def _name(result: Evaluation, label: int) -> str:
    return "all others" if label < 0 else result.name_of(label)


def _title(result: Evaluation) -> str:
    return f"{title_of(result)}, n = {len(result)}"
