"""Settings of the wrong type, infinite ones and endless counts are refused, whatever they are settings of."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from advkit.attacks.pgd import PGD
from advkit.catalog import ATTACKS, DEFENSES, DIRECTIONS, LOSSES
from advkit.core import L1, Linf
from advkit.errors import InputError
from advkit.registry import Checked, Entry


def _numbers(wanted: type) -> Iterator[tuple[str, Entry[Any], str, Any]]:
    """Every setting of a plain type of everything that is registered."""
    for registry in (ATTACKS, DEFENSES, DIRECTIONS, LOSSES):
        for entry in registry.entries():
            if not dataclasses.is_dataclass(entry.factory):
                continue
            hints = typing.get_type_hints(entry.factory)
            for each in dataclasses.fields(entry.factory):
                if each.init and hints[each.name] in (wanted, wanted | None):
                    yield f"{entry.name}: {each.name}", entry, each.name, each.default


@pytest.mark.parametrize(("title", "entry", "name", "default"), list(_numbers(int)), ids=lambda value: str(value)[:40])
def test_a_count_is_a_whole_number_that_a_loop_can_reach(title: str, entry: Entry[Any], name: str, default: Any):
    for wrong in (2.5, True, "3", math.nan, 10**20, 10**5000):
        with pytest.raises(InputError) as refused:
            entry.factory(**{name: wrong})
        said = str(refused.value)
        assert f": {name} is " in said, said
        assert len(said) < 300


@pytest.mark.parametrize(
    ("title", "entry", "name", "default"), list(_numbers(float)), ids=lambda value: str(value)[:40]
)
def test_a_number_is_finite(title: str, entry: Entry[Any], name: str, default: Any):
    wrong = (math.inf, -math.inf, math.nan) if default != math.inf else ()
    for value in (*wrong, True, "0.1", [0.1]):
        with pytest.raises(InputError, match=f": {name} is "):
            entry.factory(**{name: value})


def test_everything_that_is_registered_checks_its_settings():
    for registry in (ATTACKS, DEFENSES, DIRECTIONS, LOSSES):
        for entry in registry.entries():
            made = entry.factory
            assert not dataclasses.is_dataclass(made) or issubclass(made, Checked), entry.name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: PGD(threat=8 / 255), "PGD: threat is 0.03137254901960784; give a Ball."),
        (lambda: PGD(loss="ce"), "PGD: loss is 'ce'; give a Loss."),
        (lambda: PGD(random_start=1), "PGD: random_start is 1; give true or false."),
        (lambda: Linf(True), "eps is True; give a number"),
        (lambda: L1(12, share="x"), "L1: share is 'x'; give a number"),
        (lambda: dataclasses.replace(PGD(), steps=2.5), "PGD: steps is 2.5; give a whole number."),
    ],
)  # fmt: skip
def test_values_of_another_kind_are_refused(make: Any, said: str):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(said)


def test_a_setting_of_any_type_is_taken_as_it_is():
    @dataclasses.dataclass(frozen=True)
    class Own(Checked):
        held: Any
        maybe: Any | None = None

    assert Own(object(), 3).maybe == 3


def test_numbers_of_numpy_are_numbers():
    assert PGD(steps=np.int64(3), step_size=np.float32(0.5)).steps == 3  # type: ignore[arg-type]


def test_a_class_of_the_callers_own_is_checked_too():
    @dataclasses.dataclass(frozen=True)
    class Own(PGD):
        momentum: float = 0.9

        def __post_init__(self) -> None:
            super().__post_init__()
            assert self.momentum < 1  # never met by what is no number

    assert Own().momentum == 0.9
    with pytest.raises(InputError, match="Own: momentum is 'x'; give a number"):
        Own(momentum="x")  # type: ignore[arg-type]
