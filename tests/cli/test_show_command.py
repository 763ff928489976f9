"""``advkit show``: pictures of what was saved say what is stored, and curves are of the very steps that were taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import Run
from PIL import Image

from advkit.cli import main
from advkit.cli.show import _built
from advkit.engine.show import chosen, examples_of, steps_of
from advkit.engine.verify import loaded, recipe_in
from advkit.results.facts import Saved, read_facts_of
from advkit.results.show import factor_of

EXAMPLES = 6


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    words = [
        "attack",
        "--weights",
        "adversarial",
        "--attack",
        "pgd",
        "--restarts",
        2,
        "--steps",
        4,
        "--samples",
        EXAMPLES,
    ]
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*words, "--eps", "4/255,16/255", "--save", folder, "--quiet")])
    assert ended.value.code == 0
    return folder


@pytest.fixture(scope="module")
def saved(made: Path) -> Saved:
    return read_facts_of(made)


def test_every_kind_is_drawn_for_each_attack_at_each_radius(run: Run, made: Path, tmp_path: Path) -> None:
    answer = run("show", made, "--examples", 1, "--dpi", 40, "--out", tmp_path, "--quiet")
    assert answer.code == 0, answer
    assert answer.err == ""
    of = [f"{kind}-pgd@{eps}-255" for eps in (4, 16) for kind in ("grid", "confusion", "curves")]
    names = [f"{name}.png" for name in ("distances", *of)]
    assert [Path(line).name for line in answer.out.splitlines()] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name in names:
        assert len(np.unique(np.asarray(Image.open(tmp_path / name).convert("L")))) > 20


def test_a_grid_says_labels_confidences_and_by_how_much_it_amplifies(
    run: Run, made: Path, saved: Saved, tmp_path: Path
) -> None:
    flags = ("--only", "grid", "--eps", "16/255", "--suffix", ".svg", "--out", tmp_path)
    assert run("show", made, *flags, "--quiet").code == 0
    text = (tmp_path / "grid-pgd@16-255.svg").read_text()
    shown = examples_of(saved, loaded(recipe_in(saved), "cpu"), saved.result.outcomes[1], EXAMPLES)
    assert len(shown) >= 4
    for each in shown:
        for _, confidence in (each.clean, each.adversarial):
            assert f">{100 * confidence:.0f} %<" in text
        assert each.clean[0].split()[0] in text
        assert (each.adversarial[0] != each.label) == each.success
    assert f"amplified {factor_of(shown):g} times" in text


def test_changes_are_amplified_as_far_as_they_can_be_shown(saved: Saved) -> None:
    shown = examples_of(saved, loaded(recipe_in(saved), "cpu"), saved.result.outcomes[0], EXAMPLES)
    largest = max(float((each.x_adv - each.x).abs().max()) for each in shown)
    assert largest * factor_of(shown) <= 0.5 + 1e-4
    assert largest * (factor_of(shown) + 1) > 0.5


def test_the_steps_of_a_curve_are_those_that_were_taken(saved: Saved) -> None:
    recipe = recipe_in(saved)
    bench = loaded(recipe, "cpu")
    for outcome in saved.result.outcomes:
        taken = steps_of(saved, recipe, bench, outcome, _built(recipe), EXAMPLES)
        assert taken.same == len(taken.curves) == int(outcome.attacked.sum()), "to the bit"
        for curve in taken.curves:
            assert bool((curve.margin > 0).any()) == bool(outcome.success[curve.index])
            assert curve.step[-1] + (curve.margin[-1] > 0) >= int(outcome.steps[curve.index])
            if not curve.success:
                assert curve.step.tolist() == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8], "each restart with its end"
                assert curve.branch.tolist() == [0] * 5 + [1] * 5
                assert curve.loss[4] > curve.loss[0], "an ascent"


def test_beaten_examples_are_shown_first(saved: Saved) -> None:
    outcome = saved.result.outcomes[0]
    beaten = int((outcome.attacked & outcome.success).sum())
    assert 0 < beaten < int(outcome.attacked.sum())
    assert all(bool(outcome.success[i]) for i in chosen(outcome, beaten))
    assert torch.tensor(chosen(outcome, EXAMPLES)).equal(outcome.attacked.nonzero().squeeze(1))


def test_a_confusion_counts_all_that_were_attacked(run: Run, made: Path, saved: Saved, tmp_path: Path) -> None:
    flags = ("--only", "confusion", "--suffix", ".svg", "--eps", "16/255", "--out", tmp_path, "--quiet")
    assert run("show", made, *flags).code == 0
    text = " ".join((tmp_path / "confusion-pgd@16-255.svg").read_text().split())
    outcome = saved.result.outcomes[1]
    kept = int((outcome.attacked & (outcome.prediction == saved.result.clean)).sum())
    assert f"Of {int(outcome.attacked.sum())} examples" in text
    assert f"{kept} keep" in text


def test_what_needs_no_model_is_drawn_without_one(run: Run, tmp_path: Path, npz: Callable[..., Path]) -> None:
    (tmp_path / "own.py").write_text(
        "import torch\nfrom torch import nn\n\n\ndef net():\n    torch.manual_seed(3)\n"
        "    made = nn.Sequential(nn.Flatten(), nn.Linear(3072, 6))\n    made[1].bias.data[0] += 1\n    return made\n"
    )
    flags = ("--model", f"{tmp_path}/own.py:net", "--data", npz(y=np.zeros(6, int)), "--attack", "fgsm", "--quiet")
    assert run("attack", *flags, "--save", tmp_path / "out").code == 0
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    assert run("show", tmp_path / "out", "--only", "distances,confusion", "--quiet").code == 0
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {
        "distances.png",
        "confusion-fgsm@8-255.png",
    }
    assert "--trust-code" in run("show", tmp_path / "out", "--only", "grid", "--quiet").err
    trust = ("--trust-code", f"{tmp_path}/own.py:net")
    assert "--model" in run("show", tmp_path / "out", "--only", "grid", *trust, "--quiet").err
    moved = ("--model", f"{tmp_path}/moved.py:net")
    assert run("show", tmp_path / "out", "--only", "grid", *moved, "--quiet").code == 0


def test_steps_on_another_model_are_not_drawn_and_that_is_said(run: Run, tmp_path: Path) -> None:
    flags = ("--attack", "fgsm", "--samples", 2, "--defense", "bits:5", "--oblivious", "--quiet")
    assert run("attack", *flags, "--save", tmp_path).code == 0
    answer = run("show", tmp_path, "--only", "curves", "--quiet")
    assert answer.code == 2
    assert answer.out == ""
    note, error = answer.err.splitlines()
    assert note.startswith("Note: no curves-fgsm")
    assert "made on another model" in note
    assert "nothing of what was asked for can be drawn" in error


def test_after_ctrl_c_there_are_whole_files_only(
    run: Run, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("advkit.results.show.confusion", pressed)
    answer = run("show", made, "--only", "distances,confusion", "--out", tmp_path, "--quiet")
    assert answer.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["distances.png"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--only", "grids"), "'grids' is not the name of a figure. Did you mean 'grid'?"),
        (("--only", ","), "--only is empty"),
        (("--suffix", ".gif"), "give a name that ends in .png, .svg or .pdf"),
        (("--attack", "fgsm"), "has no such attack at such a radius; it has pgd@4/255, pgd@16/255"),
        (("--eps", "1/255"), "has no such attack at such a radius"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    refused: Callable[..., str], made: Path, flags: tuple[str, ...], said: str
) -> None:
    assert said in refused("show", made, *flags)
