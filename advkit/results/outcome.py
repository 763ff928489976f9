"""What happened, per example. Percentages are derived from these facts and born nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advkit.core.threat import Ball
from advkit.results.statistics import Share, controls_json, share

__all__ = ["Control", "Evaluation", "Outcome", "Row", "with_defense"]


def with_defense(defense: str) -> str:
    """A defense as it follows a model's name; nothing where there is none. It may stand in front, or be how it was trained."""
    return "" if defense == "none" else f" with {defense}"


@dataclass(frozen=True)
class Control:
    """What a control did beside an attack: which examples it beat, (N,) bool, of those that are right without attack."""

    name: str
    success: Tensor


@dataclass(frozen=True)
class Outcome:
    """One attack on the examples of an evaluation: facts of shape (N,), on the CPU.

    Facts of examples that were not ``attacked`` (wrong without attack, or already beaten by a former stage) mean nothing.
    """

    name: str
    attack: str  # its repr: every hyper-parameter
    threat: Ball
    attacked: Tensor
    success: Tensor  # the goal was reached
    prediction: Tensor
    distance: Tensor
    steps: Tensor
    forwards: Tensor
    backwards: Tensor
    seconds: float
    follows: str = ""  # the attack whose survivors this one met; empty where it met all that were right
    controls: tuple[Control, ...] = ()

    def stands(self, labels: Tensor) -> Tensor:
        """(N,) bool: right without attack, and right still."""
        return self.attacked & (self.prediction == labels)


@dataclass(frozen=True)
class Row:
    """One line of a robustness table."""

    attack: str
    eps: str
    accuracy: Share
    success: float  # of the examples that were right without attack
    median_distance: float | None  # of the successes
    forwards: int
    backwards: int
    seconds: float
    follows: str = ""
    controls: tuple[tuple[str, Share], ...] = ()  # success of each, of the examples that were right without attack

    def to_json(self) -> dict[str, object]:
        """The stable form; with ``control`` and ``controls`` where the attack has some."""
        return {
            "attack": self.attack,
            "eps": self.eps,
            "accuracy": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "success": self.success,
            "median_distance": self.median_distance,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": round(self.seconds, 3),
            **controls_json(self.controls),
        }


def _shown(accuracy: Share) -> dict[str, float]:
    return {"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}


@dataclass(frozen=True)
class Evaluation:
    """A model on a data set, without attack and under each attack."""

    model: str
    weights: str
    data: str
    norm: str
    seed: int
    device: str
    precision: str
    classes: tuple[str, ...]
    labels: Tensor
    clean: Tensor  # predictions without attack
    outcomes: tuple[Outcome, ...]
    goal: str = "untargeted"
    targets: Tensor | None = None  # (N,) where the goal is targeted
    facts: dict[str, str] = field(default_factory=dict)  # versions, hashes
    defense: str = "none"
    undefended: Share | None = None  # accuracy without attack and without the defense

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        of = f"{self.model} (weights {self.weights}){with_defense(self.defense)} on {self.data}"
        lines = [
            f"{of}, n = {len(self)}, {self.norm}, seed {self.seed}",
            *(() if self.undefended is None else [f"none, without the defense: {self.undefended.percent} %"]),
            f"none (clean): {self.clean_accuracy.percent} %",
            *(f"{'+ ' if r.follows else ''}{r.attack} at {r.eps}: {r.accuracy.percent} %" for r in self.rows()),
            *(f"worst case at {eps}: {accuracy.percent} %" for eps, accuracy in self.worst()),
        ]
        return "\n".join(lines)

    @property
    def correct(self) -> Tensor:
        """(N,) bool: right without attack."""
        return self.clean == self.labels

    @property
    def clean_accuracy(self) -> Share:
        """Accuracy without attack."""
        return share(int(self.correct.sum()), len(self))

    @property
    def radii(self) -> tuple[str, ...]:
        """Every eps, exactly as written, in order of first use."""
        return tuple(dict.fromkeys(outcome.threat.eps.exact for outcome in self.outcomes))

    def name_of(self, label: int) -> str:
        """The name of a class, or its number."""
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)

    def outcome(self, name: str, threat: Ball) -> Outcome:
        """The outcome of one attack in one ball."""
        return next(o for o in self.outcomes if o.name == name and o.threat == threat)

    def rows(self) -> list[Row]:
        """One row per outcome. A stage's accuracy counts its former stages' successes too."""
        return [self._row(outcome) for outcome in self.outcomes]

    def stands(self, eps: str) -> Tensor:
        """(N,) bool: right under every attack at this radius, example by example."""
        standing = [o.stands(self.labels) for o in self.outcomes if o.threat.eps.exact == eps]
        return torch.stack(standing).all(0)

    def worst(self) -> list[tuple[str, Share]]:
        """For each radius, the accuracy in the worst case over the attacks, per example."""
        return [(eps, share(int(self.stands(eps).sum()), len(self))) for eps in self.radii]

    def per_class(self) -> list[tuple[str, int, int, list[int]]]:
        """For each class that occurs: name, examples, right without attack, right in the worst case at each radius."""
        standing = [self.stands(eps) for eps in self.radii]
        found: Sequence[int] = sorted(set(self.labels.tolist()))
        of = {k: self.labels == k for k in found}
        return [
            (
                self.name_of(k),
                int(of[k].sum()),
                int((of[k] & self.correct).sum()),
                [int((of[k] & stands).sum()) for stands in standing],
            )
            for k in found
        ]

    def stories(self) -> list[str]:
        """For each example and attack: what the model said, and what it says of the adversarial picture."""
        return [
            f"{self.name_of(int(self.clean[i]))} -> {self.name_of(int(o.prediction[i]))} under {o.name} at {o.threat.label}"
            for i in range(len(self))
            for o in self.outcomes
            if bool(o.attacked[i])
        ]

    def per_class_json(self) -> list[dict[str, object]]:
        """``per_class`` as a list of objects, accuracies as fractions."""
        return [
            {
                "class": name,
                "n": n,
                "clean": right / n,
                "worst": [{"eps": eps, "accuracy": k / n} for eps, k in zip(self.radii, left, strict=True)],
            }
            for name, n, right, left in self.per_class()
        ]

    def to_json(self) -> dict[str, object]:
        """The stable form: accuracies are fractions, radii exact texts."""
        clean, before = self.clean_accuracy, self.undefended
        return {
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "n": len(self),
            "norm": self.norm,
            "eps": list(self.radii),
            "seed": self.seed,
            **({} if before is None else {"defense": self.defense, "undefended": _shown(before)}),
            "clean": _shown(clean),
            "rows": [row.to_json() for row in self.rows()],
            "worst": [{"eps": eps, **_shown(accuracy)} for eps, accuracy in self.worst()],
        }

    def _row(self, outcome: Outcome) -> Row:
        right = int(self.correct.sum())
        reached = outcome.attacked & outcome.success
        beaten = int(reached.sum())
        if outcome.follows:  # its accuracy counts what the attacks before it beat, so its success does
            beaten = right - int(outcome.stands(self.labels).sum())
        distances = outcome.distance[reached]
        return Row(
            attack=outcome.name,
            eps=outcome.threat.eps.exact,
            accuracy=share(int(outcome.stands(self.labels).sum()), len(self)),
            success=beaten / right if right else 0.0,
            median_distance=float(distances.median()) if len(distances) else None,
            forwards=int(outcome.forwards.sum()),
            backwards=int(outcome.backwards.sum()),
            seconds=outcome.seconds,
            follows=outcome.follows,
            controls=tuple((each.name, share(int(each.success.sum()), right)) for each in outcome.controls),
        )
