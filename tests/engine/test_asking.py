"""What a sweep asks each model: an honest one passes, one that hides something is told, and nothing of it is changed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from fixtures_masked import MASKED, Masked, data, trained
from torch import Tensor, nn

from advkit.attacks import FGSM
from advkit.cli import main
from advkit.core.modes import borrowed
from advkit.core.threat import Linf
from advkit.engine.asking import ask
from advkit.engine.defend import defend, read_defense
from advkit.engine.sweep import Result, sweep
from advkit.errors import StoreError
from advkit.results.asked import Asked
from advkit.results.filters import filtered
from advkit.results.grid import load_grid
from advkit.results.merge import merge
from advkit.results.store import Store
from advkit.results.verdicts import verdicts

TOLD = {
    "an input quantiser": "P11",
    "a softmax at the end": "P3",
    "winners that take all": "P11",
    "random resizing and padding": "P12",
    "additive noise": "P12",
    "a model left in training mode": "P3",
    "probabilities of a sure net": "P3",
    "a model that detects gradients": "P11",
    "a model that is silent about gradients": "P11",
}


def asked(net: nn.Module, defense: str = "none") -> list[Asked]:
    model = defend(net, read_defense(defense).wrappers)
    with borrowed(model):
        return ask(model, data(), batch_size=16, seed=0)


@pytest.mark.parametrize("defense", ["none", "bits:4", "resize-pad", "median"])
def test_an_honest_model_passes_every_question(defense: str) -> None:
    found = asked(trained(), defense)
    assert len(found) >= 6
    assert {each.level for each in found} <= {"pass", "warn"}


@pytest.mark.parametrize("name", TOLD)
def test_what_hides_is_told(name: str) -> None:
    masked: Masked = MASKED[name]
    assert TOLD[name] in {each.code for each in asked(masked.make()) if each.level == "fail"}


class Tires(nn.Module):
    """A network that raises an error from some call on."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.inner, self.left = trained(), calls

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        self.left -= 1
        if self.left < 0:
            raise RuntimeError
        logits: Tensor = self.inner(x)
        return logits


@pytest.mark.parametrize("calls", [2, 3, 4, 6, 9, 14])
def test_a_model_that_fails_at_a_question_is_told_and_costs_nothing(calls: int) -> None:
    failed = [each for each in asked(Tires(calls)) if each.level == "fail"]
    assert failed[-1].sentence == "It fails when it is asked: RuntimeError."


def test_logits_that_saturate_cross_entropy_alone_are_a_warning() -> None:
    (found,) = (each for each in asked(MASKED["logits times 1000"].make()) if each.name == "There is a gradient")
    assert found.level == "warn"


def test_asking_leaves_the_model_and_the_global_generator_as_they_were(tmp_path: Path) -> None:
    net = MASKED["a model left in training mode"].make()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    result = sweep({"left": net}, data(), FGSM(), 0.03, out=tmp_path, samples=8)
    assert result.grid.doubts
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_sweep_keeps_what_it_asked_and_says_it_with_its_numbers(tmp_path: Path) -> None:
    models = {"soft": MASKED["a softmax at the end"].make(), "plain": trained()}
    result = sweep(models, data(), FGSM(Linf(0.03)), 0.03, out=tmp_path / "one", samples=12)
    (doubt,) = result.grid.doubts
    assert doubt.code == "P3"
    assert doubt.sentence.startswith("soft: ")
    assert doubt.to_json() in load_grid(tmp_path / "one").to_json()["doubts"]
    said = {verdict.name: verdict for verdict in verdicts(result.grid)}
    assert said["Answers are logits"].level == "fail"
    assert "soft" in said["Answers are logits"].sentence
    assert said["There is a gradient"].level == "pass"
    merge(Store(tmp_path / "all"), [Store(tmp_path / "one")])
    assert load_grid(tmp_path / "all").doubts == result.grid.doubts


def test_a_doubt_is_not_lost_with_its_file_and_the_same_sweep_asks_again(tmp_path: Path) -> None:
    def swept() -> Result:
        return sweep({"soft": MASKED["a softmax at the end"].make()}, data(), FGSM(), 0.03, out=tmp_path, samples=12)

    doubts = swept().grid.doubts
    assert doubts
    (record,) = (record for record in load_grid(tmp_path).records if not record.cell.stages)
    path = Store(tmp_path).beside(record.cell, "asked.json")
    for harm in (lambda: path.write_bytes(path.read_bytes().replace(b'"fail"', b'"gail"')), path.unlink):
        harm()
        with pytest.raises(StoreError, match=r"asked.json .*cell .*, none on soft"):
            load_grid(tmp_path)
        assert swept().grid.doubts == doubts


def test_doubts_stand_under_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep({"soft": MASKED["a softmax at the end"].make()}, data(), FGSM(), 0.03, out=tmp_path, samples=12)
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path)])
    assert "doubt P3: soft: " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path), "--format", "csv"])
    said = capsys.readouterr()
    assert "doubt" not in said.out
    assert "doubt P3: soft: " in said.err


def test_doubts_of_models_that_are_filtered_out_are_not_said(tmp_path: Path) -> None:
    models = {"soft": MASKED["a softmax at the end"].make(), "plain": trained()}
    grid = sweep(models, data(), FGSM(Linf(0.03)), 0.03, out=tmp_path, samples=12).grid
    assert filtered(grid, ["model=plain"]).doubts == []
    assert filtered(grid, ["model!=plain", "attack=fgsm"]).doubts == grid.doubts
    assert len(filtered(grid, ["attack=fgsm"]).asked) == 2
