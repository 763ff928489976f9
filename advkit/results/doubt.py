"""A reason not to believe a number, as it stands under the table that the number is in."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Doubt"]


@dataclass(frozen=True)
class Doubt:
    """A check that an evaluation does not pass: its code in the protocol (P1 to P20), the evidence, and what to do."""

    code: str
    sentence: str
    advice: str

    def __str__(self) -> str:
        return f"doubt {self.code}: {self.sentence} {self.advice}"

    def to_json(self) -> dict[str, str]:
        """The stable form."""
        return {"code": self.code, "sentence": self.sentence, "advice": self.advice}
