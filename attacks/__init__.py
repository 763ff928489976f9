"""The attacks, one file per method; each is a frozen value with ``first``, ``start`` and ``step``."""

from advkit.attacks._bridge_foolbox import foolbox_model
from advkit.attacks.apgd import APGD, TargetedAPGD
from advkit.attacks.autoattack import autoattack
from advkit.attacks.carlini_wagner import CarliniWagner
from advkit.attacks.ddn import DDN
from advkit.attacks.deepfool import DeepFool
from advkit.attacks.dots import Dots
from advkit.attacks.ead import EAD
from advkit.attacks.fab import FAB, TargetedFAB
from advkit.attacks.fixed_sticker import FixedSticker
from advkit.attacks.fmn import FMN
from advkit.attacks.jsma import JSMA
from advkit.attacks.light import Light
from advkit.attacks.nes import NES
from advkit.attacks.noise import Noise
from advkit.attacks.patch import Patch
from advkit.attacks.pgd import BIM, FGSM, PGD, RandomStartFGSM
from advkit.attacks.pixel import OnePixel, Pixel
from advkit.attacks.pixle import Pixle
from advkit.attacks.rain import Rain
from advkit.attacks.roa import ROA
from advkit.attacks.salt import GreedySalt, Salt
from advkit.attacks.shadow import Shadow
from advkit.attacks.sigma_zero import SigmaZero
from advkit.attacks.spsa import SPSA
from advkit.attacks.square import Square
from advkit.attacks.standard import standard
from advkit.attacks.sticker import Sticker
from advkit.attacks.tape import Tape
from advkit.attacks.transfer import DIFGSM, MIFGSM, NIFGSM, SIFGSM, TIFGSM, VMIFGSM
from advkit.attacks.uap import UAP
from advkit.attacks.worst_case import worst_case

__all__ = [
    "APGD",
    "BIM",
    "DDN",
    "DIFGSM",
    "EAD",
    "FAB",
    "FGSM",
    "FMN",
    "JSMA",
    "MIFGSM",
    "NES",
    "NIFGSM",
    "PGD",
    "ROA",
    "SIFGSM",
    "SPSA",
    "TIFGSM",
    "UAP",
    "VMIFGSM",
    "CarliniWagner",
    "DeepFool",
    "Dots",
    "FixedSticker",
    "GreedySalt",
    "Light",
    "Noise",
    "OnePixel",
    "Patch",
    "Pixel",
    "Pixle",
    "Rain",
    "RandomStartFGSM",
    "Salt",
    "Shadow",
    "SigmaZero",
    "Square",
    "Sticker",
    "Tape",
    "TargetedAPGD",
    "TargetedFAB",
    "autoattack",
    "foolbox_model",
    "standard",
    "worst_case",
]
