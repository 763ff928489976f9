"""How well a detector tells attacked pictures from others: against attacks that do not know it, and against one that does.

The adaptive attack asks a model with one score more, the detector's; its loss is the attack's own and, where the model is
wrong already, minus ``weight`` times that score. Its goal is a wrong answer that passes unseen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core.answers import called, checked_scores
from advkit.core.attack import Attack
from advkit.core.detector import Detector
from advkit.core.goal import Goal, Untargeted
from advkit.core.losses import CrossEntropy, Loss, Margin
from advkit.core.modes import borrowed
from advkit.core.threat import Ball, Linf
from advkit.data import Data
from advkit.engine.checks import check_labels, check_weights
from advkit.engine.defend import Defended
from advkit.engine.examples import Finished, Progress, Source
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.errors import InputError
from advkit.results.roc import Curve
from advkit.results.statistics import Share, share
from advkit.results.table import Table

__all__ = ["Attacked", "Detection", "area", "build_detector", "detect", "usual_attack"]

Values = npt.NDArray[np.float64]
_LEAST = 20  # pictures in each half: below, a threshold at 5 % means nothing


@dataclass(frozen=True)
class Attacked:
    """What one attack came to: ``scores`` (M,) are the detector's of the pictures that the model gets wrong."""

    name: str
    attacked: int
    scores: Values
    detected: Share | None  # of those; None where there are none
    area: Share | None
    unseen: Share  # of all attacked: wrong and not detected
    curve: Curve | None

    @property
    def fooled(self) -> Share:
        """Of all attacked: those that the model gets wrong."""
        return share(len(self.scores), self.attacked)


@dataclass(frozen=True)
class Detection:
    """A detector's scores of clean pictures and of attacked ones, at a threshold chosen on other clean pictures."""

    detector: str
    data: str
    threat: Ball
    weight: float
    threshold: float
    false_positives: Share
    clean: Values  # (N,) scores of the clean pictures that the threshold was not chosen on
    attacks: tuple[Attacked, ...]

    def table(self) -> Table:
        """A row for each attack."""
        heads = ("pictures made", "model fooled (%)", "of these detected (%)", "AUC (%)", "fooled and unseen (%)")
        rows = tuple(
            (
                each.name,
                each.fooled.percent,
                each.detected.percent if each.detected else "-",
                each.area.percent if each.area else "-",
                each.unseen.percent,
            )
            for each in self.attacks
        )
        caption = (
            f"{self.detector} on {self.data}, {self.threat.label}, {self.attacks[0].attacked} pictures attacked; threshold"
            f" {self.threshold:.4g} at 5 % false positives, {self.false_positives.percent} % on {len(self.clean)} other"
            " clean pictures; 95 % intervals."
        )
        return Table(heads, rows, align="lrrrr", caption=caption)

    def to_json(self) -> dict[str, object]:
        """All numbers, by name."""
        return {
            "detector": self.detector,
            "data": self.data,
            "threat": self.threat.label,
            "weight": self.weight,
            "threshold": self.threshold,
            "false_positives": self.false_positives._asdict(),
            "clean": self.clean.tolist(),
            "attacks": [
                {
                    "pictures": each.name,
                    "attacked": each.attacked,
                    "fooled": each.fooled._asdict(),
                    "detected": each.detected._asdict() if each.detected else None,
                    "auc": each.area._asdict() if each.area else None,
                    "unseen": each.unseen._asdict(),
                    "scores": each.scores.tolist(),
                }
                for each in self.attacks
            ],
        }


def build_detector(text: str) -> Detector:
    """A detector by name and settings: ``feature-squeezing``. Raises InputError for anything else."""
    made = DEFENSES.build(text)
    if not isinstance(made, Detector):
        name = text.partition(":")[0]
        raise InputError(
            f"{name} detects nothing; advkit list defenses shows the detectors, such as feature-squeezing."
        )
    return made


