"""Which class a targeted attack aims at: a rule, applied to each example."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError, nearest

__all__ = ["RULES", "choose_targets"]

RULES = ("next", "random", "least-likely")


def choose_targets(rule: str, labels: Tensor, logits: Tensor, rng: Rng, classes: Sequence[str]) -> Tensor:
    """A target (B,) for each example, by ``next`` class, ``random`` other class, ``least-likely`` class, or one class by
    name or number. Raises InputError where a target equals the label: such an attack has nothing to do.
    """
    count = logits.shape[1]
    if rule == "next":
        return (labels + 1) % count
    if rule == "random":
        return (labels + 1 + rng.fold("target").integers(count - 1)) % count
    if rule == "least-likely":
        own = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True)
        return logits.masked_fill(own, torch.inf).argmin(1)
    return torch.full_like(labels, class_number(rule, classes, count))


def class_number(text: str, classes: Sequence[str], count: int, *, rules: bool = True) -> int:
    """The index of a class given by name or number; ``rules`` says whether a rule would have been possible too."""
    if text in classes:
        return list(classes).index(text)
    if text.isascii() and text.isdigit() and int(text) < count:
        return int(text)
    if classes and text.lower() in (lower := [name.lower() for name in classes]) and lower.count(text.lower()) == 1:
        return lower.index(text.lower())
    rule = f"a rule ({', '.join(RULES)}), " if rules else ""
    raise InputError(
        f"{text!r} is no class here.{nearest(text, (*classes, *(RULES if rules else ())))} "
        f"Give {rule}a class number from 0 to {count - 1}, or a class name."
    )
