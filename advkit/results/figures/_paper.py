"""The look that every kind shares: sizes, colours that the colour-blind tell apart, small print, and files without dates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advkit.atomic import write_whole
from advkit.errors import InputError

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure, FigureBase, SubFigure
    from matplotlib.font_manager import FontProperties
    from matplotlib.legend import Legend
    from matplotlib.text import Text

__all__ = [
    "COLUMN",
    "GREY",
    "PAGE",
    "STYLES",
    "Style",
    "apart",
    "check_suffix",
    "paper",
    "plain",
    "save",
    "sheet",
    "style",
    "text_width",
    "write",
]

COLUMN, PAGE = 3.4, 6.9  # inches: one column of a paper, and both
GREY = "0.45"
_NO_LETTER = r"Glyph .* missing from"
_SMALL = 6.5  # points
_DOTS = 288  # per inch, to measure texts with
_LINE = 0.125  # inches of a line of small print
_RULES = {
    "axes.axisbelow": True,
    "axes.edgecolor": "0.3",
    "axes.facecolor": "none",  # a watermark shows through
    "axes.grid": True,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 7.5,
    "errorbar.capsize": 1.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same widths everywhere
    "font.size": 7.5,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "advkit",
    "text.parse_math": False,  # class names are the user's: no mathematics in them
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
}


class Style(NamedTuple):
    """A colour, a marker and a dash: each alone tells lines apart, so grey print does too."""

    color: str
    marker: str
    dash: Any


# Okabe and Ito (2008), without the yellow that white paper swallows; grey in its place.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
STYLES = len(_COLORS)


def style(color: int, dash: int | None = None) -> Style:
    """The style of the line with this number; lines of one thing share its colour, and differ in dash."""
    return Style(
        _COLORS[color % STYLES],
        _MARKERS[color % STYLES],
        _DASHES[(color if dash is None else dash) % len(_DASHES)],
    )


@contextmanager
def paper() -> Iterator[None]:
    """Draw with these rules, whatever the user's matplotlibrc says."""
    from matplotlib import style as styles

    with styles.context(["default", _RULES]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NO_LETTER)  # told once, when the file is written
        yield


def plain(text: str, most: int = 40) -> str:
    """A name on one line, of printable letters, not too long."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def apart(names: Sequence[str], most: int = 40) -> list[str]:
    """The same for names that stand beside each other: cut where it leaves different names different, else numbered."""
    whole = [plain(name, 1000) for name in names]
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*whole, strict=False))
    common = len(list(columns)) if len(set(whole)) > 1 else 0
    behind = [f"…{name[common:]}" if common > 3 else name for name in whole]
    ways = [(cut, given) for given in (whole, behind) for cut in (plain, _middle)]
    for shown in ([cut(name, most) for name in given] for cut, given in ways):
        if len(set(shown)) == len(set(whole)):
            return shown
    numbers = {name: number for number, name in enumerate(dict.fromkeys(whole), 1)}
    return [plain(f"{numbers[name]}: {name}", most) for name in whole]


def _middle(text: str, most: int) -> str:
    """Cut in the middle."""
    kept = most - 1
    return text if len(text) <= most else f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"


def text_width(text: str, size: float) -> float:
    """Inches that a text of this many points takes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NO_LETTER)
        measure: Any = _measure()
        width, _, _ = measure.get_text_width_height_descent(text, _font(size), False)
    return float(width) / _DOTS


@cache
def _measure() -> RendererAgg:
    from matplotlib.backends.backend_agg import RendererAgg

    return RendererAgg(1, 1, _DOTS)  # type: ignore[no-untyped-call]


@cache
def _font(size: float) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family="DejaVu Sans", size=size)


def sheet(
    width: float,
    body: float,
    small_print: str,
    *,
    key: Sequence[tuple[Artist, str]] = (),
    made_up: bool = False,
) -> SubFigure:
    """An empty space ``body`` inches high, above a key and small print that are as high as they need."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, body), layout="constrained")
    FigureCanvasAgg(figure)
    lines = _wrapped(plain(small_print, 1000), 0.95 * width - 0.1)
    foot = _LINE * len(lines) + 0.04
    key_high = 0.0
    if key:
        legend = _key(figure, key, width)
        key_high = legend.get_window_extent().height / figure.dpi + 0.04
        legend.remove()
    height = body + key_high + foot
    figure.set_size_inches(width, height)
    parts: Any = figure.subfigures(2, 1, height_ratios=(body, key_high + foot))
    upper: SubFigure = parts[0]
    lower: SubFigure = parts[1]
    if key:
        _key(lower, key, width).set_in_layout(False)
    for number, line in enumerate(lines):
        y = (foot - _LINE * (number + 0.8)) / (key_high + foot)
        write(lower.text(0.05 / width, y, "", size=_SMALL, color=GREY, in_layout=False), line, 1000)
    if made_up:
        figure.text(
            0.5, 1 - body / 2 / height, "made up", size=min(10 * width, 20 * body), color="0.93", rotation=20,
            ha="center", va="center", zorder=-1, in_layout=False,
        )  # fmt: skip
    return upper


def _key(on: FigureBase, key: Sequence[tuple[Artist, str]], width: float) -> Legend:
    """The names of all marks, in as many columns as there is room for, as even as the rows allow."""
    widest = max(text_width(name, 7) for name in apart([name for _, name in key])) + 0.5
    columns = max(1, min(len(key), int(width / widest)))
    columns = -(-len(key) // -(-len(key) // columns))
    tallest = max(getattr(artist, "get_markersize", lambda: 0.0)() for artist, _ in key)
    legend = on.legend(
        [artist for artist, _ in key],
        ["name"] * len(key),  # a name that begins with _ would be left out
        loc="upper center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=columns,
        handlelength=2.4,
        handleheight=max(0.7, tallest / 7),
        columnspacing=1.2,
        labelspacing=0.3,
        borderaxespad=0.0,
        borderpad=0.1,
    )
    for text, name in zip(legend.get_texts(), apart([name for _, name in key]), strict=True):
        write(text, name)
    return legend


def _wrapped(text: str, inches: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_width(longer, _SMALL) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return [line for line in lines if line]


def write(text: Text, content: str, most: int = 40) -> Text:
    """Set a text that is the user's: no mathematics, no line breaks."""
    text.set_parse_math(False)
    text.set_text(plain(content, most))
    return text


def names_on(axes: Axes, side: str, names: Sequence[str], *, most: int = 26, **look: Any) -> None:
    """A tick at every whole number, with these names."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    axis.set_ticks(range(len(names)))
    axis.set_ticklabels(apart(names, most), parse_math=False, **look)


def check_suffix(path: Path) -> str:
    """The kind of file that a name asks for; refuses others than .png, .svg and .pdf."""
    kind = path.suffix.lstrip(".").lower()
    if kind not in ("pdf", "png", "svg"):
        raise InputError(f"a figure cannot be written as {path.name!r}; give a name that ends in .png, .svg or .pdf.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file for the figure.")
    return kind


def save(figure: Figure, path: Path, dpi: int = 300) -> None:
    """Write the figure: text stays text, fonts are embedded, and no date makes two files of one figure differ."""
    kind = check_suffix(path)
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[kind]
    with paper(), warnings.catch_warnings(record=True) as said:
        warnings.filterwarnings("always", _NO_LETTER)
        write_whole(path, partial(figure.savefig, format=kind, dpi=dpi, metadata=dates))
    if any(re.match(_NO_LETTER, str(warning.message)) for warning in said):
        warnings.warn(f"{path.name}: some letters of the names are not in matplotlib's font.", stacklevel=2)
