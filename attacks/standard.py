"""The ensemble whose number is to be reported: what AutoAttack finds, for a fraction of its passes."""

from __future__ import annotations

from advkit.attacks.apgd import APGD, TargetedAPGD
from advkit.attacks.square import Square
from advkit.catalog import ATTACKS
from advkit.core.attack import Ensemble
from advkit.core.losses import ProbabilityMargin
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.errors import InputError

_BALLS = (Linf, L2, L1)


@ATTACKS.register("standard", paper="arXiv:2407.02240")
def standard(threat: Ball = Linf(8 / 255)) -> Ensemble:
    """AutoAttack's number for about a sixth of its passes: probability margin, nearest rivals (MALT), then Square.

    Auto-PGD on the margin of probabilities (Xie et al. 2024), short; towards the three rivals that a linear model of the
    network reaches first (Melamed et al. 2024), on the ratio of logit differences. Then Square: 2,000 queries from where
    these came nearest, last 5,000 from its own start; both end early for an example that does not come nearer fast enough.
    Each stage is run on what the former left standing. Raises InputError for another ball.
    """
    if not isinstance(threat, _BALLS):
        name = type(threat).__name__
        raise InputError(
            f"standard works in Linf, L2 and L1, not in {name}; choose an attack for it (advkit list attacks)."
        )
    return Ensemble(
        (
            ("pma", APGD(threat, steps=20, loss=ProbabilityMargin())),
            ("malt", TargetedAPGD(threat, steps=100, targets=3, ranking="malt")),
            ("square-near", Square(threat, queries=2000, resumes=True, patience=200)),
            ("square", Square(threat, queries=5000, patience=250)),
        )
    )
