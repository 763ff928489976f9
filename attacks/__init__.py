"""The attacks, one file per method; each is a frozen value with ``first``, ``start`` and ``step``."""

from advkit.attacks.noise import Noise
from advkit.attacks.patch import Patch
from advkit.attacks.pgd import BIM, FGSM, PGD, RandomStartFGSM
from advkit.attacks.roa import ROA
from advkit.attacks.salt import GreedySalt, Salt
from advkit.attacks.sticker import Sticker
from advkit.attacks.transfer import DIFGSM, MIFGSM, NIFGSM, TIFGSM
from advkit.attacks.worst_case import worst_case

__all__ = [
    "BIM",
    "DIFGSM",
    "FGSM",
    "MIFGSM",
    "NIFGSM",
    "PGD",
    "ROA",
    "TIFGSM",
    "GreedySalt",
    "Noise",
    "Patch",
    "RandomStartFGSM",
    "Salt",
    "Sticker",
    "worst_case",
]
