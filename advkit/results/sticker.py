"""How often a sticker succeeds: counts of views, and their table. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advkit.results.statistics import Share, share
from advkit.results.table import Table

__all__ = ["Score", "score_table"]

_SHARES = ("digital", "printed", "wrong", "grey")


@dataclass(frozen=True)
class Score:
    """Counts of views: ``seen`` in all, ``right`` without a sticker; of these, how many succeed with it.

    Success is the target, or any wrong class where there is none; ``wrong`` counts any wrong class as printed. ``grey`` is the
    same mask in grey, ``commonest`` the wrong class most often seen as printed (None where there is none).
    """

    title: str
    seen: int
    right: int
    digital: int
    printed: int
    wrong: int
    grey: int
    commonest: int | None = None

    def rate(self, count: int) -> Share | None:
        """A count as a share of the clean views that are right; None where there is none."""
        return share(count, self.right) if self.right else None

    def to_json(self) -> dict[str, Any]:
        """The counts, and the shares with their 95 % intervals (Wilson 1927)."""
        rates = {name: self.rate(getattr(self, name)) for name in _SHARES}
        return asdict(self) | {
            "rates": {name: None if rate is None else rate._asdict() for name, rate in rates.items()}
        }


def score_table(scores: Sequence[Score], classes: Sequence[str], print_model: str, palette: str) -> Table:
    """A row for each set of views."""
    rows = []
    for score in scores:
        cells = [rate.percent if (rate := score.rate(getattr(score, name))) else "-" for name in _SHARES]
        often = score.commonest
        commonest = "-" if often is None else classes[often] if often < len(classes) else str(often)
        rows.append((score.title, f"{score.right} of {score.seen}", *cells, commonest))
    ink = f", palette {palette}" if print_model == "snap" else ""
    return Table(
        heads=("seen", "clean right", "digital", "printed", "wrong, printed", "grey control", "most often read as"),
        rows=tuple(rows),
        align="lrrrrrl",
        caption="Success in % of the views that are right without the sticker, with 95 % intervals; "
        f"printed by {print_model}{ink}.",
    )
