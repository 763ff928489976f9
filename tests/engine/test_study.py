"""Study files: what a file asks for, how a wrong one is refused, and that writing and reading are inverse."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import linear
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.attacks import PGD
from advkit.data import load_data
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.study import parse_study, read_study, write_study
from advkit.engine.sweep import Sweep
from advkit.engine.toml import toml_table, toml_value
from advkit.errors import InputError
from advkit.trust import Trust

MODEL = '[[model]]\nmodel = "resnet"\n'
ATTACK = '[[attack]]\nattack = "pgd"\n'
EPS = '[study]\neps = "8/255"\n'

TRUST = Trust.of("my.module:net")
WHOLE = """
[study]
data = "signs"
samples = 500
norm = "L2"
eps = ["0.25,0.5", 1]
defenses = ["none", "jpeg:75"]
seed = 3
target = "next"
independent = true
transfer = true
against = "oblivious"
precision = "mixed"
shard = 32
batch-size = 64
device = "cpu"
pictures = 4
exclude = ["stop", 2]
[data]
size = 48
[[model]]
name = "robust"
model = "resnet"
weights = "adversarial"
normalize = "0.5,0.4,0.3:0.2,0.2,0.2"
seed = 7
[[model]]
model = "my.module:net"
settings = { width = 64, depths = [2, 2] }
[[surrogate]]
model = "lenet"
[[attack]]
attack = "pgd"
label = "strong"
steps = 100
step-size = 1
loss = "margin"
[[attack]]
attack = "worst-case"
"""

FULL = Sweep(
    models=(
        ModelSpec("resnet", "adversarial", "0.5,0.4,0.3:0.2,0.2,0.2", seed=7, name="robust"),
        ModelSpec("my.module:net", settings=(("depths", (2, 2)), ("width", 64)), seed=3),
    ),
    attacks=(
        AttackSpec("pgd", (("loss", "margin"), ("step_size", 1), ("steps", 100)), "strong"),
        AttackSpec("worst-case"),
    ),
    radii=("0.25", "0.5", "1"),
    data=DataSpec("signs", (("size", 48),), ("stop", "2")),
    norm="l2",
    defenses=("none", "jpeg:75"),
    samples=500,
    goal="next",
    seed=3,
    independent=True,
    transfer=True,
    against="oblivious",
    surrogates=(ModelSpec("lenet", seed=3),),
    precision="mixed",
    shard=32,
    batch_size=64,
    device="cpu",
    keep_pictures=4,
)


def test_every_key_of_a_study_reaches_the_sweep():
    assert parse_study(WHOLE, trust=TRUST) == FULL
    untold = {f.name for f in dataclasses.fields(Sweep) if getattr(FULL, f.name) == f.default} | {"about"}
    assert untold == {"command", "device", "about", "trust"}, "a field of Sweep that no study can say"


def test_a_study_needs_only_a_radius_a_model_and_an_attack():
    found = parse_study(EPS + MODEL + ATTACK)
    assert replace(found, device="cpu") == Sweep((ModelSpec("resnet"),), (AttackSpec("pgd"),), ("8/255",))


def test_samples_may_be_all_of_them():
    found = parse_study(f'{EPS}samples = "all"\n{MODEL}{ATTACK}')
    assert found.samples is None
    assert parse_study(write_study(found), trust=found.trust) == found


def test_models_that_differ_in_weights_are_named_by_them():
    text = f'{MODEL}weights = "standard"\n{MODEL}weights = "adversarial"\n'
    found = parse_study(EPS + text + ATTACK)
    assert [spec.name for spec in found.models] == ["resnet@standard", "resnet@adversarial"]


def test_a_number_of_a_study_makes_the_same_attack_as_a_text():
    (number,), (text,) = (
        parse_study(f"{EPS}{MODEL}{ATTACK}step_size = {value}\nsteps = {steps}\n").attacks
        for value, steps in (("1", "7"), ('"1"', '"7"'))
    )
    ball = PGD().threat
    assert repr(number.stages(ball)) == repr(text.stages(ball))


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize(
    "sweep",
    [
        FULL,
        replace(FULL, goal="untargeted", samples=None, data=DataSpec(), shard=None, batch_size=None),
        replace(
            FULL,
            goal="3",
            defenses=("jpeg:quality=50+bits:4",),
            radii=("8/255", "inf"),
            norm="l2",
            attacks=(AttackSpec("ddn"),),
        ),
        replace(FULL, models=(ModelSpec("lenet", "random", "none", (), 3, 'a "quoted"\\ name\n\x7f\t€'),)),
        replace(FULL, attacks=(AttackSpec("pgd", (("step_size", 1e-05),)),) * 2),
        replace(FULL, attacks=(AttackSpec("pgd", (("steps", "7"),), "="), AttackSpec("fgsm"))),
    ],
)
def test_a_written_study_reads_back_as_the_same_sweep(sweep: Sweep):
    text = write_study(sweep)
    assert parse_study(text, trust=TRUST) == sweep
    assert write_study(parse_study(text, trust=TRUST)) == text


def test_what_was_noted_of_a_sweep_is_not_part_of_its_study():
    noted = replace(FULL, command="advkit sweep", about={"study": "..."})
    assert parse_study(write_study(noted), trust=TRUST) == FULL


@pytest.mark.parametrize(
    "made",
    [
        {"models": (ModelSpec("Sequential", made=linear()),)},
        {"attacks": (AttackSpec("pgd", made=PGD()),)},
        {"data": DataSpec("own", made=load_data("signs"))},
    ],
)
def test_what_was_made_in_python_cannot_be_written(made):
    with pytest.raises(InputError, match="was made in Python"):
        write_study(replace(FULL, **made))


texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False)


@given(st.dictionaries(texts, plain | st.lists(plain) | st.dictionaries(texts, plain)))
@settings(max_examples=200, deadline=None)
def test_a_written_table_is_read_by_the_standard_library(rows):
    read = tomllib.loads(toml_table("[x]", rows))["x"]
    assert read == rows
    assert repr(read) == repr(rows)


def test_toml_has_no_none_but_the_text_that_settings_read_so():
    assert toml_value(None) == '"none"'
    assert toml_table("[x]", {"a": None}) == "[x]\n"


# ------------------------------------------------------------------ paths


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study's files, seen from another one."""
    (tmp_path / "here").mkdir()
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    pictures = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "study" / "own.npz", x=pictures, y=np.arange(2))
    np.savez(tmp_path / "here" / "mine.npz", x=pictures, y=np.arange(2))
    (tmp_path / "study" / "net.py").write_text("def tiny(): ...\n")
    (tmp_path / "study" / "w.safetensors").touch()
    (tmp_path / "study" / "lenet").mkdir()
    (tmp_path / "study" / "adversarial").mkdir()
    return tmp_path / "study"


