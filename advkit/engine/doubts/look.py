"""What the checks look at: an evaluation that is over, its attacks, and a model that may still be asked a little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.fitted import Fitted
from advkit.core.losses import KL, CrossEntropy
from advkit.data import Data
from advkit.engine.protocol import answers
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import LUCK, Answer
from advkit.results.doubt import Doubt
from advkit.results.outcome import Evaluation, Outcome

__all__ = ["Check", "Look", "Met", "names"]


@dataclass(frozen=True)
class Met:
    """An attack and what it did. ``elsewhere``: it was made on another model, and replayed on this one."""

    attack: Attack
    outcome: Outcome
    elsewhere: bool = False

    @property
    def beaten(self) -> Tensor:
        """(N,) bool: what it met and beat."""
        return self.outcome.attacked & self.outcome.success

    @property
    def steers(self) -> bool:
        """Whether the model's own gradient steers it, for each picture anew."""
        return self.attack.tells == "gradient" and not self.elsewhere and not isinstance(self.attack, Fitted)

    @property
    def searches(self) -> bool:
        """Whether it follows that gradient for more than a step; of what another library does, steps are not known."""
        return self.steers and self.attack.steps != 1

    @property
    def climbs(self) -> bool:
        """Whether it climbs its loss inside the ball, step by step."""
        return self.steers and self.attack.steps > 1 and not self.attack.minimal

    @property
    def fades(self) -> bool:
        """Whether it climbs a loss that fades where the model is sure of itself."""
        return isinstance(self.attack.loss, CrossEntropy | KL)


@dataclass(frozen=True)
class Look:
    """What the checks look at."""

    result: Evaluation
    met: tuple[Met, ...]
    data: Data
    case: Case | None  # the first pictures, of which the model may be asked
    first: bool  # a run ended at the first success, so its steps say when the example fell
    told: bool  # gradients and verdicts are means over draws

    @property
    def passes(self) -> int:
        """What the attacks on the model itself took; those on another may be cheaper, where this one draws."""
        own = [each.outcome for each in self.met if not each.elsewhere]
        return sum(int(outcome.forwards.sum() + outcome.backwards.sum()) for outcome in own)

    @cached_property
    def repeatable(self) -> Answer:
        """Whether the model answers the same each time."""
        assert self.case is not None
        return answers.repeatable(self.case)

    @property
    def right(self) -> int:
        """How many examples are right without attack."""
        return int(self.result.correct.sum())

    def luck(self, share: float = LUCK) -> float:
        """So many examples may differ by chance."""
        return max(1.0, share * self.right)

    def at_radii(self, wanted: Callable[[Met], bool]) -> list[tuple[str, list[Met]]]:
        """The attacks that are wanted, for each radius of any."""
        met = [each for each in self.met if wanted(each)]
        return [
            (eps, [each for each in met if each.outcome.threat.eps.exact == eps])
            for eps in dict.fromkeys(each.outcome.threat.eps.exact for each in met)
        ]

    def union(self, met: Sequence[Met], fact: Callable[[Met], Tensor]) -> Tensor:
        """(N,) bool: true of any of them."""
        none = torch.zeros_like(self.result.correct)
        return torch.stack([none, *(fact(each) for each in met)]).any(0)


Check = Callable[[Look], list[Doubt] | None]
"""The doubts that there are; None where the check does not apply."""


def names(met: Sequence[Met]) -> str:
    """What the attacks are called, each name once."""
    return ", ".join(dict.fromkeys(each.outcome.name for each in met))
