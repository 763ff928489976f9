"""Numbers as people write them: read exactly, and none that would take long to read."""

from __future__ import annotations

import re
from fractions import Fraction

__all__ = ["MOST", "fraction_of", "shortened", "whole_of"]

MOST = 10**9
"""Of anything that is counted (steps, restarts, queries): a loop over more would not end."""

_LONGEST = 64  # characters; 1/3 in float64 has 20
_EXPONENT = re.compile(r"[eE][+-]?0*\d{4}")  # 1e1000000000 would be written out, digit by digit


def fraction_of(text: str) -> Fraction:
    """``8/255``, ``0.1``, ``1e-3``. Raises ValueError for anything else, inf and nan among it, ZeroDivisionError for 1/0."""
    if len(text) > _LONGEST or _EXPONENT.search(text):
        raise ValueError("a number of too many digits")
    found = Fraction(text)
    # Where no float is as large, that is an OverflowError: an ArithmeticError, as ZeroDivisionError.
    if found and not float(found):
        raise ValueError("no float is as small")
    return found


def whole_of(text: str) -> int:
    """``40``. Raises ValueError for anything else, and for what has more than 64 bits."""
    if len(text) > _LONGEST:
        raise ValueError("a number of too many digits")
    found = int(text)
    if not -(2**63) <= found < 2**63:
        raise ValueError("a number of more than 64 bits")
    return found


def shortened(value: object) -> str:
    """A value as Python writes it, in a sentence: of what is long, the beginning."""
    try:
        said = repr(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        return "a number of thousands of digits"
    return said if len(said) <= _LONGEST else f"{said[: _LONGEST - 4]} ..."