def study_with(place: Path, data: str, model: str, weights: str) -> Sweep:
    file = place / "s.toml"
    text = f'[study]\neps = 0.1\ndata = "{data}"\n[[model]]\nmodel = "{model}"\nweights = "{weights}"\n{ATTACK}'
    file.write_text(text)
    return read_study(file, Trust.of(f"{file.parent}/{model}"))


def test_paths_are_relative_to_the_study(place: Path):
    found = study_with(place, "own.npz", "net.py:tiny:3", "w.safetensors")
    assert found.data.name == str(place / "own.npz")
    assert found.models[0].model == f"{place / 'net.py'}:tiny:3"
    assert found.models[0].weights == str(place / "w.safetensors")
    assert found.models[0].name == "net.py:tiny:3@w.safetensors", "tables show what was written"


def test_paths_that_are_not_there_are_relative_to_the_current_folder(place: Path):
    found = study_with(place, "mine.npz", "lenet", "adversarial")
    assert (found.data.name, found.models[0].model, found.models[0].weights) == ("mine.npz", "lenet", "adversarial")


def test_in_the_current_folder_paths_stay_as_they_are_written(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(place)
    found = study_with(Path(), "own.npz", "net.py:tiny", "w.safetensors")
    assert (found.data.name, found.models[0].model) == ("own.npz", "net.py:tiny")


def test_a_study_written_down_means_the_same_from_anywhere(place: Path):
    found = study_with(place, "own.npz", "net.py:tiny:3", "w.safetensors")
    assert parse_study(write_study(found), trust=found.trust) == found


# ------------------------------------------------------------------ refusals


def wrong(key: str) -> str:
    return f"{EPS}{key}\n{MODEL}{ATTACK}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[study", "it is not TOML: "),
        ("", "[study]: eps is missing; give the radii"),
        (f'[studdy]\neps = "8/255"\n{MODEL}{ATTACK}', "there is no key 'studdy' here. Did you mean 'study'? Known: study,"),
        (f'norm = "linf"\n{EPS}{MODEL}{ATTACK}', "there is no key 'norm' here. It belongs under [study]."),
        (f'data = "signs"\n{EPS}{MODEL}{ATTACK}', 'data is "signs"; give one table of settings, written [data]'),
        (wrong("sampels = 5"), "[study]: there is no key 'sampels' here. Did you mean 'samples'?"),
        (wrong('samples = "many"'), '[study]: samples is "many"; give a whole number of 1 or more, or "all".'),
        (wrong("samples = 0"), "[study]: samples is 0; give a whole number"),
        (wrong("samples = true"), "[study]: samples is true; give a whole number"),
        (wrong("batch-size = 3\nbatch_size = 4"), "[study]: batch_size is given twice, once with a dash; give it once."),
        (wrong("seed = -1"), "[study]: seed is -1; give a whole number from 0"),
        (wrong("independent = 1"), "[study]: independent is 1; give true or false."),
        (wrong("defenses = []"), '[study]: defenses is []; give a text such as "jpeg:75"'),
        (wrong('defenses = "jepg"'), "[study]: 'jepg' is not the name of a defense. Did you mean 'jpeg'?"),
        (wrong('defenses = "jpeg:101"'), "[study]: jpeg: quality is 101;"),
        (wrong('defenses = "pgd-at:steps=3"'), "[study]: pgd-at:steps=3 is a way to train"),
        (wrong('norm = "l3"'), "[study]: 'l3' is not the name of a norm."),
        (wrong('precision = "double"'), "[study]: 'double' is not the name of a precision."),
        (wrong('data = "sings"'), "'sings' is neither the name of a data set nor an existing file"),
        (wrong('device = ""'), '[study]: device is ""; give a text.'),
        (f'[study]\neps = "8/0"\n{MODEL}{ATTACK}', "[study]: eps is '8/0'; write a fraction"),
        (f"[study]\neps = 8\n{MODEL}{ATTACK}", "[study]: eps 8 is more than the whole range of a pixel"),
        (f'{EPS}[data]\nsise = 3\n{MODEL}{ATTACK}', "[data]: signs has no setting 'sise'. Did you mean 'size'?"),
        (f'{EPS}[data]\nsize = 3.5\n{MODEL}{ATTACK}', "[data]: signs: size is 3.5; give a whole number."),
        (EPS + ATTACK, "there is no model; add a table [[model]] with model = \"resnet\"."),
        (EPS + MODEL, "there is no attack; add a table [[attack]] with attack = \"pgd\"."),
        (f'{EPS}[model]\nmodel = "resnet"\n{ATTACK}', "each written [[model]] with two brackets."),
        (f"{EPS}{MODEL}[[model]]\nmodle = 3\n{ATTACK}", "[[model]] number 2: the key model is missing;"),
        (f'{EPS}{MODEL}wieghts = "x"\n{ATTACK}', "[[model]]: there is no key 'wieghts' here. Did you mean 'weights'?"),
        (f'{EPS}[[model]]\nmodel = "resnt"\n{ATTACK}', "[[model]]: 'resnt' is not the name of a backbone."),
        (f'{EPS}{MODEL}normalize = "imgnet"\n{ATTACK}', "[[model]]: mean is 'imgnet'; Did you mean 'imagenet'?"),
        (f"{EPS}{MODEL}settings = {{ wdith = 3 }}\n{ATTACK}", "[[model]]: resnet20 has no setting 'wdith'."),
        (f"{EPS}{MODEL}settings = 3\n{ATTACK}", "[[model]]: settings is 3; give a table such as { width = 64 }."),
        (f"{EPS}{MODEL}{ATTACK}stpes = 3\n", "[[attack]]: pgd has no setting 'stpes'. Did you mean 'steps'? Known: attack,"),
        (f"{EPS}{MODEL}{ATTACK}lable = 'x'\n", "pgd has no setting 'lable'. Did you mean 'label'?"),
        (f"{EPS}{MODEL}{ATTACK}{ATTACK}steps = 1.5\n", "[[attack]] number 2: pgd: steps is 1.5; give a whole number."),
        (f"{EPS}{MODEL}{ATTACK}steps = true\n", "[[attack]]: pgd: steps is true; give a whole number."),
        (f"{EPS}{MODEL}{ATTACK}steps = 1979-05-27\n", "[[attack]]: steps is 1979-05-27; give a text, a number"),
        (f"{EPS}{MODEL}{ATTACK}loss = 3\n", "[[attack]]: pgd: loss is 3; give the name of a loss."),
        (f"{EPS}{MODEL}{ATTACK}eps = '8/255'\n", "[[attack]]: eps is not set here"),
        (f'{EPS}{MODEL}[[attack]]\nattack = "pdg"\n', "[[attack]]: 'pdg' is not the name of an attack. Did you mean 'pgd'?"),
        (f'[study]\neps = 4\nnorm = "l0"\n{MODEL}{ATTACK}', "[[attack]]: "),
    ],
)  # fmt: skip
def test_a_study_that_cannot_be_used_is_refused_with_file_table_and_key(text: str, said: str, tmp_path: Path):
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read_study(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert said in str(refused.value), str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")])
def test_what_editors_of_other_systems_write_is_read(tmp_path: Path, change):
    (tmp_path / "s.toml").write_bytes(change((EPS + MODEL + ATTACK).encode()))
    assert read_study(tmp_path / "s.toml") == parse_study(EPS + MODEL + ATTACK)


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path):
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not a text in UTF-8"):
        read_study(tmp_path / "bad.toml")
    with pytest.raises(InputError, match=r"cannot be read: there is no such file; advkit init"):
        read_study(tmp_path / "none.toml")


def test_a_ball_that_bounds_nothing_is_for_attacks_that_look_for_the_nearest_picture() -> None:
    radius = '[study]\nnorm = "l2"\neps = "inf"\n'
    with pytest.raises(InputError, match="bounds nothing"):
        parse_study(radius + MODEL + ATTACK)
    assert parse_study(radius + MODEL + ATTACK.replace("pgd", "ddn")).radii == ("inf",)
