"""What each model of a sweep was asked before it was attacked, and what its answers say of all its numbers. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Asked"]


@dataclass(frozen=True)
class Asked:
    """A question of the protocol to one model behind its defense: code (P1 to P20), level (pass, warn or fail), evidence."""

    code: str
    name: str
    level: str
    sentence: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """The stable form, as it stands in the store."""
        return {
            "code": self.code,
            "check": self.name,
            "verdict": self.level,
            "evidence": self.sentence,
            "advice": self.advice,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Asked:
        """Read back. Raises KeyError where something is missing."""
        return cls(found["code"], found["check"], found["verdict"], found["evidence"], found["advice"])
