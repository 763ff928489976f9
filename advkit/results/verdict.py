"""A verdict on results, and what checks of any kind say it with. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from advkit.numbers import fraction_of

__all__ = ["FAIL", "LUCK", "PASS", "WARN", "Verdict", "counted", "sentence", "size_of", "worst_level"]

PASS, WARN, FAIL = "pass", "warn", "fail"
LUCK = 0.01  # of the examples: a difference up to this is put down to random starts


@dataclass(frozen=True)
class Verdict:
    """What one check says: its name as a fact, pass, warn or fail, and why in one sentence.

    ``code`` is its place in the protocol (P1 to P20), where it has one; ``asked`` says that the models answered it, and
    not the results.
    """

    name: str
    level: str
    sentence: str
    code: str = ""
    asked: bool = False


def worst_level(levels: set[str]) -> str:
    """Fail before warn before pass."""
    return next(level for level in (FAIL, WARN, PASS) if level in levels)


def size_of(eps: str | None) -> float:
    """A radius as a number; 0 for none, NaN for a text that is no number."""
    try:
        return float(fraction_of(eps)) if eps else 0.0
    except (ValueError, ArithmeticError):
        return nan


def counted(count: int, word: str = "example") -> str:
    """``1 example``, ``1,200 examples``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
