"""What an attack is to reach. A goal answers two questions: is it reached, and which scores should rise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advkit.core.types import rows
from advkit.errors import DataError, InputError

__all__ = ["Diverge", "Goal", "Targeted", "Untargeted", "labels_of", "pick", "rival"]


def labels_of(given: object) -> Tensor:
    """Labels (N,) as a tensor, int64 where they are whole numbers, from a tensor, an array or a list of them."""
    try:
        labels = given if isinstance(given, Tensor) else torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise DataError(
            f"the labels are {'None' if given is None else f'a {type(given).__name__} that holds other than whole numbers'}; "
            "give one class index for each picture: a tensor (N,), an array or a list of whole numbers."
        ) from None
    return labels if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool else labels.long()


def pick(scores: Tensor, classes: Tensor) -> Tensor:
    """The score of one class per example: (B, K), (B,) -> (B,)."""
    return scores.gather(1, classes[:, None]).squeeze(1)


def rival(scores: Tensor, classes: Tensor) -> Tensor:
    """The highest score among the other classes: (B, K), (B,) -> (B,)."""
    own = torch.zeros_like(scores, dtype=torch.bool).scatter(1, classes[:, None], True)
    return scores.masked_fill(own, -torch.inf).amax(1)


@dataclass(frozen=True)
class Goal(ABC):
    """Every method is per example; values to be ascended grow as the goal comes nearer."""

    classes: Tensor

    def __post_init__(self) -> None:
        """Classes may be given as a list or an array."""
        if getattr(self.classes, "dtype", None) != torch.long:
            object.__setattr__(self, "classes", labels_of(self.classes))

    @abstractmethod
    def gain(self, scores: Tensor) -> Tensor:
        """What to ascend where one class's score counts (log-probabilities in the cross-entropy)."""

    @abstractmethod
    def margin(self, scores: Tensor) -> Tensor:
        """How far the goal is overreached: positive where it is reached, negative where not, 0 at a tie."""

    def toward(self, scores: Tensor) -> Tensor:
        """The margin of one chosen rival class instead of the best."""
        return self.margin(scores)

    def divergence(self, log_probs: Tensor) -> Tensor:
        """What to ascend to move the whole distribution away from where it should not be."""
        return self.gain(log_probs)

    def reached(self, logits: Tensor) -> Tensor:
        """(B,) bool. The prediction is argmax, so a tie with the label at the lower index is not a success."""
        return logits.argmax(1) != self.classes

    def take(self, index: Tensor | slice) -> Goal:
        """The goal of some of the examples."""
        rows_of: dict[str, Any] = {name: rows(value, index) for name, value in vars(self).items()}
        return type(self)(**rows_of)

    def to(self, device: torch.device) -> Goal:
        """The goal on another device."""
        there: dict[str, Any] = {name: None if v is None else v.to(device) for name, v in vars(self).items()}
        return type(self)(**there)


@dataclass(frozen=True)
class Untargeted(Goal):
    """Any class but ``classes`` (B,), the true labels. ``towards`` (B,) names the rival for targeted losses."""

    towards: Tensor | None = None

    def gain(self, scores: Tensor) -> Tensor:
        """Minus the true class's score."""
        return -pick(scores, self.classes)

    def margin(self, scores: Tensor) -> Tensor:
        """Best other class over true class."""
        return rival(scores, self.classes) - pick(scores, self.classes)

    def toward(self, scores: Tensor) -> Tensor:
        """Chosen rival over true class."""
        if self.towards is None:
            raise InputError(
                "this loss pulls towards a class, and none was chosen: set targets=1 or more in the attack."
            )
        return pick(scores, self.towards) - pick(scores, self.classes)


@dataclass(frozen=True)
class Targeted(Goal):
    """Exactly the classes (B,) given: the targets, never the true labels."""

    def gain(self, scores: Tensor) -> Tensor:
        """The target's score."""
        return pick(scores, self.classes)

    def margin(self, scores: Tensor) -> Tensor:
        """Target over best other class."""
        return pick(scores, self.classes) - rival(scores, self.classes)

    def reached(self, logits: Tensor) -> Tensor:
        """The prediction is the target."""
        return logits.argmax(1) == self.classes


@dataclass(frozen=True)
class Diverge(Goal):
    """Away from a reference distribution (TRADES, label-free attacks): ``reference`` (B, K) logits, ``classes`` its argmax."""

    reference: Tensor

    @classmethod
    def of(cls, reference: Tensor) -> Diverge:
        """Diverge from the answer ``reference`` (B, K) that a model gave."""
        return cls(reference.argmax(1), reference)

    def gain(self, scores: Tensor) -> Tensor:
        """Minus the score of the class answered before."""
        return -pick(scores, self.classes)

    def margin(self, scores: Tensor) -> Tensor:
        """Best other class over the class answered before."""
        return rival(scores, self.classes) - pick(scores, self.classes)

    def divergence(self, log_probs: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the answer from the reference."""
        reference = self.reference.to(log_probs.dtype).log_softmax(1)
        return (reference.exp() * (reference - log_probs)).sum(1)
