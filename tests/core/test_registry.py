"""Names become values in one place, and every refusal says what would have been right."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import Literal, Optional

import pytest

from advkit import registry as registry_module
from advkit.catalog import ATTACKS, DIRECTIONS, LOSSES
from advkit.core import Chain, CrossEntropy, Direction, Linf, Loss, Margin, Momentum, Nesterov, Smooth
from advkit.errors import InputError, UnknownName, nearest
from advkit.registry import Registry


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A registry over a package on disk, with one public and one private module."""
    package = tmp_path / "toybox"
    package.mkdir()
    (package / "__init__.py").write_text("from toybox.registry_of_toys import TOYS\n")
    (tmp_path / "toybox" / "registry_of_toys.py").write_text(
        "from advkit.registry import Registry\nTOYS = Registry('toy', 'toybox', group='toybox.toys')\n"
    )
    (package / "ball.py").write_text(
        textwrap.dedent(
            '''
            from toybox.registry_of_toys import TOYS

            @TOYS.register("ball", colour="red")
            def ball(size: int = 3, *, weight: float = 1.0):
                """A ball.

                It rolls.
                """
                return ("ball", size, weight)
            '''
        )
    )
    (package / "_hidden.py").write_text("raise RuntimeError('never imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield __import__("toybox").TOYS
    for name in [name for name in sys.modules if name.partition(".")[0] == "toybox"]:
        del sys.modules[name]


def test_a_new_file_is_a_new_entry(toys):
    assert toys.names() == ["ball"]
    assert "ball" in toys
    assert "bat" not in toys
    entry = toys["ball"]
    assert (entry.summary, entry.module, dict(entry.facts)) == ("A ball.", "toybox.ball", {"colour": "red"})
    assert list(entry.settings) == ["size", "weight"]
    assert toys.create("ball") == ("ball", 3, 1.0)
    assert toys.create("ball", size="7", weight=2.5) == ("ball", 7, 2.5)


def test_a_name_is_registered_once(toys):
    toys.names()

    def other() -> None: ...

    other.__module__ = "attacks.ball"
    with pytest.raises(RuntimeError) as refused:
        toys.register("ball")(other)
    assert str(refused.value) == (
        "the toy 'ball' is registered twice, by toybox.ball and by attacks.ball. "
        "Import it as toybox.ball, and under one name only."
    )


def plug(monkeypatch, *points: EntryPoint) -> None:
    def entry_points(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry_module, "entry_points", entry_points)


def test_a_plugin_of_another_package_is_an_entry(toys, tmp_path, monkeypatch):
    (tmp_path / "toybox" / "_plugin.py").write_text(
        "from toybox.registry_of_toys import TOYS\n\n@TOYS.register('kite')\ndef kite():\n    return 'kite'\n"
    )
    plug(
        monkeypatch, EntryPoint("kite", "toybox._plugin", "toybox.toys"), EntryPoint("x", "toybox._hidden", "elsewhere")
    )
    assert toys.names() == ["ball", "kite"]
    assert toys.create("kite") == "kite"


def test_a_broken_plugin_warns_and_takes_nothing_with_it(toys, monkeypatch):
    plug(monkeypatch, EntryPoint("bad", "toybox._hidden", "toybox.toys"))
    with pytest.warns(UserWarning, match=r"the plugin 'bad' \(toybox._hidden\) cannot be loaded: never imported"):
        assert toys.names() == ["ball"]


@pytest.mark.parametrize(
    ("kind", "registry", "name", "message"),
    [
        ("a loss", LOSSES, "zzzzzz", ""),
        ("a loss", LOSSES, "margn", " Did you mean 'margin'?"),
        ("a direction", DIRECTIONS, "nestrov", " Did you mean 'nesterov'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(kind, registry, name, message):
    with pytest.raises(UnknownName) as refused:
        registry.create(name)
    known = ", ".join(registry.names())
    assert str(refused.value) == f"{name!r} is not the name of {kind}.{message} Known: {known}."


def test_of_many_names_those_alike_are_shown():
    with pytest.raises(UnknownName) as refused:
        ATTACKS.create("PDG")
    said = str(refused.value)
    assert said.startswith("'PDG' is not the name of an attack. Did you mean 'pgd'? Known: pgd, apgd")
    assert said.endswith(f" ... ({len(ATTACKS.names())} in all: advkit list attacks).")
    assert "worst-case" not in said


def test_an_unknown_setting_is_answered_with_the_nearest():
    with pytest.raises(InputError) as refused:
        ATTACKS.create("pgd", step="3")
    assert "pgd has no setting 'step'. Did you mean 'steps'? Known: threat, steps," in str(refused.value)
    with pytest.raises(InputError, match="fgsm has no setting 'steps'"):
        ATTACKS.create("fgsm", steps=3)


@dataclass(frozen=True)
class Toy:
    """Every kind of setting."""

    size: int = 1
    weight: float = 1.0
    rolls: bool = False
    colour: Literal["red", "blue"] = "red"
    label: str = ""
    age: float | None = None
    owner: Optional[int] = None  # noqa: UP045
    loss: Loss = field(default_factory=CrossEntropy)
    direction: Direction = field(default_factory=Momentum)


@dataclass(frozen=True)
class Heir(Toy):
    extra: int = 0


@pytest.fixture
def one() -> Registry:
    registry: Registry = Registry("toy", "tests_have_no_package")
    registry._loaded = True
    registry.register("toy")(Toy)
    registry.register("heir")(Heir)
    return registry


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("size", "12", 12),
        ("weight", "8/255", 8 / 255),
        ("weight", "1e-3", 1e-3),
        ("rolls", "true", True),
        ("rolls", "No", False),
        ("rolls", "1", True),
        ("colour", "blue", "blue"),
        ("label", "8/255", "8/255"),
        ("age", "none", None),
        ("age", "1/4", 0.25),
        ("owner", "none", None),
        ("owner", "3", 3),
        ("loss", "margin", Margin()),
        ("direction", "smooth+nesterov", Chain((Smooth(), Nesterov()))),
    ],
)
def test_a_text_is_read_by_the_declared_type(one, setting, text, value):
    read = getattr(one.create("toy", **{setting: text}), setting)
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("size", "many", "toy: size is 'many'; give a whole number."),
        ("size", "none", "toy: size is 'none'; give a whole number."),
        ("weight", "1/0", "toy: weight is '1/0'; give a number such as 0.1 or 8/255."),
        ("rolls", "perhaps", "toy: rolls is 'perhaps'; give true or false."),
        ("colour", "blu", "toy: colour is 'blu'; Did you mean 'blue'? allowed: red, blue."),
        ("loss", "cee", "'cee' is not the name of a loss. Did you mean 'ce'?"),
    ],
)
def test_a_text_that_cannot_be_read_is_echoed_with_what_is_allowed(one, setting, text, message):
    with pytest.raises(InputError) as refused:
        one.create("toy", **{setting: text})
    assert str(refused.value).startswith(message)


