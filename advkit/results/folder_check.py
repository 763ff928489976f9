"""What reading everything in a folder came to."""

from __future__ import annotations

from dataclasses import dataclass, field

from advkit.results.sealed import Broken

__all__ = ["FolderCheck"]


@dataclass
class FolderCheck:
    """What reading everything came to: what does not hold, what is only unfinished, and what no checksum covers."""

    what: str  # what was counted
    whole: int = 0
    broken: list[Broken] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    uncovered: int = 0

    def lines(self) -> list[str]:
        """The report as text."""
        old = (
            "are of before there were checksums over whole files, and are not covered: a change there may go unnoticed"
        )
        return [
            *(f"{each.kind:8} {each}" for each in self.broken),
            *(f"note     {note}" for note in self.notes),
            *([f"note     {self.uncovered:,} of {self.whole:,} {self.what} {old}."] if self.uncovered else []),
            f"{self.whole:,} {self.what} are whole, {len(self.broken):,} files are not as they should be.",
        ]
