"""ROC curves of detectors, and their figure. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from advkit.results.figures._paper import COLUMN, paper, save, sheet, style

__all__ = ["Curve", "draw_roc"]


@dataclass(frozen=True)
class Curve:
    """True over false positives, both from 0 to 1, as the threshold falls."""

    name: str
    false: npt.NDArray[np.float64]
    true: npt.NDArray[np.float64]

    @classmethod
    def of(cls, name: str, attacked: npt.NDArray[np.float64], clean: npt.NDArray[np.float64]) -> Curve:
        """From scores of attacked and of clean pictures, of which the higher are flagged."""
        levels = np.unique(np.concatenate([attacked, clean]))[::-1]
        shares = [
            np.concatenate([[0.0], 1 - np.searchsorted(np.sort(scores), levels, "left") / len(scores)])
            for scores in (clean, attacked)
        ]
        return cls(name, *shares)


def draw_roc(curves: Sequence[Curve], path: Path, small_print: str, rate: float = 0.05) -> None:
    """Draw the curves; a dotted line marks the rate of false positives at which the threshold stands."""
    from matplotlib.lines import Line2D

    with paper():
        looks = [style(number) for number in range(len(curves))]
        key = [
            (Line2D([], [], color=look.color, linestyle=look.dash), curve.name)
            for curve, look in zip(curves, looks, strict=True)
        ]
        figure = sheet(COLUMN, 0.9 * COLUMN, small_print, key=key)
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color="0.85", linewidth=0.6, zorder=1)
        axes.axvline(100 * rate, color="0.6", linewidth=0.6, linestyle=(0, (1, 2)), zorder=1)
        for curve, look in zip(curves, looks, strict=True):
            axes.plot(
                100 * curve.false, 100 * curve.true, color=look.color, linestyle=look.dash, zorder=3, clip_on=False
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("clean pictures flagged (%)")
        axes.set_ylabel("attacked pictures flagged (%)")
        save(figure.figure, path)
