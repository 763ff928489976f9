"""What a cell fits: once, by whoever comes first, the same for all of its tasks; damaged files are made again."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from helpers import trained

from advkit.attacks import PGD, UAP
from advkit.core import Linf
from advkit.core.fitted import Applied, Fitted
from advkit.data import TensorData
from advkit.engine import fits
from advkit.engine.fits import attack_hash, ready
from advkit.engine.fitting import load_fitted, save_fitted
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.engine.tasks import Executor, InProcess, Report, Task, Watch
from advkit.errors import InputError

BALL = Linf(0.06)


def thing(value: float, by: Fitted | None = None) -> Applied:
    return (by or UAP(BALL, steps=2)).applied(torch.full((3, 8, 8), value))


@pytest.fixture
def wanted() -> Sweep:
    net, x, y = trained()
    data = TensorData(x.float(), y, name="patterns")
    uap = AttackSpec("uap", (("pictures", 16), ("steps", 3)))
    return Sweep(
        models=(ModelSpec("mine", made=copy.deepcopy(net).float()),),
        attacks=(uap, AttackSpec("fgsm")),
        radii=("0.03", "0.06"),
        data=DataSpec("patterns", made=data),
        samples=16,
        shard=4,
        batch_size=8,
    )


@dataclass(frozen=True)
class Watching(Executor):
    """Does tasks here, and notes each round."""

    rounds: list[list[Task]]

    def run(self, rounds: object, watch: Watch) -> Iterator[Report]:
        def noted() -> Iterator[Sequence[Task]]:
            for tasks in rounds:  # type: ignore[attr-defined]
                self.rounds.append(list(tasks))
                yield tasks

        return InProcess().run(noted(), watch)


def test_one_task_of_a_cell_fits_while_the_others_wait_for_it(wanted: Sweep, tmp_path: Path) -> None:
    seen = Watching([])
    assert not run_plan(make_plan(wanted), tmp_path, executor=seen).failed
    clean, first, later = seen.rounds
    assert {task.cell.attack for task in clean} == {"none"}
    fitting = [task for task in first if task.cell.attack == "uap"]
    assert len({task.cell.key for task in fitting}) == len(fitting) == 2, "one for each radius"
    assert first[:2] == fitting, "what others wait for comes first"
    assert len([task for task in first if task.cell.attack == "fgsm"]) == 8
    assert [task.cell.attack for task in later] == ["uap"] * 6


def test_what_is_fitted_already_holds_nobody_up(wanted: Sweep, tmp_path: Path) -> None:
    few = replace(wanted, samples=8)
    run_plan(make_plan(few), tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/fitted-*")}
    assert len(files) == 4
    seen = Watching([])
    run_plan(make_plan(wanted), tmp_path, executor=seen)
    assert len(seen.rounds) == 2
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_where_the_fit_fails_its_cell_is_left_and_the_rest_is_done(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Applied:
        raise InputError("no light")

    monkeypatch.setattr("advkit.engine.tasks.fit_for", refuse)
    result = run_plan(make_plan(wanted), tmp_path)
    assert [str(report.error) for report in result.failed] == ["no light"] * 2, "one try for each radius"
    assert {line.attack for line in result.grid.lines} == {"fgsm"}
    monkeypatch.undo()
    assert not run_plan(make_plan(wanted), tmp_path).failed


def stands(folder: Path) -> list[object]:
    from advkit.results.grid import load_grid

    return [(line.attack, line.eps, line.stands.tolist()) for line in load_grid(folder).lines]


@pytest.mark.parametrize("damage", ["cut", "other numbers", "gone"])
def test_a_damaged_file_is_made_again_and_is_the_same(wanted: Sweep, tmp_path: Path, damage: str) -> None:
    run_plan(make_plan(replace(wanted, samples=8)), tmp_path / "a")
    path, _ = sorted((tmp_path / "a").glob("cells/*/fitted-*.safetensors"))
    before = path.read_bytes()
    changed = {"cut": before[:-9], "other numbers": before[:-4] + b"\x01\x01\x01\x01", "gone": None}[damage]
    path.unlink() if changed is None else path.write_bytes(changed)
    assert not run_plan(make_plan(wanted), tmp_path / "a").failed
    assert path.read_bytes() == before
    run_plan(make_plan(wanted), tmp_path / "b")
    assert stands(tmp_path / "a") == stands(tmp_path / "b")


def test_of_two_who_fit_at_once_both_use_what_the_first_has_written(tmp_path: Path) -> None:
    """Their arithmetic may differ by a rounding, on two machines; a cell must not mix the two."""

    def late(name: str, attack: Fitted) -> Applied:
        ready(stages, tmp_path.joinpath, lambda name, attack: thing(0.01, attack))
        return thing(0.02, attack)

    stages = [("uap", [UAP(BALL, steps=2)], False), ("pgd", [PGD(BALL)], False)]
    ((_, (found,), _), (_, (other,), _)) = ready(stages, tmp_path.joinpath, late)
    assert isinstance(found, Applied)
    assert float(found.thing.max()) == pytest.approx(0.01)
    assert other == PGD(BALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fitted-0-0.json", "fitted-0-0.safetensors"]


def test_a_fit_that_dies_before_its_file_is_there_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    stages = [("uap", [UAP(BALL, steps=2)], False)]
    monkeypatch.setattr(fits, "load_fitted", die)
    with pytest.raises(KeyboardInterrupt):
        ready(stages, tmp_path.joinpath, lambda name, attack: thing(0.01, attack))
    monkeypatch.undo()
    (tmp_path / "fitted-0-0.safetensors").unlink()  # died between the two files
    ((_, (found,), _),) = ready(stages, tmp_path.joinpath, lambda name, attack: thing(0.01, attack))
    assert isinstance(found, Applied)


def test_numbers_that_are_not_those_that_were_written_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "thing.safetensors"
    save_fitted(thing(0.01), path)
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x00")
    with pytest.raises(InputError, match="is damaged: its numbers are not those that were written"):
        load_fitted(path)


def test_files_that_a_setting_names_are_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a cell that used another mask, or another patch, would pass for this one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "auto").write_text("no setting's file")
    path = tmp_path / "thing.safetensors"
    save_fitted(thing(0.01), path)
    attack = UAP(BALL, fitted_on=str(path))
    before = attack_hash([attack])
    assert before
    assert attack_hash([PGD(BALL), attack]) == before
    save_fitted(thing(0.02), path)
    assert attack_hash([attack]) not in ("", before)
    assert attack_hash([PGD(BALL), UAP(BALL)]) == ""
    assert attack_hash([UAP(BALL, fitted_on="signs")]) != ""
