"""What stands against one loss often falls to another."""

from __future__ import annotations

from dataclasses import replace

from advkit.attacks.pgd import PGD
from advkit.catalog import ATTACKS
from advkit.core.attack import Ensemble
from advkit.core.losses import Margin, TargetedMargin
from advkit.core.threat import Ball, Linf


@ATTACKS.register("worst-case", paper="arXiv:1910.09338")
def worst_case(
    threat: Ball = Linf(8 / 255), steps: int = 40, step_size: float | None = None, restarts: int = 1, targets: int = 5
) -> Ensemble:
    """PGD on cross-entropy, then on the margin, then towards each of the likeliest rivals (after Gowal et al. 2019).

    Cross-entropy alone overstates robustness, by tens of points on models whose gradients it saturates. Each stage is run
    on what the former left standing.
    """
    plain = PGD(threat, steps=steps, step_size=step_size, restarts=restarts)
    return Ensemble(
        (
            ("pgd-ce", plain),
            ("pgd-margin", replace(plain, loss=Margin())),
            ("pgd-targeted", replace(plain, loss=TargetedMargin(), targets=targets)),
        )
    )
