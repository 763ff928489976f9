"""AutoAttack: the ensemble of attacks without settings that the field compares by."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from advkit.attacks.apgd import APGD, TargetedAPGD
from advkit.attacks.fab import FAB, TargetedFAB
from advkit.attacks.square import Square
from advkit.catalog import ATTACKS
from advkit.core.attack import Attack, Ensemble
from advkit.core.losses import DLR
from advkit.core.threat import L1, L2, Ball, Linf
from advkit.errors import InputError

_BALLS = (Linf, L2, L1)
_DRAWS = 20  # of a model that draws, for each gradient
_RESTARTS = 5  # of each attack in the version plus


@ATTACKS.register("autoattack", paper="arXiv:2003.01690")
def autoattack(threat: Ball = Linf(8 / 255), version: Literal["standard", "plus", "rand"] = "standard") -> Ensemble:
    """AutoAttack as published (Croce & Hein 2020): APGD-CE, APGD-T, FAB-T and Square, each on what the former left standing.

    ``version``: ``plus`` adds restarts, APGD on DLR and untargeted FAB; ``rand``, for models that draw, is APGD on both losses
    with the mean gradient of 20 draws. Raises InputError for another version or ball.
    """
    if not isinstance(threat, _BALLS):
        name = type(threat).__name__
        raise InputError(
            f"AutoAttack works in Linf, L2 and L1, not in {name}; choose an attack for it (advkit list attacks)."
        )
    ce = APGD(threat)
    dlr = replace(ce, loss=DLR())
    apgd_t, fab_t = TargetedAPGD(threat), TargetedFAB(threat)
    square = Square(threat)
    stages: dict[str, tuple[tuple[str, Attack], ...]] = {
        "standard": (("apgd-ce", ce), ("apgd-t", apgd_t), ("fab-t", fab_t), ("square", square)),
        "plus": (
            ("apgd-ce", replace(ce, restarts=_RESTARTS)),
            ("apgd-dlr", replace(dlr, restarts=_RESTARTS)),
            ("fab", FAB(threat, restarts=_RESTARTS)),
            ("square", square),
            ("apgd-t", apgd_t),
            ("fab-t", fab_t),
        ),
        "rand": (("apgd-ce", replace(ce, views=_DRAWS)), ("apgd-dlr", replace(dlr, views=_DRAWS))),
    }
    if version not in stages:
        raise InputError(f"AutoAttack's version is {version!r}; it is one of {', '.join(stages)}.")
    return Ensemble(stages[version])
