"""Numbers as people write them."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest

from advkit.numbers import fraction_of, shortened, whole_of
from advkit.registry import Entry


def test_what_people_write_is_read_exactly():
    assert [fraction_of(text) for text in ("8/255", "0.1", " 1e-3 ", "-2")] == [
        Fraction(8, 255), Fraction(1, 10), Fraction(1, 1000), Fraction(-2)
    ]  # fmt: skip
    assert whole_of("-40") == -40


@pytest.mark.parametrize(
    "text",
    ["inf", "nan", "", "x", "1/0", "1e400", "1e-400", "1e1000000000", "1e-1000000000", "9" * 10_000, "1e+0009999"],
)
def test_what_no_float_holds_is_refused_at_once(text: str):
    began = time.monotonic()
    with pytest.raises((ValueError, ArithmeticError)):
        fraction_of(text)
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("text", ["1.5", "9" * 10_000, str(2**63), "x"])
def test_what_is_no_whole_number_of_64_bits_is_refused(text: str):
    with pytest.raises(ValueError, match=r"\w"):
        whole_of(text)


def test_a_sentence_stays_a_sentence():
    assert shortened("ab") == "'ab'"
    assert max(len(shortened(value)) for value in ("x" * 10**6, 10**10_000, list(range(10**4)))) <= 64


@pytest.mark.parametrize("text", ["9" * 10_000, "1e1000000000", "1e400", "100000000000000000000"])
def test_settings_as_texts_are_read_by_the_same_rules(text: str):
    def make(steps: int = 1, rate: float = 1.0) -> tuple[int, float]:
        return steps, rate

    for name in ("steps", "rate"):
        if name == "rate" and text == "100000000000000000000":
            continue
        with pytest.raises(ValueError, match=f"it: {name} is .*give"):
            Entry("it", make, "here").create(**{name: text})
