"""Controls of an attack: the same thing at a random place, a grey piece; run beside it on the examples that are right."""

from __future__ import annotations

from torch import Tensor

from advkit.core.attack import Attack
from advkit.engine.examples import Source
from advkit.engine.passes import Passes
from advkit.engine.search import search

__all__ = ["run_controls"]


def run_controls(
    attack: Attack, passes: Passes, source: Source, clean: Tensor, labels: Tensor, seed: int
) -> dict[str, Tensor]:
    """For each control, by name, which of the N examples it beats, (N,) bool on the CPU.

    It meets every example that is right without attack, also those that an attack before it has beaten: so its success is
    a share of the same examples as the attack's. ``passes`` are of the model that is defended.
    """
    right = (clean == labels)[None]
    return {
        name: search([control], passes, source, right, clean, labels, seed=seed).success[0] & right[0]
        for name, control in attack.controls()
    }
