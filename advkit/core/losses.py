"""Losses: (logits (B, K), goal) -> (B,), always ascended. The sign lives in the goal and nowhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from advkit.catalog import LOSSES
from advkit.core.goal import Goal, Targeted
from advkit.registry import Checked

__all__ = [
    "DLR",
    "KL",
    "ClippedCrossEntropy",
    "CrossEntropy",
    "Loss",
    "Margin",
    "ProbabilityMargin",
    "TargetedDLR",
    "TargetedMargin",
]

_TINY = 1e-12
_DLR_CLASSES = 4  # below this the sorted differences that normalise DLR do not exist (or are the margin itself)


@dataclass(frozen=True)
class Loss(Checked, ABC):
    """What an attack ascends."""

    @abstractmethod
    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """(B,) values, one per example, independent of the batch."""


@LOSSES.register("ce", paper="arXiv:1412.6572")
@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of the true class (Goodfellow et al. 2015); its gradient vanishes for a very confident model."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """Minus log-probability of the true class, or log-probability of the target."""
        return goal.gain(logits.log_softmax(1))


@LOSSES.register("clipped-ce", paper="arXiv:1811.11304")
@dataclass(frozen=True)
class ClippedCrossEntropy(Loss):
    """Cross-entropy up to a ceiling (Shafahi et al. 2020): of many pictures at once, those lost must not outweigh others."""

    ceiling: float = 9.0

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The cross-entropy, flat above the ceiling."""
        return goal.gain(logits.log_softmax(1)).clamp_max(self.ceiling)


@LOSSES.register("margin", paper="arXiv:1608.04644")
@dataclass(frozen=True)
class Margin(Loss):
    """Best other logit minus the true one (Carlini & Wagner 2017); positive where the example is beaten."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The goal's margin in the logits."""
        return goal.margin(logits)


@LOSSES.register("prob-margin", paper="arXiv:2411.15210")
@dataclass(frozen=True)
class ProbabilityMargin(Loss):
    """The margin between probabilities (Xie et al. 2024)."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The goal's margin in the softmax."""
        return goal.margin(logits.softmax(1))


@LOSSES.register("dlr", paper="arXiv:2003.01690")
@dataclass(frozen=True)
class DLR(Loss):
    """Difference of logits ratio (Croce & Hein 2020): the margin over (1st - 3rd logit), free of shift and scale.

    With fewer than 4 classes it is the margin. For a target it is the targeted ratio: this one can be
    raised for ever by spreading the top three while the target stays behind.
    """

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The goal's margin over the spread of the top three logits."""
        if isinstance(goal, Targeted):
            return TargetedDLR()(logits, goal)
        if logits.shape[1] < _DLR_CLASSES:
            return goal.margin(logits)
        top = logits.topk(3, dim=1).values
        return goal.margin(logits) / (top[:, 0] - top[:, 2] + _TINY)


@LOSSES.register("targeted-margin", paper="arXiv:1910.09338")
@dataclass(frozen=True)
class TargetedMargin(Loss):
    """Logit of one chosen rival minus the true one (Gowal et al. 2019, multi-targeted)."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The chosen rival's margin."""
        return goal.toward(logits)


@LOSSES.register("targeted-dlr", paper="arXiv:2003.01690")
@dataclass(frozen=True)
class TargetedDLR(Loss):
    """Difference of logits ratio towards one chosen class (Croce & Hein 2020, APGD-T); the margin below 4 classes."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The chosen rival's margin over 1st - mean of 3rd and 4th logit."""
        if logits.shape[1] < _DLR_CLASSES:
            return goal.toward(logits)
        top = logits.topk(4, dim=1).values
        return goal.toward(logits) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _TINY)


@LOSSES.register("kl", paper="arXiv:1901.08573")
@dataclass(frozen=True)
class KL(Loss):
    """Kullback-Leibler divergence from the reference answer (Zhang et al. 2019, TRADES); from a label: cross-entropy."""

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        """The goal's divergence in log-probabilities."""
        return goal.divergence(logits.log_softmax(1))
