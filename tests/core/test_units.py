from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

from advkit.core import Eps, Linf
from advkit.errors import InputError


@pytest.mark.parametrize(
    ("written", "value", "exact", "label"),
    [
        ("8/255", 8 / 255, "8/255", "8/255 (0.0314)"),
        (8 / 255, 8 / 255, "8/255", "8/255 (0.0314)"),
        ("8px", 8 / 255, "8/255", "8/255 (0.0314)"),
        (" 8 px", 8 / 255, "8/255", "8/255 (0.0314)"),
        ("2.5px", 2.5 / 255, "1/102", "1/102 (0.0098)"),
        (Fraction(8, 255), 8 / 255, "8/255", "8/255 (0.0314)"),
        ("0.031", 0.031, "0.031", "0.031"),
        (0.031, 0.031, "0.031", "0.031"),
        ("1/3", 1 / 3, "1/3", "1/3 (0.333)"),
        (1 / 7, 1 / 7, "1/7", "1/7 (0.143)"),
        (1 / 3, 1 / 3, "85/255", "85/255 (0.333)"),
        (0.1 + 0.2, 0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
        (12, 12.0, "12", "12"),
        ("inf", math.inf, "inf", "inf"),
        (math.inf, math.inf, "inf", "inf"),
    ],
)
def test_a_radius_is_read_exactly_and_remembers_how_it_is_written(written, value, exact, label):
    eps = Eps(written)
    assert float(eps) == value
    assert (eps.exact, repr(eps), eps.label) == (exact, exact, label)


@pytest.mark.parametrize("k", range(1, 256))
def test_every_grey_level_is_recognised(k):
    assert Eps(k / 255) == Eps(f"{k}px") == Eps(f"{k}/255") == k / 255
    assert float(Fraction(Eps(k / 255).exact)) == k / 255


WRITTEN = ["8/255", "2.5px", "0.031", "1e-9", 0.1 + 0.2, math.pi, 1 / 3, np.float32(8 / 255), Fraction(1, 7), math.inf]


@pytest.mark.parametrize("written", WRITTEN, ids=str)
def test_a_copy_is_the_same_radius(written):
    eps = Eps(written)
    for again in (pickle.loads(pickle.dumps(eps)), copy.copy(eps), copy.deepcopy(eps), Eps(eps), Eps(eps.exact)):  # noqa: S301
        assert type(again) is Eps
        assert float(again) == float(eps)
        assert again.exact == eps.exact
    assert pickle.loads(pickle.dumps(Linf(0.5))) == Linf(0.5)  # noqa: S301


def test_a_float32_radius_is_not_taken_for_the_fraction_it_was_rounded_from():
    eps = Eps(np.float32(8 / 255))
    assert float(eps) != 8 / 255
    assert float(Fraction(eps.exact)) == float(eps)


@pytest.mark.parametrize("written", ["8/255", 8 / 255, 0.5, 0.1, "1/3", 12, 0.03, math.inf])
def test_a_radius_that_is_meant_raises_no_doubt(written):
    assert Eps(written).doubt is None


def test_a_rounded_grey_level_is_doubted_by_a_sentence():
    assert Eps(0.031).doubt == ("eps 0.031 is 7.905/255, not 8/255 (0.03137): write 8/255 if that is what you mean.")
    assert "not 8/255" in (Eps(0.0314).doubt or "")
    assert (Eps("0.0313725").doubt or "").startswith("eps 0.0313725 is 7.99999/255, not 8/255")
    assert "not 4/255" in (Eps("0.0157").doubt or "")


@pytest.mark.parametrize("written", ["", "px", "8/0", "abc", "nan", "8 255", "1e400", "--8", "1e-400", "1e1000000000"])
def test_a_text_that_is_no_radius_is_echoed_with_what_is_allowed(written):
    with pytest.raises(InputError) as refused:
        Eps(written)
    assert str(refused.value) == (
        f"eps is {written!r}; write a fraction (8/255), a number of grey levels (8px), a percentage (5%) "
        "or a decimal (0.031)."
    )


@pytest.mark.parametrize("value", [-1, "-8/255", math.nan, -math.inf, Fraction(-1, 2)])
def test_a_radius_is_not_below_zero(value):
    with pytest.raises(InputError, match="it must be 0 or more, for example 8/255"):
        Eps(value)


@pytest.mark.parametrize("value", [True, None, [1], 1j, object()])
def test_a_radius_is_a_number_or_a_text(value):
    with pytest.raises(InputError, match="give a number, such as 8 / 255, or a text"):
        Eps(value)


def test_a_number_of_ten_thousand_digits_is_no_radius():
    for value in (10**10_000, "9" * 10_000, "1/" + "9" * 10_000):
        with pytest.raises(InputError, match="eps is") as refused:
            Eps(value)
        assert len(str(refused.value)) < 250


def test_a_radius_of_nothing_is_kept_exactly():
    assert [Eps(value).exact for value in (0, "0", 0.0)] == ["0", "0", "0"]


def test_arithmetic_with_a_radius_is_that_of_a_float():
    assert type(Eps("8/255") * 2) is float
    assert Eps("8/255") * 255 == pytest.approx(8)


def test_a_percentage_is_a_share():
    assert (Eps("5%"), Eps("5%").exact, Eps("12.5 %").exact, Eps("100%").exact) == (0.05, "0.05", "0.125", "1")
    assert Eps(Eps("0.5%").exact) == Eps("0.5%") == 0.005
    with pytest.raises(InputError, match="it must be 0 or more"):
        Eps("-1%")
