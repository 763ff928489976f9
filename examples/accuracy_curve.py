"""Robust accuracy over eps, with its 95 % interval: the curve is drawn into accuracy_curve.png (or the file named)."""

from __future__ import annotations

import sys

from matplotlib.figure import Figure

import advkit
from advkit import Linf
from advkit.attacks import worst_case

RADII = ("1/255", "2/255", "4/255", "8/255")


def main(path: str) -> None:
    """Evaluate at every radius, print and draw."""
    data = advkit.load_data("signs", samples=35)
    model = advkit.load_model("resnet", data=data)
    result = advkit.evaluate(model, data, [worst_case(Linf(eps), steps=5) for eps in RADII])

    points = [("0", result.clean_accuracy), *result.worst()]
    for eps, accuracy in points:
        print(f"{eps:>6}  {accuracy.percent}")

    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="eps (grey levels of 255)", ylabel="accuracy", ylim=(0, 1))
    levels = [float(advkit.Eps(eps)) * 255 if eps != "0" else 0.0 for eps, _ in points]
    axes.plot(levels, [accuracy.value for _, accuracy in points], marker="o")
    axes.fill_between(levels, [a.low for _, a in points], [a.high for _, a in points], alpha=0.2)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "accuracy_curve.png")
