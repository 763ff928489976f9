"""Radii as people write them: ``8/255``, ``8px``, ``5%``, ``0.031``; kept exactly, echoed as ``8/255 (0.0314)``."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction

from advkit.errors import InputError
from advkit.numbers import fraction_of, shortened

__all__ = ["Eps"]

_SHORT = 6  # a decimal of up to this many characters (0.0314) is what somebody wrote, not what a division left


class Eps(float):
    """A radius: a float that remembers how it is written exactly (``.exact``).

    Takes a text (``8/255``, ``8px`` for 8 of 255 grey levels, ``5%``, ``0.031``, ``inf``), a fraction or a number; a
    number that equals k/255 is recognised. Raises InputError where the text is none of these or the value is below 0. A
    radius of 0 leaves the clean picture alone.
    """

    exact: str

    def __new__(cls, value: str | float | Fraction) -> Eps:
        """Read the value once; arithmetic with it is a float's."""
        if isinstance(value, Eps):
            return value
        if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
            raise InputError(f"eps is {shortened(value)}; give a number, such as 8 / 255, or a text, such as '8/255'.")
        try:
            exact, number = _read(value) if isinstance(value, str) else (_write(value), float(value))
        except OverflowError:
            raise InputError(f"eps is {shortened(value)}; no float is as large.") from None
        if not number >= 0:  # also false for NaN
            raise InputError(f"eps is {value}; it must be 0 or more, for example 8/255 (in Linf) or 0.5 (in L2).")
        made = super().__new__(cls, number)
        made.exact = exact
        return made

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]
        return (self.exact,)

    def __repr__(self) -> str:
        return self.exact

    @property
    def label(self) -> str:
        """The exact form and, where that is not a decimal, the decimal: ``8/255 (0.0314)``."""
        return f"{self.exact} ({float(self):.3g})" if "/" in self.exact else self.exact

    @property
    def doubt(self) -> str | None:
        """A sentence where the value is a rounded k/255 that somebody probably meant to be exact."""
        levels = self * 255
        k = round(levels) if math.isfinite(levels) else 0
        if "/" in self.exact or not 1 <= k <= 32 or not 0 < abs(levels - k) < 0.15:
            return None
        told = next(text for digits in range(4, 18) if (text := f"{levels:.{digits}g}") != str(k))
        return f"eps {self.exact} is {told}/255, not {k}/255 ({k / 255:.5f}): write {k}/255 if that is what you mean."


def _read(text: str) -> tuple[str, float]:
    text = text.strip()
    try:
        if text.endswith("px"):
            levels = fraction_of(text[:-2])
            return f"{levels}/255" if levels.denominator == 1 else str(levels / 255), float(levels / 255)
        if text.endswith("%"):
            share = float(fraction_of(text[:-1]) / 100)
            return _write(share), share
        if text in ("inf", "infinity"):
            return "inf", math.inf
        return text, float(fraction_of(text))
    except (ValueError, ArithmeticError):
        raise InputError(
            f"eps is {shortened(text)}; write a fraction (8/255), a number of grey levels (8px), a percentage (5%) "
            "or a decimal (0.031)."
        ) from None


def _write(value: float | Fraction) -> str:
    if isinstance(value, Fraction):
        return str(value)
    value = float(value)  # a float32 of numpy compares equal to 8/255 without being it
    short = f"{value:g}"
    if not math.isfinite(value) or (float(short) == value and len(short) <= _SHORT):
        return short
    if float(Fraction(round(value * 255), 255)) == value:
        return f"{round(value * 255)}/255"
    simple = Fraction(value).limit_denominator(1000)
    return str(simple) if float(simple) == value else repr(float(value))
