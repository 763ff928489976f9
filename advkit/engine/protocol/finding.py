"""What a check answers: a verdict, with its code in the protocol and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from advkit.results.verdicts import FAIL, PASS, WARN, Verdict

__all__ = ["FAIL", "LUCK", "PASS", "UNKNOWN", "WARN", "Answer", "Finding", "counted", "grade", "of"]

UNKNOWN = "unknown"
"""The check does not apply, or could not be made."""

LUCK = 0.01  # of the examples: a difference up to this is put down to random starts


class Answer(NamedTuple):
    """What a check says: pass, warn, fail or unknown, why in one sentence, and what to do where it is no pass."""

    level: str
    sentence: str
    advice: str = ""


@dataclass(frozen=True)
class Finding(Verdict):
    """A check's answer under its name and its code, P1 to P20."""

    code: str
    advice: str

    def to_json(self) -> dict[str, str]:
        """All of it, by name."""
        return {
            "code": self.code,
            "check": self.name,
            "verdict": self.level,
            "evidence": self.sentence,
            "advice": self.advice,
        }


def grade(count: int, total: int, most: float = LUCK) -> str:
    """Pass where ``count`` is 0, fail where it is more than one example and a share ``most`` of all, else warn."""
    if not count:
        return PASS
    return FAIL if count > max(1.0, most * total) else WARN


def counted(count: int, word: str = "example") -> str:
    """``1 example``, ``1,200 examples``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def of(count: int, total: int) -> str:
    """``12 of 100``, ``none of 100``, ``all 100``."""
    if count == total and total:
        return f"all {total:,}"
    return f"{count:,} of {total:,}" if count else f"none of {total:,}"
