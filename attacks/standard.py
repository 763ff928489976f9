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


_LONG, _PATIENCE, _SHORT = 5000, 250, 400  # queries


@ATTACKS.register("standard", paper="arXiv:2407.02240")
def standard(threat: Ball = Linf(8 / 255)) -> Ensemble:
    """AutoAttack's number for about a sixth of its passes: probability margin, nearest rivals (MALT), then Square.

    Auto-PGD on the margin of probabilities (Xie et al. 2024), short; towards the three rivals that a linear model of the
    network reaches first (Melamed et al. 2024), on the ratio of logit differences. Last, Square from where these came
    nearest: 5,000 queries for an example that comes nearer fast enough to fall in as many, which is looked at every 250;
    then 400, whose windows are soon small. Each stage is run on what the former left standing. Raises InputError for another
    ball.
    """
    if not isinstance(threat, _BALLS):
        raise InputError(f"standard works in Linf, L2 and L1, not in {type(threat).__name__}.")
    return Ensemble(
        (
            ("pma", APGD(threat, steps=20, loss=ProbabilityMargin())),
            ("malt", TargetedAPGD(threat, steps=100, targets=3, ranking="malt")),
            ("square", Square(threat, queries=_LONG, resumes=True, patience=_PATIENCE)),
            ("square-short", Square(threat, queries=_SHORT, resumes=True)),
        )
    )
