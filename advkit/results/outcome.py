"""What happened, per example. Percentages are derived from these facts and born nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.threat import Ball
from advkit.core.units import Eps
from advkit.errors import InputError
from advkit.results.doubt import Doubt
from advkit.results.row_json import controls_json, row_json
from advkit.results.statistics import Share, share

__all__ = ["Control", "Evaluation", "Outcome", "Reload", "Reloaded", "Repeated", "Row", "Surrogate", "with_defense"]


def with_defense(defense: str) -> str:
    """A defense as it follows a model's name; nothing where there is none. It may stand in front, or be how it was trained."""
    return "" if defense == "none" else f" with {defense}"


@dataclass(frozen=True)
class Control:
    """What a control did beside an attack: which examples it beat, (N,) bool, of those that are right without attack."""

    name: str
    success: Tensor


@dataclass(frozen=True)
class Reloaded:
    """What the model says of the adversarial pictures as their files hold them, in 8 bits: facts of shape (N,)."""

    success: Tensor
    prediction: Tensor
    distance: Tensor  # of the levels, float64, from the clean levels
    over: Tensor  # farther than the radius
    files: tuple[str, ...]  # empty where the example was not attacked


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
    tells: str = "gradient"  # what the attack was told about the model; nothing where it was made on another one
    surrogate: str = ""  # the model that it was made on, where that is another
    reloaded: Reloaded | None = None
    repeated: Tensor | None = None  # (R, N) bool: right on the adversarial picture, judged again R times

    def stands(self, labels: Tensor) -> Tensor:
        """(N,) bool: right without attack, and right still."""
        return self.attacked & (self.prediction == labels)


class Reload(NamedTuple):
    """The same figures of the pictures as their files hold them, and how many of them lie outside the radius."""

    accuracy: Share
    success: float
    over: int

    def to_json(self) -> dict[str, object]:
        """The stable form."""
        at, low, high = self.accuracy
        return {"accuracy": at, "success": self.success, "low": low, "high": high, "over": self.over}


@dataclass(frozen=True)
class Surrogate:
    """The model that attacks were made on, and its own accuracy on the examples."""

    model: str
    weights: str
    accuracy: Share


