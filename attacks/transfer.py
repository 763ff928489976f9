"""Iterative FGSM with other directions, made to carry over to unknown models: PGD with a setting fixed."""

from __future__ import annotations

from dataclasses import dataclass, field

from advkit.attacks.pgd import PGD
from advkit.catalog import ATTACKS
from advkit.core.directions import Chain, Direction, Diverse, Momentum, Nesterov, Smooth


@dataclass(frozen=True)
class _FromClean(PGD):
    steps: int = 10
    step_size: float | None = 0.1
    random_start: bool = field(default=False, init=False, repr=False)


@ATTACKS.register("mi-fgsm", paper="arXiv:1710.06081")
@dataclass(frozen=True)
class MIFGSM(_FromClean):
    """Momentum iterative FGSM (Dong et al. 2018)."""

    direction: Direction = field(default=Momentum(), init=False, repr=False)


@ATTACKS.register("ni-fgsm", paper="arXiv:1908.06281")
@dataclass(frozen=True)
class NIFGSM(_FromClean):
    """Nesterov iterative FGSM (Lin et al. 2020)."""

    direction: Direction = field(default=Nesterov(), init=False, repr=False)


@ATTACKS.register("ti-fgsm", paper="arXiv:1904.02884")
@dataclass(frozen=True)
class TIFGSM(_FromClean):
    """Translation-invariant iterative FGSM with momentum (Dong et al. 2019)."""

    direction: Direction = field(default=Chain((Smooth(), Momentum())), init=False, repr=False)


@ATTACKS.register("di-fgsm", paper="arXiv:1803.06978")
@dataclass(frozen=True)
class DIFGSM(_FromClean):
    """Diverse-input iterative FGSM with momentum (Xie et al. 2019)."""

    direction: Direction = field(default=Chain((Diverse(), Momentum())), init=False, repr=False)
