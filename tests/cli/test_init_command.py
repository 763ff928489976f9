"""``advkit init``: the file it writes is a study that runs, and shows every key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_line import Run

from advkit.engine.study import _ATTACK, _MODEL, _STUDY, parse_study, read_study
from advkit.engine.sweep import make_plan


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_is_a_study_that_can_be_planned(run: Run) -> None:
    answer = run("init")
    assert (answer.code, answer.out) == (0, "")
    assert answer.err == "wrote study.toml: read it, then run advkit sweep study.toml\n"
    study = read_study(Path("study.toml"))
    plan = make_plan(study)
    assert [spec.name for spec in study.models] == ["standard", "robust", "lenet"]
    assert {planned.cell.attack for planned in plan.cells} == {"none", "fgsm", "pgd", "standard"}
    assert {radius for planned in plan.cells for radius in planned.cell.radii} == {"2/255", "4/255", "8/255"}
    assert plan.samples == 50


def test_every_key_is_shown_and_can_be_used_as_it_is_shown(run: Run) -> None:
    run("init")
    text = Path("study.toml").read_text()
    shown = re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE)
    assert shown != text
    for key in (*_STUDY, *_MODEL, *_ATTACK):
        assert re.search(rf"^{key} = .*#|^{key} = ", shown, re.MULTILINE), key
    read = parse_study(shown)
    assert len(read.models) == len(read.attacks) == 4
    assert read.goal == "next"


def test_options_are_written_into_the_file(run: Run, npz: Callable[..., Path]) -> None:
    data = npz().name
    answer = run("init", "mine.toml", "--model", "lenet", "--model", "cnn", "--attack", "pgd", "--norm", "L2",
                 "--eps", "0.5,1", "--data", data, "--defense", "jpeg:75")  # fmt: skip
    assert answer.code == 0, answer.err
    study = read_study(Path("mine.toml"))
    assert [spec.model for spec in study.models] == ["lenet", "cnn"]
    assert [spec.name for spec in study.attacks] == ["pgd"]
    assert (study.norm, study.radii, study.data.name, study.defenses) == ("l2", ("0.5", "1"), data, ("jpeg:75",))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "area", "shade", "veil"])
def test_every_norm_has_radii_and_attacks_of_its_own(run: Run, norm: str) -> None:
    assert run("init", "--norm", norm).code == 0
    study = read_study(Path("study.toml"))
    assert (study.norm, len(study.radii)) == (norm, 3)
    assert len(study.attacks) > 1


def test_the_norm_is_that_of_the_attacks(run: Run) -> None:
    assert run("init", "--attack", "salt", "--attack", "sigma-zero").code == 0
    assert read_study(Path("study.toml")).norm == "l0"


def test_a_file_is_not_overwritten_unless_asked(run: Run, refused: Callable[..., str]) -> None:
    Path("study.toml").write_text("mine")
    assert refused("init") == "study.toml exists; give another name, or --force to overwrite it."
    assert Path("study.toml").read_text() == "mine"
    assert run("init", "--force").code == 0
    assert Path("study.toml").read_text() != "mine"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("x.txt",), "give a name that ends in .toml"),
        (("--attack", "pdg"), "Did you mean 'pgd'?"),
        (("--eps", "8/0"), "eps is '8/0'"),
        (("--norm", "l3"), "'l3' is not the name of a norm."),
        (("--norm", "l0", "--attack", "fgsm"), "[[attack]]: "),
        (("--attack", "salt", "--attack", "fgsm"), "share no norm"),
        (("--model", "resnt"), "Did you mean 'resnet'?"),
        (("--data", "sings"), "Did you mean 'signs'?"),
    ],
)
def test_what_no_sweep_could_use_is_refused_and_nothing_written(
    refused: Callable[..., str], folder: Path, args: tuple[str, ...], said: str
) -> None:
    assert said in refused("init", *args)
    assert not list(folder.iterdir())


def test_a_folder_that_is_not_there_is_made(run: Run) -> None:
    assert run("init", "new/study.toml").code == 0
    assert np.all([path.name == "study.toml" for path in Path("new").iterdir()])
