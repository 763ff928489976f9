"""The panda figure: picture, perturbation and adversarial picture side by side (Goodfellow et al. 2015, figure 1)."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from advkit.atomic import write_whole
from advkit.results.figures import check_suffix

__all__ = ["Answer", "Panel", "check_suffix", "draw"]


@dataclass(frozen=True)
class Answer:
    """What a model says of a picture."""

    label: str
    confidence: float  # 0 to 1

    def __str__(self) -> str:
        name = textwrap.fill(" ".join(self.label.split()), 30)
        return f"{name}\n{100 * self.confidence:.1f} % confidence"


@dataclass(frozen=True)
class Panel:
    """One row of the figure: pictures (C, H, W) in [0, 1], what the model says of each."""

    x: Tensor
    perturbation: Tensor  # scaled to [0, 1], 0.5 is no change
    x_adv: Tensor
    clean: Answer
    between: Answer | None
    adversarial: Answer
    title: str  # what the middle shows: "0.007 × sign of the gradient"


def draw(panels: list[Panel], path: Path) -> None:
    """Draw a row for each panel; the file's suffix says how (.png, .svg, .pdf)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = check_suffix(path)
    figure = Figure(figsize=(9.6, 3.9 * len(panels)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 3, squeeze=False)
    for axes, panel in zip(grid, panels, strict=True):
        parts = (
            (panel.x, "$x$", str(panel.clean)),
            (panel.perturbation, panel.title, str(panel.between) if panel.between else ""),
            (panel.x_adv, r"$x_{\mathrm{adv}}$", str(panel.adversarial)),
        )
        for axis, (picture, title, below), operator in zip(axes, parts, ("", "+", "="), strict=True):
            values = picture.detach().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
            axis.imshow(np.squeeze(values), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title(title, fontsize=12)
            # Class names are the user's: no mathematics in them.
            axis.set_xlabel(below, fontsize=12, parse_math=False)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.text(-0.09, 0.5, operator, transform=axis.transAxes, fontsize=24, ha="center", va="center")
    write_whole(path, lambda beside: figure.savefig(beside, format=kind, bbox_inches="tight"))
