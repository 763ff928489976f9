"""The stable form of a row of a robustness table: the same fields from an evaluation and from a store. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from advkit.results.statistics import Share

__all__ = ["RowLike", "controls_json", "flat_controls", "row_json"]


class RowLike(Protocol):
    """What a row says of an attack at a radius; ``eps`` is None without attack."""

    @property
    def attack(self) -> str:
        """Its name."""

    @property
    def eps(self) -> str | None:
        """The radius as it was written."""

    @property
    def accuracy(self) -> Share:
        """Right under the attack, of all."""

    @property
    def success(self) -> float:
        """Reached, of the examples that are right without attack."""

    @property
    def median_distance(self) -> float | None:
        """Of the successes."""

    @property
    def forwards(self) -> int:
        """Examples that the model was asked about."""

    @property
    def backwards(self) -> int:
        """Examples that a gradient was taken of."""

    @property
    def seconds(self) -> float:
        """How long it took."""


def row_json(row: RowLike) -> dict[str, Any]:
    """The fields that every row has: accuracies are fractions, radii exact texts."""
    return {
        "attack": row.attack,
        "eps": row.eps,
        "accuracy": row.accuracy.value,
        "low": row.accuracy.low,
        "high": row.accuracy.high,
        "success": row.success,
        "median_distance": row.median_distance,
        "forwards": row.forwards,
        "backwards": row.backwards,
        "seconds": round(row.seconds, 3),
    }


def controls_json(controls: Sequence[tuple[str, Share]]) -> dict[str, object]:
    """The stable form: ``control``, the first of them, and ``controls``, all; nothing where there are none."""
    found = [{"name": name, "success": each.value, "low": each.low, "high": each.high} for name, each in controls]
    return {"control": found[0], "controls": found} if found else {}


def flat_controls(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the stable form for a table: what one row has all have, and the first control has four columns."""
    found = []
    for row in rows:
        flat = {key: value for key, value in row.items() if key not in ("control", "controls")}
        if "control" in row:
            control = row["control"]
            flat["control"] = control["name"]
            flat |= {f"control_{key}": control[key] for key in ("success", "low", "high")}
        found.append(flat)
    keys = dict.fromkeys(key for row in found for key in row)
    return [{key: row.get(key) for key in keys} for row in found]
