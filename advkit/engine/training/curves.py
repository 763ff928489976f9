"""The curves of a training: the loss, and what was measured on examples held out, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advkit.engine.training.watch import Epoch
from advkit.results.figures._paper import COLUMN, GREY, PAGE, paper, save, sheet, style

__all__ = ["draw_curves"]


def draw_curves(path: Path, history: Sequence[Epoch], title: str) -> None:
    """Draw them into a .png, .svg or .pdf: the best epoch is marked, and every alarm. Raises WriteError."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    numbers = [epoch.number for epoch in history]
    names = list(history[0].scores)
    best = next((epoch for epoch in reversed(history) if epoch.best), None)
    alarms = [epoch.number for epoch in history if epoch.alarm]
    said = [title]
    said += [f"grey line: the best epoch ({best.number}), whose weights are kept"] if best is not None else []
    said += ["red: alarm, catastrophic overfitting"] if alarms else []
    looks = [style(number + 1) for number in range(len(names))]
    key = [
        (Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dash), name)
        for look, name in zip(looks, names, strict=True)
    ]
    with paper():
        page = sheet(PAGE if names else COLUMN, 2.2, "; ".join(said), key=key)
        axes: Any = page.subplots(1, 2 if names else 1, squeeze=False)[0]
        axes[0].plot(numbers, [epoch.loss for epoch in history], color=style(0).color, marker="o", markersize=2.5)
        axes[0].set_ylabel("loss in training")
        shares = set(names) <= {"robust", "clean", "fgsm"}
        for name, look in zip(names, looks, strict=True):
            values = [epoch.scores[name] * (100 if shares else 1) for epoch in history]
            axes[1].plot(numbers, values, color=look.color, marker=look.marker, linestyle=look.dash, markersize=2.5)
        if names:
            axes[1].set_ylabel("accuracy, held out (%)" if shares else "held out")
        for place in axes:
            place.set_xlabel("epoch")
            place.xaxis.set_major_locator(MaxNLocator(integer=True))
            if best is not None:
                place.axvline(best.number, color=GREY, linewidth=0.8, linestyle=":")
            for number in alarms:
                place.axvline(number, color="#D55E00", linewidth=0.8)
        save(page.figure, path, dpi=150)
