"""What attacks refuse alike."""

from __future__ import annotations

from advkit.core.attack import Attack
from advkit.errors import InputError

__all__ = ["check_ball", "check_least"]


def check_ball(attack: Attack) -> None:
    """Raises InputError where the attack does not work in its ball."""
    if not isinstance(attack.threat, attack.balls):
        names = ", ".join(ball.__name__ for ball in attack.balls)
        raise InputError(f"{type(attack).__name__} works in {names}, not in {type(attack.threat).__name__}.")


def check_least(attack: Attack, **least: int) -> None:
    """Raises InputError where a setting is below its least value: ``check_least(self, steps=1)``."""
    for name, bound in least.items():
        if getattr(attack, name) < bound:
            raise InputError(f"{type(attack).__name__}: {name} is {getattr(attack, name)}; give {bound} or more.")
