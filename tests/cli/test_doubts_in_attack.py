"""``advkit attack``: doubts under the table, ``--strict``, and models that draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import QUICK, Run

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, noise):
        super().__init__()
        self.noise, self.inner = noise, nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x):
        return self.inner(x + self.noise * torch.randn_like(x))

def quiet():
    return Net(0.0)

def noisy():
    return Net(0.1)
"""


@pytest.fixture
def own(tmp_path: Path, npz: Callable[..., Path]) -> Callable[[str], tuple[object, ...]]:
    """The options of a run on a model of one's own, of which nothing is known."""
    (tmp_path / "own.py").write_text(CODE)
    return lambda name: ("--model", f"{tmp_path / 'own.py'}:{name}", "--data", npz(), *QUICK, "--eps", "1/255")


def test_a_doubt_is_a_line_under_the_table_and_strict_makes_it_an_error(
    run: Run, own: Callable[[str], tuple[object, ...]], tmp_path: Path
) -> None:
    plain = run("attack", *own("noisy"), "--quiet")
    assert plain.code == 0
    (line,) = (line for line in plain.out.splitlines() if line.startswith("doubt P12: "))
    assert "it draws" in line
    assert "--eot 20 --repeats 10" in line
    strict = run("attack", *own("noisy"), "--strict", "--format", "json", "--save", tmp_path / "kept")
    assert strict.code == 1
    assert [list(doubt) for doubt in strict.json["doubts"]] == [["code", "sentence", "advice"]]
    assert (tmp_path / "kept" / "evaluation.json").is_file()
    csv = run("attack", *own("noisy"), "--strict", "--format", "csv")
    assert (csv.code, "doubt P12" in csv.out, "doubt P12" in csv.err) == (1, False, True)


def test_without_a_doubt_it_says_so_and_strict_changes_nothing(
    run: Run, own: Callable[[str], tuple[object, ...]]
) -> None:
    answer = run("attack", *own("quiet"), "--strict")
    assert answer.code == 0
    assert "no doubts (" in answer.err
    assert "cheap checks; advkit check makes them all)" in answer.err
    assert "doubt" not in answer.out


def test_draws_and_repeats_reach_the_engine(run: Run, own: Callable[[str], tuple[object, ...]]) -> None:
    single = run("attack", *own("noisy"), "--format", "json").json
    mean = run("attack", *own("noisy"), "--eot", 4, "--repeats", 3, "--format", "json")
    assert any("it draws" in doubt["sentence"] for doubt in single["doubts"])
    assert not any("it draws" in doubt["sentence"] for doubt in mean.json["doubts"]), mean.json["doubts"]
    assert mean.json["clean"]["repeats"]["k"] == mean.json["rows"][0]["repeats"]["k"] == 3
    assert "repeats" not in single["rows"][0]
    assert "over 3 repeats %" in run("attack", *own("noisy"), "--repeats", 3, "--format", "markdown").out
    for option in ("--eot", "--repeats"):
        assert run("attack", option, 0).code == 2
