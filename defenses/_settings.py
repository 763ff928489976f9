"""Settings of training objectives, checked where they enter, by sentences."""

from __future__ import annotations

from advkit.attacks.pgd import PGD
from advkit.core.threat import Ball
from advkit.errors import InputError

__all__ = ["above", "at_least", "gradient_ball", "share", "side_in_pixels"]


def above(name: str, **numbers: float) -> None:
    """Refuse numbers that are not above 0."""
    for key, number in numbers.items():
        if not number > 0:
            raise InputError(f"{name}: {key} is {number}; give a number above 0.")


def at_least(name: str, least: int, **numbers: float) -> None:
    """Refuse numbers below ``least``."""
    for key, number in numbers.items():
        if not number >= least:
            raise InputError(f"{name}: {key} is {number}; give {least} or more.")


def share(name: str, **numbers: float) -> None:
    """Refuse shares of a training that are not from 0 to below 1."""
    for key, number in numbers.items():
        if not 0 <= number < 1:
            raise InputError(f"{name}: {key} is {number}; give a share of the training from 0 to below 1.")


def gradient_ball(name: str, threat: Ball) -> None:
    """Refuse a ball in which a gradient step is none, such as L0."""
    if not isinstance(threat, PGD.balls):
        names = ", ".join(ball.__name__ for ball in PGD.balls)
        raise InputError(f"{name} works in {names}, not in {type(threat).__name__}.")


def side_in_pixels(side: float, extent: int) -> int:
    """A side given in pixels or, below 1, as a share of the picture's extent; at least a pixel, at most the extent."""
    return min(extent, max(1, round(side * extent if side < 1 else side)))
