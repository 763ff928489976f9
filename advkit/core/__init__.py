"""The vocabulary: values and pure functions. Imports torch only."""

from advkit.core.attack import Ascent, Attack, Ensemble, Point, State
from advkit.core.directions import Chain, Direction, Diverse, Momentum, Nesterov, Plain, Smooth
from advkit.core.goal import Diverge, Goal, Targeted, Untargeted
from advkit.core.losses import (
    DLR,
    KL,
    ClippedCrossEntropy,
    CrossEntropy,
    Loss,
    Margin,
    ProbabilityMargin,
    TargetedDLR,
    TargetedMargin,
)
from advkit.core.regions import Area, Shade, Veil
from advkit.core.rng import Rng
from advkit.core.threat import BALLS, L0, L1, L2, Ball, Linf
from advkit.core.units import Eps

__all__ = [
    "BALLS",
    "DLR",
    "KL",
    "L0",
    "L1",
    "L2",
    "Area",
    "Ascent",
    "Attack",
    "Ball",
    "Chain",
    "ClippedCrossEntropy",
    "CrossEntropy",
    "Direction",
    "Diverge",
    "Diverse",
    "Ensemble",
    "Eps",
    "Goal",
    "Linf",
    "Loss",
    "Margin",
    "Momentum",
    "Nesterov",
    "Plain",
    "Point",
    "ProbabilityMargin",
    "Rng",
    "Shade",
    "Smooth",
    "State",
    "Targeted",
    "TargetedDLR",
    "TargetedMargin",
    "Untargeted",
    "Veil",
]
