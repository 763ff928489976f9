"""Pictures of a sticker at work: contact sheet, heat map over distance and angle, animated approach.

What a model reads right has a green frame and a tick, what it misreads a red one and a cross, and what it reads as the
target of the attack a dark red one and a star: no colour is needed to tell.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from advkit.atomic import write_whole
from advkit.errors import InputError
from advkit.results.figures import check_suffix
from advkit.results.figures._paper import GREY, PAGE, paper, plain, save

if TYPE_CHECKING:
    from PIL import Image as Images
    from torch import Tensor

__all__ = ["Frame", "Spot", "Verdict", "approach", "check_gif", "contact_sheet", "heat_map", "spots"]

Verdict = Literal["right", "misread", "target"]
_COLOURS = {"right": "#009E73", "misread": "#D55E00", "target": "#7A0019", None: "0.75"}
_MARKS = {"right": "✓ ", "misread": "✗ ", "target": "★ ", None: ""}
_MEANINGS: dict[Verdict, str] = {"right": "read right", "misread": "misread", "target": "read as the target"}
_BETWEEN, _HEADING = 0.4, 0.24  # inches
_MOST_FRAMES = 300  # of a GIF
_LETTER = 0.055  # inches
_FPS = 50  # what a GIF's clock can say

Values = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Frame:
    """A picture (3 or 4, h, w) in [0, 1], what stands above it, what a model reads, and whether that is right.

    ``verdict`` is None where no model was asked. ``group`` begins a new row of a contact sheet under this heading.
    """

    picture: Tensor
    title: str = ""
    answer: str = ""
    confidence: float | None = None
    verdict: Verdict | None = None
    group: str = ""

    @property
    def colour(self) -> str:
        """Of the frame."""
        return _COLOURS[self.verdict]

    def said(self, letters: int = 60) -> str:
        """The answer with its mark and confidence, in so many letters."""
        if not self.answer:
            return ""
        sure = "" if self.confidence is None else f" {100 * self.confidence:.0f} %"
        mark = _MARKS[self.verdict]
        return f"{mark}{plain(self.answer, max(letters - len(mark) - len(sure), 4))}{sure}"


def contact_sheet(path: Path, frames: Sequence[Frame], *, heading: str = "", columns: int = 6, dpi: int = 200) -> None:
    """Draw pictures in rows, each with what a model reads; a frame with a new ``group`` begins a row (.png, .svg, .pdf)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_suffix(path)
    if not frames:
        raise InputError("there is nothing to draw: no picture was given.")
    rows = _rows(frames, columns)
    wide = max(max(len(row) for _, row in rows), 3)
    width = max(PAGE * wide / columns, 3.4)
    side = width / wide
    room = side - 0.34  # inches of a picture
    known = {frame.verdict for frame in frames}
    key = "   ".join(f"{_MARKS[which]}{text}" for which, text in _MEANINGS.items() if which in known)
    lines = [*textwrap.wrap(plain(heading, 1000), int(width / _LETTER)), *([key] if key else [])]
    top = 0.14 * len(lines) + 0.08
    heights = [room + _BETWEEN + (_HEADING if group else 0.0) for group, _ in rows]
    with paper():
        figure = Figure(figsize=(width, top + sum(heights)))
        FigureCanvasAgg(figure)
        high = figure.get_figheight()
        figure.text(0.05 / width, 1 - 0.04 / high, "\n".join(lines), va="top", size=7, linespacing=1.2)
        y = top
        for (group, row), height in zip(rows, heights, strict=True):
            below = y + height - room - _BETWEEN
            if group:
                figure.text(0.05 / width, 1 - (below - 0.07) / high, plain(group, 120), size=7.5, weight="bold")
            for place, frame in enumerate(row):
                left = place * side + (side - room) / 2
                box = (left / width, 1 - (below + 0.17 + room) / high, room / width, room / high)
                _show(figure.add_axes(box), frame, int(side / _LETTER))
            y += height
    save(figure, path, dpi)