def usual_attack(ball: Ball | None = None, steps: int = 20) -> PGD:
    """PGD on the margin between logits, which does not saturate."""
    return PGD(Linf(8 / 255) if ball is None else ball, steps=steps, loss=Margin())


def detect(
    model: nn.Module,
    data: Data,
    detector: Detector,
    attack: Attack | None = None,
    *,
    samples: int | None = 200,
    weight: float = 5.0,
    rate: float = 0.05,
    seed: int = 0,
    batch_size: int | None = None,
    name: str = "",
    progress: Callable[[str], Progress | None] = lambda stage: None,
) -> Detection:
    """Score clean and attacked pictures. The threshold lets a share ``rate`` of the first half's clean pictures be flagged;
    all else is measured on the second half, attacks on those that the model gets right.

    ``attack`` has a ``loss`` to be set (default: PGD on the margin, 20 steps); ``weight`` is that of the detector's score in
    the adaptive loss. The model comes back as it was. Raises InputError where there are too few pictures.
    """
    attack = usual_attack() if attack is None else attack
    if attack.targets:
        raise InputError("the adaptive attack pulls away from the true class; leave out targets.")
    if not weight > 0:
        raise InputError(f"the weight of the detector's score is {weight}; give a number above 0.")
    part = data.head(samples)
    if len(part) < 2 * _LEAST:
        raise InputError(
            f"{len(part)} pictures of {part.name} are too few to choose a threshold on one half and to measure on the other; "
            f"give {2 * _LEAST} or more."
        )
    x, y = part.tensors()
    check_weights(model)
    watched = _Watched(model, detector)
    # What draws is asked with draws of its own, as everywhere: those of the verdict are not the attack's to know.
    asked = Defended(model.model, model.wrappers, "search") if isinstance(model, Defended) else model
    searching = _Watched(asked, detector)
    size = batch_size or batch_for(model, x[0])
    with borrowed(model):
        watched.eval()
        searching.eval()
        passes = Passes(watched, Precision("float32", searching), size)
        seen = passes.judge(x.to(passes.device)).cpu()
        check_labels(part, seen.shape[1] - 1)
        y = torch.where(y < 0, seen[:, :-1].argmax(1), y)
        half = len(x) // 2
        threshold = _threshold(seen[:half, -1].double().numpy(), rate)
        rest = seen[half:]
        clean = rest[:, -1].double().numpy()
        right = rest[:, :-1].argmax(1) == y[half:]
        if not bool(right.any()):
            raise InputError(f"the model gets none of the pictures of {part.name} right; there is nothing to attack.")
        x, y = x[half:][right], y[half:][right]
        limit = torch.full((len(x),), threshold, dtype=torch.float64)
        alone = Passes(model, Precision.own(model), size)
        plain, evading = Untargeted(y), _Unseen(y, limit=limit)
        knowing = replace(attack, loss=_Evading(attack.loss, weight))  # type: ignore[type-var]
        stages: tuple[tuple[str, Attack, Passes, Goal, Literal["first", "best"]], ...] = (
            ("without the detector, first success", attack, alone, plain, "first"),
            ("without the detector, all steps", attack, alone, plain, "best"),
            ("adaptive, all steps", knowing, passes, evading, "best"),
        )
        found = []
        for stage, how, through, goal, keep in stages:
            x_adv = _made(how, through, x, goal, keep, seed, progress(stage))
            answers = passes.judge(x_adv.to(passes.device)).cpu()
            wrong = answers[:, :-1].argmax(1) != y
            found.append(_attacked(stage, answers[wrong, -1].double().numpy(), len(x), clean, threshold))
    return Detection(
        detector=name or DEFENSES.name_of(detector),
        data=part.name,
        threat=attack.threat,
        weight=weight,
        threshold=threshold,
        false_positives=share(int((clean > threshold).sum()), len(clean)),
        clean=clean,
        attacks=tuple(found),
    )


