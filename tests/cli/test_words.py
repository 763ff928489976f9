"""The words of a command line: each option once, numbers that can be, paths that files can have, nothing without effect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from command_line import Run

from advkit.cli import cli
from advkit.cli._command import Command, PathType

Refused = Callable[..., str]
STUDY = '[study]\neps = 0.1\n[[model]]\nmodel = "lenet"\n[[attack]]\nattack = "pgd"\n'


def _commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command)
        else:
            yield name, command


def test_every_command_reads_its_words_by_the_same_rules():
    for name, command in _commands(cli):
        assert isinstance(command, Command), name
        for param in command.params:
            assert not isinstance(param.type, click.Path) or isinstance(param.type, PathType), (name, param.name)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("attack", "--defense", "jpeg", "--defense", "bits"), "--defense is given twice, as jpeg and as bits"),
        (("attack", "--defense", "jpeg", "--defense", "bits"), "--defense jpeg+bits"),
        (("check", "--defense", "jpeg", "--defense", "bits"), "--defense is given twice"),
        (("certify", "--defense", "gaussian", "--defense", "dncnn"), "--defense is given twice"),
        (("detect", "--norm", "l2", "--norm", "linf"), "--norm is given twice, as l2 and as linf"),
        (("attack", "--defense", "jpeg", "--oblivious", "--adaptive"), "--oblivious and --adaptive say different things"),
        (("attack", "--steps", "1" + "0" * 20), "--steps is 100,000,000,000,000,000,000; give at most 1,000,000,000"),
        (("attack", "--restarts", "9" * 4000), "--restarts is a number of over 40 digits"),
        (("attack", "--step-size", "inf"), "--step-size is inf; give a finite number"),
        (("attack", "--step-size", "nan"), "--step-size is nan; give a finite number"),
        (("attack", "--eps", "inf"), "eps is inf, which bounds nothing"),
        (("sweep", "--eps", "8/255,inf"), "eps is inf, which bounds nothing"),
        (("attack", "--eps", "1e1000000000"), "eps is '1e1000000000'"),
        (("attack", "--set", "steps=1" + "0" * 20), "steps is '100000000000000000000'"),
        (("attack", "--defense", "none+jpeg"), "the defense none+jpeg chains none with another"),
        (("certify", "--n", "1" + "0" * 20), "--n is 100,000,000,000,000,000,000; give at most"),
        (("certify", "--radius", "0"), "give radii above 0"),
        (("check", "--expected", "nan"), "--expected is nan; give a finite number"),
        (("sticker", "--class", "stop", "--nps-form", "nonsense"), "nps_form is 'nonsense'; allowed: min, product"),
        (("list", "backbones", "--settings"), "--settings has no effect on the list of backbones"),
        (("list", "losses", "--size", "64"), "--size has no effect on the list of losses"),
        (("list", "losses", "--bridged"), "--bridged has no effect on the list of losses"),
        (("attack", "--save", ""), "--save is empty; give a path, or leave it out"),
        (("sweep", "--out", " "), "--out is empty"),
        (("attack", "--figure", "x" * 300), "a name has at most 255 bytes"),
        (("table", "x/" * 3000), "the path is x/x/"),
        (("attack", "--data", "x" * 5000), "the data is xxx"),
        (("attack", "--model", "x" * 5000), "the model is xxx"),
        (("attack", "--weights", "x" * 5000), "the weights is xxx"),
        (("attack", "--data", "a\0b"), "holds a null character"),
        (("sweep", "/dev/zero"), "it is a device, not a file"),
        (("train", "/dev/zero", "--out", "a.safetensors"), "it is a device, not a file"),
    ],
)  # fmt: skip
def test_a_command_line_that_means_nothing_is_refused_in_one_sentence(
    refused: Refused, words: tuple[str, ...], said: str
):
    told = refused(*words)
    assert said in told, told
    assert len(told) < 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = " + "[" * 10_000, "nested deeper than"),
        ("seed = " + "9" * 10_000, "a whole number of more than 64 bits"),
        ('[study]\neps = inf\n[[model]]\nmodel = "lenet"\n[[attack]]\nattack = "pgd"', "eps is inf"),
        (f"{STUDY}step_size = nan", "step_size is nan"),
        (f"{STUDY}steps = 9000000000", "steps is 9000000000"),
        ('[study]\neps = 0.1\ndata = "a\\u0000b"\n[[model]]\nmodel = "lenet"\n[[attack]]\nattack = "pgd"', "null character"),
    ],
)  # fmt: skip
def test_a_study_that_means_nothing_is_refused_in_one_sentence(refused: Refused, tmp_path: Path, text: str, said: str):
    (tmp_path / "s.toml").write_text(text)
    told = refused("sweep", tmp_path / "s.toml", "--out", tmp_path / "out")
    assert said in told, told
    assert len(told) < 600


def test_a_radius_of_nothing_is_the_accuracy_without_attack(run: Run):
    words = (
        "--model",
        "lenet",
        "--samples",
        "6",
        "--attack",
        "pgd",
        "--eps",
        "0,8/255",
        "--steps",
        "3",
        "--format",
        "json",
    )
    table = run("attack", *words).json
    at = {row["eps"]: row for row in table["rows"]}
    assert at["0"]["accuracy"] == table["clean"]["accuracy"]
    assert at["0"]["forwards"] == 0
    assert at["8/255"]["accuracy"] < at["0"]["accuracy"]
