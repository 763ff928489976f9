"""Sweeps: planned once, done in shards, resumed by looking; what fails or is interrupted loses nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import trained
from torch import nn

from advkit.attacks import FGSM, PGD
from advkit.core import Linf
from advkit.core.attack import Ensemble
from advkit.data import TensorData, load_data
from advkit.engine.evaluate import evaluate
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Plan, Spectator, Sweep, make_plan, run_plan, sweep
from advkit.engine.tasks import Report
from advkit.errors import InputError, ModelError
from advkit.results.grid import Line, load_grid
from advkit.results.store import Store

RADII = ("0.01", "0.03", "0.06")
STEPS = (("steps", 3),)
SHARDS = 4 * (1 + len(RADII) + 1)  # without attack, fgsm at each radius, pgd at all of them at once


@pytest.fixture(scope="module")
def net() -> nn.Module:
    import copy

    return copy.deepcopy(trained()[0]).float()


@pytest.fixture(scope="module")
def data() -> TensorData:
    _, x, y = trained()
    return TensorData(x.float(), y, name="patterns")


@pytest.fixture
def wanted(net: nn.Module, data: TensorData) -> Sweep:
    return Sweep(
        models=(ModelSpec("mine", made=net),),
        attacks=(AttackSpec("fgsm"), AttackSpec("pgd", STEPS)),
        radii=RADII,
        data=DataSpec("patterns", made=data),
        samples=30,
        shard=8,
        batch_size=8,
    )


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("cells/*/0*.safetensors")}


def stands(lines: tuple[Line, ...]) -> list[tuple[object, ...]]:
    return [(line.model, line.attack, line.eps, line.stands.tolist()) for line in lines]


# ---------------------------------------------------------------------- the plan


def test_cells_without_attack_come_first(wanted: Sweep) -> None:
    plan = make_plan(wanted)
    assert [(p.cell.attack, p.cell.radii) for p in plan.cells] == [
        ("none", ()),
        *(("fgsm", (r,)) for r in RADII),
        ("pgd", RADII),
    ]
    assert plan.samples == 30
    assert all(p.most.passes >= p.likely.passes > 0 and p.most.seconds >= p.likely.seconds > 0 for p in plan.cells)


def test_radii_are_put_in_order_and_counted_once(wanted: Sweep) -> None:
    plan = make_plan(replace(wanted, radii=("8/255", "2/255", "8px", "0.01"), attacks=(AttackSpec("fgsm"),)))
    assert [p.cell.radii for p in plan.cells[1:]] == [("2/255",), ("0.01",), ("8/255",)]


def test_a_nested_attack_is_one_cell_of_all_radii_unless_independence_is_asked_for(wanted: Sweep) -> None:
    several = replace(wanted, attacks=(AttackSpec("worst-case", STEPS),))
    (cell,) = [p.cell for p in make_plan(several).cells if p.cell.stages]
    assert cell.radii == RADII
    assert any(stage.nested for stage in cell.stages)
    alone = [p.cell for p in make_plan(replace(several, independent=True)).cells if p.cell.stages]
    assert [cell.radii for cell in alone] == [(radius,) for radius in RADII]
    assert not any(stage.nested for cell in alone for stage in cell.stages)


def test_what_is_planned_twice_is_told_apart_and_what_is_the_same_is_one_cell(wanted: Sweep, tmp_path: Path) -> None:
    twice = replace(wanted, attacks=(AttackSpec("pgd", STEPS), AttackSpec("pgd", (("steps", 5),))))
    labels = [p.cell.attack for p in make_plan(twice).cells]
    assert labels == ["none", "pgd", "pgd (2)"]
    run_plan(make_plan(twice), tmp_path)
    keys = [p.cell.key for p in make_plan(twice).cells]
    assert len(set(keys)) == len(keys) == len(list((tmp_path / "cells").iterdir()))
    run_plan(make_plan(twice), tmp_path)
    assert len(keys) == len(list((tmp_path / "cells").iterdir()))


def test_what_is_asked_for_twice_is_done_once(wanted: Sweep) -> None:
    twice = replace(wanted, models=wanted.models * 2, attacks=(*wanted.attacks, wanted.attacks[0]))
    assert [p.cell for p in make_plan(twice).cells] == [p.cell for p in make_plan(wanted).cells]


@pytest.mark.parametrize("what", ["models", "attacks", "radii", "defenses"])
def test_a_sweep_of_nothing_is_refused(wanted: Sweep, what: str) -> None:
    with pytest.raises(InputError, match="at least one model, one attack, one radius and one defense"):
        make_plan(replace(wanted, **{what: ()}))


def test_a_model_that_does_not_fit_is_refused_before_anything_is_computed(wanted: Sweep) -> None:
    grey = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4))
    with pytest.raises(ModelError):
        make_plan(replace(wanted, models=(ModelSpec("grey", made=grey),)))


# ---------------------------------------------------------------------- what it finds


def test_a_sweep_finds_what_evaluate_finds(wanted: Sweep, net: nn.Module, data: TensorData, tmp_path: Path) -> None:
    result = run_plan(make_plan(replace(wanted, independent=True)), tmp_path)
    for line in result.grid.lines:
        attack = {"fgsm": FGSM(Linf(line.eps)), "pgd": PGD(Linf(line.eps), steps=3)}[line.attack]  # type: ignore[arg-type]
        (outcome,) = evaluate(net, data, attack, samples=30, batch_size=8).outcomes
        assert (outcome.prediction == data.labels[:30]).tolist() == line.stands.tolist()
    assert len({line.accuracy.value for line in result.grid.lines}) > 2, "an easy case shows nothing"


def test_a_nested_search_states_no_curve_that_rises(wanted: Sweep, tmp_path: Path) -> None:
    result = run_plan(make_plan(replace(wanted, attacks=(AttackSpec("worst-case", STEPS),))), tmp_path)
    worst = [line.accuracy.value for line in result.grid.worst]
    assert len(worst) == len(RADII)
    assert worst == sorted(worst, reverse=True)
    assert worst[0] > worst[-1]


def test_objects_of_python_are_taken_as_they_are(net: nn.Module, data: TensorData, tmp_path: Path) -> None:
    attacks = {"mine": PGD(Linf(0.9), steps=2), "both": Ensemble((("a", FGSM()), ("b", PGD(steps=2))))}
    result = sweep({"net": net}, data, attacks, ["0.03", 0.06], out=tmp_path, samples=12)
    assert [(line.attack, line.eps) for line in result.grid.lines] == [
        ("mine", "0.03"), ("mine", "0.06"),
        ("both/a", "0.03"), ("both/b", "0.03"), ("both/a", "0.06"), ("both/b", "0.06"),
    ]  # fmt: skip
    again = sweep({"net": net}, data, attacks, ["0.03", 0.06], out=tmp_path, samples=12)
    assert stands(again.grid.lines) == stands(result.grid.lines)


def test_a_single_module_and_a_single_attack_need_no_list(net: nn.Module, data: TensorData, tmp_path: Path) -> None:
    (line,) = sweep(net, data, FGSM(), 0.03, out=tmp_path, samples=8).grid.lines
    assert (line.model, line.attack, line.eps, line.n) == (type(net).__name__, "fgsm", "0.03", 8)


def test_names_may_say_which_weights_and_classes_may_be_left_out(tmp_path: Path) -> None:
    found = sweep(["lenet", "lenet@random"], "signs", "fgsm", "8/255", out=tmp_path, samples=6, exclude=["stop", 1], shard=2,
                  keep_pictures=0)  # fmt: skip
    weights = {line.model: line.weights for line in found.grid.clean}
    assert list(weights) == ["lenet", "lenet@random"]
    assert weights["lenet"] != weights["lenet@random"] == "random (seed 0)"
    stop = load_data("signs").classes.index("stop")
    assert not {stop, 1} & set(found.grid.clean[0].labels.tolist())
    assert len(files(tmp_path)) == 4 * 3
    assert not list(tmp_path.glob("cells/*/pictures-*"))


@pytest.mark.parametrize(("given", "said"), [({"shard": 0}, "shard is 0"), ({"batch_size": -1}, "batch_size is -1"),
                                             ({"keep_pictures": -1}, "keep_pictures is -1"),
                                             ({"precision": "half"}, "'half' is not the name of a precision")])  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(net: nn.Module, data: TensorData, tmp_path: Path, given, said) -> None:
    with pytest.raises(InputError, match=said):
        sweep(net, data, "fgsm", 0.03, out=tmp_path / "new", **given)
    assert not (tmp_path / "new").exists()


def test_a_targeted_sweep_aims(wanted: Sweep, tmp_path: Path) -> None:
    plain = run_plan(make_plan(wanted), tmp_path / "plain")
    aimed = run_plan(make_plan(replace(wanted, goal="next")), tmp_path / "aimed")
    assert {line.cell.goal for line in aimed.grid.lines} == {"next"}
    for any_class, one in zip(plain.grid.lines, aimed.grid.lines, strict=True):
        assert one.success <= any_class.success + 1e-9, "one class is harder to reach than any"
    assert stands(aimed.grid.lines) != stands(plain.grid.lines)


# ---------------------------------------------------------------------- resuming


def test_what_is_done_is_not_done_again(wanted: Sweep, tmp_path: Path) -> None:
    first = run_plan(make_plan(wanted), tmp_path)
    before = files(tmp_path)
    assert len(before) == SHARDS
    told: list[Report] = []
    again = run_plan(make_plan(wanted), tmp_path, spectator=Spectator(report=told.append))
    assert not told
    assert files(tmp_path) == before
    assert again.grid.to_json() == first.grid.to_json()
    assert not make_plan(wanted).left(Store(tmp_path))


def test_more_examples_attacks_and_radii_add_to_what_there_is(wanted: Sweep, tmp_path: Path) -> None:
    less = replace(wanted, samples=20, radii=RADII[:2], attacks=wanted.attacks[:1])
    run_plan(make_plan(less), tmp_path)
    before = files(tmp_path)
    result = run_plan(make_plan(wanted), tmp_path)
    assert files(tmp_path).items() >= before.items()
    fresh = run_plan(make_plan(wanted), tmp_path / "fresh")
    assert stands(result.grid.lines) == stands(fresh.grid.lines)


def test_fewer_examples_are_read_from_what_there_is(wanted: Sweep, tmp_path: Path) -> None:
    run_plan(make_plan(wanted), tmp_path)
    told: list[Report] = []
    less = run_plan(make_plan(replace(wanted, samples=11)), tmp_path, spectator=Spectator(report=told.append))
    assert not told
    assert {line.n for line in less.grid.lines} == {11}


def test_ctrl_c_keeps_the_finished_shards_and_the_next_run_does_the_rest(wanted: Sweep, tmp_path: Path) -> None:
    done: list[Report] = []

    def stop(report: Report) -> None:
        done.append(report)
        if len(done) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(make_plan(wanted), tmp_path, spectator=Spectator(report=stop))
    before = files(tmp_path)
    assert len(before) == 9
    told: list[Report] = []
    result = run_plan(make_plan(wanted), tmp_path, spectator=Spectator(report=told.append))
    assert len(told) == SHARDS - 9
    assert files(tmp_path).items() >= before.items()
    assert stands(result.grid.lines) == stands(run_plan(make_plan(wanted), tmp_path / "fresh").grid.lines)


def test_a_shard_that_is_not_whole_is_computed_again(wanted: Sweep, tmp_path: Path) -> None:
    first = run_plan(make_plan(wanted), tmp_path)
    broken = sorted(files(tmp_path))[3]
    broken.write_bytes(broken.read_bytes()[:-5])
    told: list[Report] = []
    again = run_plan(make_plan(wanted), tmp_path, spectator=Spectator(report=told.append))
    assert [Path(broken).name.startswith(f"{report.task.span[0]:05d}") for report in told] == [True]
    assert stands(again.grid.lines) == stands(first.grid.lines)


def test_shards_of_other_code_are_kept_and_not_used(
    wanted: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_plan(make_plan(wanted), tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr("advkit.engine.plan.code_version", lambda others: "another")
    result = run_plan(make_plan(wanted), tmp_path)
    assert len(files(tmp_path)) == 2 * len(before)
    assert {line.cell.code for line in result.grid.lines} == {"another"}
    assert {line.cell.code for line in load_grid(tmp_path).lines} == {"another"}
    assert load_grid(tmp_path).hidden == len(make_plan(wanted).cells)


# ---------------------------------------------------------------------- what goes wrong


def test_a_model_that_fails_leaves_the_others_to_be_done_and_is_tried_again(
    wanted: Sweep, net: nn.Module, tmp_path: Path
) -> None:
    class FailsLater(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.broken = net, False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.broken:
                raise ValueError("the lights are out")
            return self.inner(x)  # type: ignore[no-any-return]

    bad = FailsLater()
    both = replace(wanted, models=(ModelSpec("bad", made=bad), *wanted.models))
    plan = make_plan(both)
    bad.broken = True
    result = run_plan(plan, tmp_path)
    assert {report.task.cell.model for report in result.failed} == {"bad"}
    assert {report.task.cell.attack for report in result.failed} == {"none"}, "attacks on a broken model are not tried"
    assert all("the lights are out" in str(report.error) and not report.expected for report in result.failed)
    assert {line.model for line in result.grid.lines} == {"mine"}
    bad.broken = False
    assert {line.model for line in run_plan(plan, tmp_path).grid.lines} == {"bad", "mine"}


def test_what_a_killed_worker_left_half_written_is_removed_at_the_end(wanted: Sweep, tmp_path: Path) -> None:
    left: list[Path] = []

    def leave(report: Report) -> None:
        left.append(tmp_path / "cells" / report.task.cell.key / f".0.safetensors.{len(left)}.part")
        left[-1].write_bytes(b"half")

    run_plan(make_plan(wanted), tmp_path, spectator=Spectator(report=leave))
    assert len(left) == SHARDS
    assert not list(tmp_path.rglob("*.part"))


def test_two_sweeps_on_one_store_are_one_too_many(wanted: Sweep, tmp_path: Path) -> None:
    plan = make_plan(wanted)
    with Store(tmp_path).lock(), pytest.raises(InputError, match=r"another sweep .* is writing to"):
        run_plan(plan, tmp_path)
    assert not run_plan(plan, tmp_path).failed


def test_a_folder_of_something_else_is_left_alone(wanted: Sweep, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="is not empty and holds no results of a sweep"):
        run_plan(make_plan(wanted), tmp_path)


def test_a_sweep_killed_while_it_made_its_store_can_be_run_again(wanted: Sweep, tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".store.json.123.part").write_text("{")
    assert not run_plan(make_plan(wanted), tmp_path).failed
    assert not list(tmp_path.glob(".*.part"))


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    yield from _mounted(tmp_path, "size=1m")


def test_a_full_disk_stops_the_sweep_with_a_sentence_and_loses_nothing(wanted: Sweep, tiny_disk: Path) -> None:
    plan = make_plan(wanted)
    out, ballast = tiny_disk / "out", tiny_disk / "ballast"

    def fill(plan: Plan, left: object) -> None:
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        with ballast.open("r+b") as file:
            file.truncate(ballast.stat().st_size - 10 * 4096)

    with pytest.raises(
        InputError, match=r"cannot be written \(No space left on device\).*make room and run the same again"
    ):
        run_plan(plan, out, spectator=Spectator(begun=fill))
    before = files(out)
    assert 0 < len(before) < SHARDS
    assert not list(out.glob("cells/*/.*.part"))
    ballast.unlink()
    assert not run_plan(plan, out).failed
    assert files(out).items() >= before.items()


def test_a_disk_that_is_read_only_is_a_sentence_and_its_results_can_be_read(wanted: Sweep, tiny_disk: Path) -> None:
    plan, out = make_plan(wanted), tiny_disk / "out"
    run_plan(plan, out)
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(InputError, match=r"cannot be written to \(Read-only file system\)"):
        run_plan(plan, out)
    assert len(load_grid(out).lines) == 6
