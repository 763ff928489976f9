"""What a check answers: a verdict, with its code in the protocol, what to do about it, and what came of doing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from advkit.results.verdict import FAIL, LUCK, PASS, WARN, Verdict, counted

__all__ = [
    "FAIL",
    "LUCK",
    "PASS",
    "REPAIR",
    "UNKNOWN",
    "WARN",
    "Answer",
    "Finding",
    "Remedy",
    "counted",
    "grade",
    "of",
    "percent",
]

UNKNOWN = "unknown"
"""The check does not apply, or could not be made."""

REPAIR = "Repair its answers."
"""What to do about a model that fails when it is asked."""


class Answer(NamedTuple):
    """What a check says: pass, warn, fail or unknown, why in one sentence, and what to do where it is no pass."""

    level: str
    sentence: str
    advice: str = ""


class Remedy(NamedTuple):
    """What was run because of a doubt, in one sentence, and the number that came of it.

    The number is the accuracy (0 to 1) that the worst case of all that was run so far leaves; of the binarization test it is
    the share of planted examples that are found.
    """

    sentence: str
    number: float


@dataclass(frozen=True)
class Finding(Verdict):
    """A check's answer under its name and its code, P1 to P20; ``indicator`` is that of Pintor et al. 2022, I1 to I6."""

    code: str = ""
    advice: str = ""
    indicator: str = ""
    remedy: Remedy | None = None

    @property
    def codes(self) -> str:
        """Both codes: ``P11 I1``."""
        return f"{self.code} {self.indicator}".strip()

    @property
    def evidence(self) -> str:
        """All there is to say: what was seen, what to do, what came of doing it."""
        done = f"{self.remedy.sentence}" if self.remedy else ""
        return " ".join(filter(None, (self.sentence, self.advice, done)))

    def to_json(self) -> dict[str, object]:
        """All of it, by name."""
        return {
            "code": self.code,
            "indicator": self.indicator or None,
            "check": self.name,
            "verdict": self.level,
            "evidence": self.sentence,
            "advice": self.advice,
            "remedy": self.remedy.sentence if self.remedy else None,
            "number": self.remedy.number if self.remedy else None,
        }


def grade(count: int, total: int, most: float = LUCK) -> str:
    """Pass where ``count`` is 0, fail where it is more than one example and a share ``most`` of all, else warn."""
    if not count:
        return PASS
    return FAIL if count > max(1.0, most * total) else WARN


def of(count: int, total: int) -> str:
    """``12 of 100``, ``none of 100``, ``all 100``."""
    if count == total and total:
        return f"all {total:,}"
    return f"{count:,} of {total:,}" if count else f"none of {total:,}"


def percent(value: float) -> str:
    """``53.1 %``."""
    return f"{100 * value:.1f} %"