def _rows(frames: Sequence[Frame], columns: int) -> list[tuple[str, list[Frame]]]:
    """Rows with their headings: a new group begins a row and has one."""
    rows: list[tuple[str, list[Frame]]] = []
    group = ""
    for frame in frames:
        new = frame.group not in ("", group)
        if new or not rows or len(rows[-1][1]) == columns:
            rows.append((frame.group if new else "", []))
        group = frame.group or group
        rows[-1][1].append(frame)
    return rows


def _show(axes: Any, frame: Frame, letters: int) -> None:
    values = _levels(frame.picture)
    axes.imshow(values, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(frame.colour)
        spine.set_linewidth(0.8 if frame.verdict is None else 2.2)
    axes.set_title(plain(frame.title, letters), size=6.5, pad=3, color="black")
    axes.set_xlabel(frame.said(int(1.15 * letters)), size=6, labelpad=3, color="black")


def _levels(picture: Tensor) -> npt.NDArray[np.uint8]:
    """(h, w, 3) in 8 bits; what a picture with coverage does not cover is light grey."""
    values = picture.detach().float().cpu().clamp(0, 1)
    if values.shape[0] == 4:
        values = values[:3] * values[3:] + 0.88 * (1 - values[3:])
    if values.shape[0] == 1:
        values = values.expand(3, -1, -1)
    found: npt.NDArray[np.uint8] = (values * 255).round().byte().permute(1, 2, 0).numpy()
    return found


@dataclass(frozen=True)
class Spot:
    """How often something happened at a distance in m and a yaw in degrees: a share of n, or nothing where n is 0."""

    distance: float
    yaw: float
    share: float | None
    n: int
    pixels: float | None = None  # of the sign on the sensor


def spots(rows: Iterable[Mapping[str, Any]], look: str = "printed", kind: str = "targeted") -> list[Spot]:
    """The spots of the ``rows`` of ``advkit drive --format json``: of which look, and which kind of success."""
    found = []
    for row in rows:
        told = row[look]
        success = told[kind]
        if success is None:
            raise InputError(f"nothing is aimed at, so there is no {kind} success; draw the untargeted one.")
        spot = Spot(row["distance_m"], row["yaw_deg"], success["value"], told["of"], row["sign_px"])
        found.append(spot)
    return found


def heat_map(path: Path, found: Sequence[Spot], *, title: str = "", small_print: str = "", dpi: int = 300) -> None:
    """Draw a share over distance and yaw: a cell for each that was measured, with its number and of how many it is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_suffix(path)
    if not found:
        raise InputError("there is nothing to draw: nothing was measured at any distance.")
    distances = sorted({spot.distance for spot in found})
    yaws = sorted({spot.yaw for spot in found})
    values = np.full((len(yaws), len(distances)), np.nan)
    for spot in found:
        if spot.share is not None:
            values[yaws.index(spot.yaw), distances.index(spot.distance)] = 100 * spot.share
    width, body = max(3.4, 0.46 * len(distances) + 1.5), 0.36 * len(yaws) + 0.75
    lines = textwrap.wrap(plain(small_print, 1000), int(width / 0.055)) if small_print else []
    with paper():
        figure = Figure(figsize=(width, body + 0.12 * len(lines) + 0.1), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        drawn = axes.imshow(values, cmap="viridis", vmin=0, vmax=100, aspect="auto", origin="lower")
        axes.grid(False)
        axes.set_facecolor("0.93")
        for spot in found:
            place = distances.index(spot.distance), yaws.index(spot.yaw)
            share = spot.share
            ink = GREY if share is None else "white" if share < 0.6 else "black"
            said = "-" if share is None else f"{100 * share:.0f}"
            # A share of two views must not look like one of forty.
            axes.text(*place, said, ha="center", va="bottom", size=6.5, color=ink)
            axes.text(*place, f"of {spot.n}", ha="center", va="top", size=4.5, color=ink)
        sizes = {
            spot.distance: spot.pixels for spot in found if spot.pixels is not None and spot.yaw == min(yaws, key=abs)
        }
        axes.set_xticks(range(len(distances)), [_at(distance, sizes) for distance in distances])
        axes.set_yticks(range(len(yaws)), [f"{yaw:g}" for yaw in yaws])
        axes.set_xlabel("distance (m)" + (", below it the sign's pixels on the sensor" if sizes else ""))
        axes.set_ylabel("yaw (degrees)")
        if title:
            axes.set_title(plain(title, 120))
        bar = figure.colorbar(drawn, ax=axes, pad=0.02, fraction=0.05)
        bar.set_label("success (%)")
        bar.ax.grid(False)
        if lines:
            figure.supxlabel("\n".join(lines), x=0.01, ha="left", size=6.5, color=GREY)
    save(figure, path, dpi)


def _at(distance: float, sizes: Mapping[float, float | None]) -> str:
    pixels = sizes.get(distance)
    return f"{distance:.3g}" if pixels is None else f"{distance:.3g}\n{pixels:.0f}"


def check_gif(path: Path) -> None:
    """Refuse a name that is not a .gif."""
    if path.suffix.lower() != ".gif" or path.is_dir():
        raise InputError(f"an animation cannot be written as {path.name!r}; give a name that ends in .gif.")


def approach(path: Path, frames: Sequence[Frame], *, fps: float = 10.0, side: int = 320) -> None:
    """Write a drive-by as an animated GIF: each frame with its title (the distance) and what the model reads written in.

    A strip below has a mark for each frame so far, in the colour of its answer. Of more than 300 frames,
    or 50 a second, every so-manieth is shown, and the time kept.
    """
    check_gif(path)
    if not frames:
        raise InputError("there is nothing to draw: the drive-by has no frame.")
    if not fps > 0:
        raise InputError(f"fps is {fps:g}; give frames a second, above 0.")
    step = max(math.ceil(len(frames) / _MOST_FRAMES), math.ceil(fps / _FPS))
    shown = range(0, len(frames), step)
    pages = [_page(frames, number, side) for number in shown]
    ticks = [round(100 * step * place / fps) for place in range(len(pages) + 1)]
    lasting = [10 * max(2, later - earlier) for earlier, later in pairwise(ticks)]
    first, *others = pages

    def write(beside: Path) -> None:
        first.save(beside, format="GIF", save_all=True, append_images=others, duration=lasting, loop=0, disposal=1)

    write_whole(path, write)


def _page(frames: Sequence[Frame], number: int, side: int) -> Images.Image:
    from PIL import Image, ImageDraw

    frame = frames[number]
    edge, foot, line = max(4, side // 50), max(side // 16, 12), max(side // 14, 9)
    page = Image.new("RGB", (side + 2 * edge, side + 2 * edge + 2 * line + foot), "white")
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, side + 2 * edge - 1, side + 2 * edge - 1), fill=_rgb(frame.colour))
    picture = Image.fromarray(_levels(frame.picture))
    page.paste(picture.resize((side, side), Image.Resampling.NEAREST), (edge, edge))
    y = side + 2 * edge + 2
    for text, place in ((frame.title, 0), (frame.said(34), 1)):
        draw.text((edge, y + place * line), plain(text, 60), fill="black", font=_font(int(line * 0.75)))
    y += 2 * line
    for past in range(number + 1):
        left, right = (edge + side * (past + more) / len(frames) for more in (0, 1))
        draw.rectangle(
            (round(left), y, max(round(left), round(right) - 1), y + foot - 6), fill=_rgb(frames[past].colour)
        )
    draw.rectangle((edge - 1, y - 1, edge + side, y + foot - 5), outline="gray")
    return page.quantize(128, dither=Image.Dither.NONE)


def _rgb(colour: str) -> tuple[int, int, int]:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(colour)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(size: int) -> Any:
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
