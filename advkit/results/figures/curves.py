"""Accuracy over the radius."""

from __future__ import annotations

from typing import TYPE_CHECKING

from advkit.results.figures._choice import Chosen, Series, made_up, unit
from advkit.results.figures._kinds import KINDS
from advkit.results.figures._panels import Panel, by_model, place, styles, tiles
from advkit.results.figures._paper import STYLES, Style, style
from advkit.results.grid import WORST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]


@KINDS.register("curves")
def curves(chosen: Chosen) -> Figure:
    """Accuracy over the radius, with its 95 % interval as a band; radius 0 is the clean accuracy."""
    panels = _panels(chosen)
    mark = 2.5 if len(panels) > 8 else 3.5
    series = [each for panel in panels for each, _ in panel.series]
    lines = [line for each in series for line in each.lines]

    def draw(axes: Axes, each: Series, look: Style | None) -> None:
        shares = [each.first.clean_accuracy, *(line.accuracy for line in each.lines)]
        x = [0.0, *(place(line.eps, series) for line in each.lines)]
        y = [100 * share.value for share in shares]
        if look is None:
            axes.plot(x, y, color="0.85", linewidth=0.6, zorder=1)
            return
        low, high = ([100 * share[side] for share in shares] for side in (1, 2))
        axes.fill_between(x, low, high, color=look.color, alpha=0.12, linewidth=0, zorder=2)
        axes.plot(
            x, y, color=look.color, marker=look.marker, linestyle=look.dash, markersize=mark, zorder=3, clip_on=False
        )

    several = len({each.attack for each in series}) > 1
    met = chosen.met() if not several or any(each.attack == WORST for each in series) else ""
    return tiles(
        panels,
        draw,
        chosen.said(lines, met, "bands: 95 % Wilson intervals"),
        labels=(f"radius ε ({unit(lines[0])})", "accuracy (%)"),
        width=chosen.width,
        made_up=made_up(lines),
    )


def _panels(chosen: Chosen) -> list[Panel]:
    """A panel for each attack and the worst case; where the models are too many for that, one for each model."""
    worst = chosen.reaching(chosen.worst)
    if chosen.attack is not None or len(chosen.attacks) <= 1 or len(worst) > STYLES:
        return by_model(worst)
    groups = [*(chosen.reaching(chosen.under(attack)) for attack in chosen.attacks), worst]
    if len(worst) == 1 and len(groups) <= STYLES and all(len(group) == 1 for group in groups):
        named = [Series(group[0].attack, group[0].attack, group[0].lines) for group in groups]
        looks = [*(style(number) for number in range(len(named) - 1)), Style("#000000", "X", "-")]
        return [Panel(worst[0].name, tuple(zip(named, looks, strict=True)))]
    looks_of = {each.name: look for each, look in zip(worst, styles(worst), strict=True)}
    return [
        Panel(
            group[0].attack,
            tuple((each, looks_of.get(each.name, style(number))) for number, each in enumerate(group)),
        )
        for group in groups
        if group
    ]
