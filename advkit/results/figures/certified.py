"""Certified accuracy over the radius."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from advkit.errors import InputError
from advkit.results.certificates import Certification
from advkit.results.figures._choice import NORMS
from advkit.results.figures._paper import COLUMN, STYLES, Style, check_suffix, paper, save, sheet, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["certified", "draw_certified"]


def draw_certified(found: Sequence[Certification], path: Path, dpi: int = 300) -> None:
    """Draw the curves into a .png, .svg or .pdf; the same certificates give the same bytes."""
    check_suffix(path)
    save(certified(found), path, dpi)


def certified(found: Sequence[Certification], width: float | None = None) -> Figure:
    """A curve for each, with its 95 % interval as a band; where single radii were asked for, a mark at each.

    Raises InputError for none, for more than there are styles, and for different norms.
    """
    from matplotlib.lines import Line2D

    if not found or any(not len(each) for each in found):
        raise InputError("there is nothing to draw: no example is certified yet.")
    if len({each.norm for each in found}) > 1 or len(found) > STYLES:
        raise InputError(
            f"one figure holds at most {STYLES} curves in one norm; there are {len(found)}, in "
            f"{', '.join(sorted({NORMS.get(each.norm, each.norm) for each in found}))}. Certify them apart."
        )
    looks = [style(number) for number in range(len(found))]
    with paper():
        key = [
            (Line2D([], [], color=look.color, linestyle=look.dash, marker=look.marker if each.asked else ""), name)
            for each, look, name in zip(found, looks, _names(found), strict=True)
        ]
        on = sheet(width or COLUMN, 2.1, _small_print(found), key=key)
        axes: Axes = on.subplots()
        ends = [_draw(axes, each, look) for each, look in zip(found, looks, strict=True)]
        norm = found[0].norm
        axes.set_xlim(0, 1.03 * max(ends) or 1.0)
        axes.set_ylim(-2, 102)
        axes.set_yticks((0, 25, 50, 75, 100))
        axes.set_xlabel(
            "side of the patch (pixels)" if norm == "patch" else f"radius ({NORMS[norm]}, pixels from 0 to 1)"
        )
        axes.set_ylabel("certified accuracy (%)")
        return on.figure


def _draw(axes: Axes, found: Certification, look: Style) -> float:
    """One curve; where it ends."""
    color, marker, dash = look
    if found.asked:
        shares = [found.accuracy_at(radius) for radius in found.asked]
        y = [100 * share.value for share in shares]
        room = [[100 * (s.value - s.low) for s in shares], [100 * (s.high - s.value) for s in shares]]
        axes.errorbar(found.asked, y, yerr=room, color=color, marker=marker, linestyle=dash, clip_on=False)
        return max(found.asked)
    radii, _ = found.steps()
    shares = [found.accuracy_at(float(radius)) for radius in radii]
    # Up to a radius, accuracy is what it is at that radius; behind the last there is none.
    x = [0.0, *map(float, radii[1:]), float(radii[-1])]
    none = found.accuracy_at(float("inf"))
    steps = [[100 * share[side] for share in [shares[0], *shares[1:], none]] for side in range(3)]
    axes.fill_between(x, steps[1], steps[2], step="pre", color=color, alpha=0.12, linewidth=0)
    axes.step(x, steps[0], where="pre", color=color, linestyle=dash)
    return float(radii[-1])


def _names(found: Sequence[Certification]) -> list[str]:
    """As short as tells the curves apart."""
    parts = [(each.model, each.weights, each.defense, each.settings) for each in found]
    varying = [place for place in range(4) if len({part[place] for part in parts}) > 1] or [0]
    return [", ".join(_short(part[place], parts, place) for place in varying) for part in parts]


def _short(text: str, parts: Sequence[tuple[str, ...]], place: int) -> str:
    """Of settings, what differs."""
    if place != 3 or "(" not in text:
        return text
    every = [part[place].partition("(")[2].rstrip(")").split(", ") for part in parts]
    own = text.partition("(")[2].rstrip(")").split(", ")
    kept = [word for word in own if any(word not in other for other in every)]
    names = {part[place].partition("(")[0] for part in parts}
    return " ".join(([text.partition("(")[0]] if len(names) > 1 else []) + kept) or text


def _small_print(found: Sequence[Certification]) -> str:
    counts = sorted({len(each) for each in found})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    data = ", ".join(dict.fromkeys(each.data for each in found))
    parts = [data, f"{n} examples", "bands: 95 % Wilson intervals"]
    if not all(each.complete for each in found):
        parts.append("not all examples are done yet")
    return "; ".join(parts) + "."