def test_a_value_that_is_no_text_is_taken_as_it_is(one):
    assert one.create("toy", weight=2, loss=Margin()).loss == Margin()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("size", 1.5, "toy: size is 1.5; give a whole number."),
        ("size", True, "toy: size is true; give a whole number."),
        ("weight", False, "toy: weight is false; give a number such as 0.1 or 8/255."),
        ("age", (1, 2), "toy: age is (1, 2); give a number such as 0.1 or 8/255."),
        ("rolls", 1, "toy: rolls is 1; give true or false."),
        ("colour", 3, "toy: colour is 3; allowed: red, blue."),
        ("label", 3, "toy: label is 3; give a text."),
        ("loss", 3, "toy: loss is 3; give the name of a loss."),
    ],
)
def test_a_value_of_another_type_is_refused(one, setting, value, message):
    with pytest.raises(InputError) as refused:
        one.create("toy", **{setting: value})
    assert str(refused.value) == message


def test_a_whole_number_becomes_a_number_where_one_is_declared(one):
    assert repr(one.create("toy", weight=2, age=3)) == repr(Toy(weight=2.0, age=3.0))


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("toy", Toy()),
        ("toy:", Toy()),
        ("toy:3", Toy(3)),
        ("toy:3,1/2,rolls=yes", Toy(3, 0.5, True)),
        ("toy:label=a=b", Toy(label="a=b")),
        ("toy:1,1,no,red,file:///a?b=c", Toy(label="file:///a?b=c")),
    ],
)
def test_a_text_names_the_thing_and_its_settings_by_place_or_name(one, text, made):
    assert one.build(text) == made


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ty:3", "'ty' is not the name of a toy. Did you mean 'toy'?"),
        ("toy:sise=3", "toy has no setting 'sise'. Did you mean 'size'?"),
        ("toy:3,size=3", "the toy 'toy:3,size=3' says size twice; say it once."),
        ("toy:" + "1," * 10, "has more settings than toy takes (9: size, weight,"),
    ],
)
def test_a_text_that_describes_nothing_is_answered_with_what_is_wrong(one, text, message):
    with pytest.raises(InputError) as refused:
        one.build(text)
    assert message in str(refused.value)


def test_the_name_of_a_value_is_its_entrys(one):
    assert one.name_of(Toy()) == "toy"
    assert one.name_of(Heir()) == "heir"
    assert one.name_of(3) == "int"
    assert LOSSES.name_of(Margin()) == "margin"


def test_every_attack_is_made_with_any_of_its_settings_written_as_text():
    for entry in ATTACKS.entries():
        for name, parameter in entry.settings.items():
            if isinstance(parameter.default, bool | int | float):
                text = str(parameter.default).lower()
                made = entry.create(**{name: text})
                assert made == entry.create()
        assert entry.summary.endswith(".")
        assert "paper" in entry.facts


def test_a_setting_of_an_attack_is_read_across_modules():
    attack = ATTACKS.create("mi-fgsm", steps="7", step_size="1/4", loss="dlr", threat=Linf("4/255"))
    assert (attack.steps, attack.step_size, LOSSES.name_of(attack.loss)) == (7, 0.25, "dlr")


def test_nearest_says_nothing_where_nothing_is_near():
    assert nearest("pdg", ["pgd"]) == " Did you mean 'pgd'?"
    assert nearest("resnet", ["pgd"]) == ""