def area(attacked: Values, clean: Values) -> Share:
    """The area under the ROC curve, with its 95 % interval (DeLong et al. 1988, on the scale of log-odds).

    It is the chance that an attacked picture scores higher than a clean one. Where all do, or none, the interval is Wilson's
    for as many trials as the smaller sample holds, since DeLong's would have no width.
    """
    ordered, against = np.sort(clean), np.sort(attacked)
    above = (np.searchsorted(ordered, attacked, "left") + np.searchsorted(ordered, attacked, "right")) / (
        2 * len(clean)
    )
    below = (np.searchsorted(against, clean, "left") + np.searchsorted(against, clean, "right")) / (2 * len(attacked))
    value = float(above.mean())
    few = min(len(attacked), len(clean))
    if value in (0.0, 1.0) or few < 2:
        return Share(value, *share(round(value * few), few)[1:])
    spread = math.sqrt(above.var(ddof=1) / len(attacked) + below.var(ddof=1) / len(clean))
    odds, reach = math.log(value / (1 - value)), float(ndtri(0.975)) * spread / (value * (1 - value))
    low, high = (1 / (1 + math.exp(-end)) for end in (odds - reach, odds + reach))
    return Share(value, low, high)


def _threshold(clean: Values, rate: float) -> float:
    """The lowest score that no more than a share ``rate`` of the pictures exceed."""
    return float(np.sort(clean)[::-1][math.floor(rate * len(clean))])


def _attacked(name: str, scores: Values, attacked: int, clean: Values, threshold: float) -> Attacked:
    caught, count = int((scores > threshold).sum()), len(scores)
    return Attacked(
        name=name,
        attacked=attacked,
        scores=scores,
        detected=share(caught, count) if count else None,
        area=area(scores, clean) if count else None,
        unseen=share(count - caught, attacked),
        curve=Curve.of(name, scores, clean) if count else None,
    )


def _made(
    attack: Attack,
    passes: Passes,
    x: Tensor,
    goal: Goal,
    keep: Literal["first", "best"],
    seed: int,
    progress: Progress | None,
) -> Tensor:
    result = x.clone()

    def collect(finished: Finished) -> None:
        result[finished.example.cpu()] = finished.x_adv.cpu()

    Run(attack, passes, Source(lambda indices: x[list(indices)], goal), seed=seed, keep=keep).go(collect, progress)
    return result


class _Watched(nn.Module):
    """Logits and, in a last column, the detector's score: (B, K + 1)."""

    def __init__(self, model: nn.Module, detector: Detector) -> None:
        super().__init__()
        self.model, self.detector = model, detector

    def forward(self, x: Tensor) -> Tensor:
        logits = checked_scores(self.model(x), len(x), called(self.model))

        def answered(shown: Tensor) -> Tensor:
            answer: Tensor = logits if shown is x else self.model(shown)  # the detector asks that again
            return answer

        return torch.cat([logits, self.detector.score(answered, x)[:, None].to(logits)], 1)


@dataclass(frozen=True)
class _Unseen(Untargeted):
    """A wrong answer at a score of ``limit`` (B,) at most; logits carry the score in their last column."""

    limit: Tensor = field(kw_only=True)

    def reached(self, logits: Tensor) -> Tensor:
        return super().reached(logits[:, :-1]) & (logits[:, -1] <= self.limit)


@dataclass(frozen=True)
class _Evading(Loss):
    """A loss on the logits, minus ``weight`` times the score in the last column where the answer is wrong.

    A score is worth lowering there only: before, it keeps the search at the clean picture, which no detector flags (the
    selective descent of Bryniarski et al. 2021).
    """

    loss: Loss = CrossEntropy()
    weight: float = 5.0

    def __call__(self, logits: Tensor, goal: Goal) -> Tensor:
        value, wrong = self.loss(logits[:, :-1], goal), logits[:, :-1].argmax(1) != goal.classes
        return torch.where(wrong, value - self.weight * logits[:, -1], value)