class Repeated(NamedTuple):
    """Accuracy over repeated verdicts of a model that draws: the mean, with its Wilson interval, the least and the most."""

    times: int
    mean: Share
    least: float
    most: float

    @classmethod
    def of(cls, right: Tensor) -> Repeated:
        """From what was right, (R, N) bool. The interval is that of N examples, each as uncertain as a coin of that mean."""
        each = right.double().mean(1)
        times, count = right.shape
        return cls(times, share(float(each.mean()) * count, count), float(each.min()), float(each.max()))

    @property
    def text(self) -> str:
        """As in a table: ``53.4 [49.0, 57.7], 51.0 to 55.5``."""
        return f"{self.mean.percent}, {100 * self.least:.1f} to {100 * self.most:.1f}"

    def to_json(self) -> dict[str, object]:
        """The stable form."""
        value, low, high = self.mean
        return {"k": self.times, "mean": value, "low": low, "high": high, "least": self.least, "most": self.most}


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
    reloaded: Reload | None = None
    surrogate: str = ""
    repeats: Repeated | None = None

    def to_json(self) -> dict[str, object]:
        """The stable form; with ``control`` and ``controls`` where the attack has some, ``reloaded`` where files were read,
        ``repeats`` where verdicts were repeated."""
        return {
            **row_json(self),
            **({"surrogate": self.surrogate} if self.surrogate else {}),
            **controls_json(self.controls),
            **({} if self.reloaded is None else {"reloaded": self.reloaded.to_json()}),
            **({} if self.repeats is None else {"repeats": self.repeats.to_json()}),
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
    surrogate: Surrogate | None = None  # what the attacks were made on, where that is another model
    repeated: Tensor | None = None  # (R, N) bool: right without attack, judged again R times
    doubts: tuple[Doubt, ...] = ()
    checks: int = 0  # that looked for doubts; 0: nobody looked

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
            *map(str, self.doubts),
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
        """The outcome of one attack in one ball. Raises InputError where that was not run."""
        found = next((o for o in self.outcomes if o.name == name and o.threat == threat), None)
        if found is None:
            there = ", ".join(f"{o.name} in {o.threat!r}" for o in self.outcomes) or "none"
            raise InputError(f"there is no outcome of {name} in {threat!r}; there are: {there}.")
        return found

    def rows(self) -> list[Row]:
        """One row per outcome. A stage's accuracy counts its former stages' successes too."""
        return [self._row(outcome) for outcome in self.outcomes]

    def stands(self, eps: str | float) -> Tensor:
        """(N,) bool: right under every attack at this radius, example by example.

        The radius is one of ``radii`` as it was written, or a text or number of the same value; raises InputError for others.
        """
        radius = self._radius(eps)
        standing = [o.stands(self.labels) for o in self.outcomes if o.threat.eps.exact == radius]
        return torch.stack(standing).all(0)

    def _radius(self, eps: object) -> str:
        """The radius that was asked, as it was written."""
        if isinstance(eps, str) and eps in self.radii:
            return eps
        value = None
        if isinstance(eps, str | float | int | Fraction) and not isinstance(eps, bool):
            with suppress(InputError):  # what is no radius is not one of these either
                value = float(Eps(eps))
        for outcome in self.outcomes:
            if float(outcome.threat.eps) == value:
                return outcome.threat.eps.exact
        there = f"there are {', '.join(self.radii)}" if self.radii else "no attack was run"
        raise InputError(f"nothing is known of the radius {eps!r}; {there}.")

    def worst(self) -> list[tuple[str, Share]]:
        """For each radius, the accuracy in the worst case over the attacks, per example."""
        return [(eps, share(int(self.stands(eps).sum()), len(self))) for eps in self.radii]

    def repeats(self, outcome: Outcome | None = None) -> Tensor | None:
        """(R, N) bool: right in each repeat, on the pictures of an attack and of those that it follows, or on the clean ones.

        Where an attack was not made, since the example fell before or was wrong, the picture that did it counts.
        """
        if outcome is None or outcome.repeated is None or self.repeated is None:
            return self.repeated
        before = self.repeats(self.outcome(outcome.follows, outcome.threat) if outcome.follows else None)
        assert before is not None
        return torch.where(outcome.attacked, outcome.repeated, before)

    def worst_repeats(self) -> list[Repeated]:
        """For each radius, the same on the picture of the first attack whose verdict is a success, else of the last.

        The choice hangs on other draws than the repeats, so that it adds no luck. Empty where nothing was repeated.
        """
        if self.repeated is None:
            return []
        found = []
        for eps in self.radii:
            right, open_ = self.repeated, torch.ones_like(self.correct)
            for outcome in (o for o in self.outcomes if o.threat.eps.exact == eps):
                assert outcome.repeated is not None
                right = torch.where(outcome.attacked & open_, outcome.repeated, right)
                open_ = open_ & ~(outcome.attacked & (outcome.prediction != self.labels))
            found.append(Repeated.of(right))
        return found

    def reloaded_stands(self, outcome: Outcome) -> Tensor:
        """(N,) bool: right without attack, and right still on the files of this attack and of those that it follows."""
        before = self.outcome(outcome.follows, outcome.threat) if outcome.follows else None
        standing = self.correct if before is None else self.reloaded_stands(before)
        files = outcome.reloaded
        return standing if files is None else standing & ~(outcome.attacked & (files.prediction != self.labels))

    def worst_reloaded(self) -> list[Share]:
        """For each radius, the accuracy in the worst case over the files; empty where there are none."""
        if not self.outcomes or any(outcome.reloaded is None for outcome in self.outcomes):
            return []
        at = {eps: [o for o in self.outcomes if o.threat.eps.exact == eps] for eps in self.radii}
        standing = [torch.stack([self.reloaded_stands(o) for o in outcomes]).all(0) for outcomes in at.values()]
        return [share(int(stands.sum()), len(self)) for stands in standing]

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
        clean, before, again = self.clean_accuracy, self.undefended, self.repeated
        return {
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "n": len(self),
            "norm": self.norm,
            "eps": list(self.radii),
            "seed": self.seed,
            **({} if before is None else {"defense": self.defense, "undefended": _shown(before)}),
            "clean": _shown(clean) | ({} if again is None else {"repeats": Repeated.of(again).to_json()}),
            **({} if self.surrogate is None else {"surrogate": self._surrogate_json(self.surrogate)}),
            "rows": [row.to_json() for row in self.rows()],
            "worst": self._worst_json(),
            **({"doubts": [doubt.to_json() for doubt in self.doubts]} if self.checks else {}),
        }

    @staticmethod
    def _surrogate_json(other: Surrogate) -> dict[str, object]:
        return {"model": other.model, "weights": other.weights, **_shown(other.accuracy)}

    def _worst_json(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = [{"eps": eps, **_shown(accuracy)} for eps, accuracy in self.worst()]
        for each, accuracy in zip(found, self.worst_reloaded(), strict=False):
            each["reloaded"] = _shown(accuracy)
        for each, repeated in zip(found, self.worst_repeats(), strict=False):
            each["repeats"] = repeated.to_json()
        return found

    def _row(self, outcome: Outcome) -> Row:
        right = int(self.correct.sum())
        reached = outcome.attacked & outcome.success
        beaten = int(reached.sum())
        if outcome.follows:  # its accuracy counts what the attacks before it beat, so its success does
            beaten = right - int(outcome.stands(self.labels).sum())
        distances = outcome.distance[reached]
        again = self.repeats(outcome)
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
            reloaded=self._reload(outcome, right),
            surrogate=outcome.surrogate,
            repeats=None if again is None else Repeated.of(again),
        )

    def _reload(self, outcome: Outcome, right: int) -> Reload | None:
        files = outcome.reloaded
        if files is None:
            return None
        standing = self.reloaded_stands(outcome)
        beaten = int((outcome.attacked & files.success).sum())
        if outcome.follows:
            beaten = right - int(standing.sum())
        over = int((outcome.attacked & files.over).sum())
        return Reload(share(int(standing.sum()), len(self)), beaten / right if right else 0.0, over)
