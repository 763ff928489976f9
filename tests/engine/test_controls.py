"""Controls stand beside their attack: in outcomes, rows, tables, sweeps, stores, and behind a defense."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import trained
from torch import Tensor, nn

from advkit.attacks import PGD, Tape
from advkit.core import Area, Ascent, Attack, Ball, Ensemble, Goal, Linf, Point, Rng
from advkit.data import TensorData
from advkit.engine.evaluate import evaluate
from advkit.engine.plan import Sweep, make_plan
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import run_plan
from advkit.results.cell import Facts
from advkit.results.export import export
from advkit.results.grid import load_grid
from advkit.results.merge import merge
from advkit.results.pivot import pivoted
from advkit.results.pivot_table import line_table, number_table, pivot_table
from advkit.results.robustness import long_table, robustness_table
from advkit.results.statistics import share
from advkit.results.store import Store

TAPE = Tape(Area(0.15), queries=30)
SETTINGS = (("queries", 30),)
RADII = ("0.05", "0.15")
WHOLE = Area(1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return copy.deepcopy(trained()[0]).float()


@pytest.fixture(scope="module")
def data() -> TensorData:
    _, x, y = trained()
    y = torch.where(torch.arange(len(y)) < 3, (y + 1) % 4, y)  # some that are wrong without attack
    return TensorData(x.float(), y, name="patterns")


@pytest.fixture
def wanted(net: nn.Module, data: TensorData) -> Sweep:
    return Sweep(
        models=(ModelSpec("net", made=net),),
        attacks=(AttackSpec("tape", SETTINGS),),
        radii=RADII,
        data=DataSpec("patterns", made=data),
        norm="area",
        samples=24,
        shard=8,
    )


@dataclass(frozen=True)
class Marked(Attack):
    """Paints everything black; its controls do so too, or do nothing."""

    threat: Ball = WHOLE
    steps: int = 0
    grey: float = 0.0

    def first(self, x: Tensor, goal: Goal, rng: Rng) -> Tensor:
        return torch.full_like(x, self.grey) if self.grey >= 0 else x

    def step(self, state: Point, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> Point:
        return state

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        return (("zero", replace(self, grey=-1.0)), ("all", replace(self, grey=0.0)))


def test_success_of_a_control_is_a_share_of_the_examples_of_the_attack(net, data):
    result = evaluate(net, data, {"marked": Marked()})
    (row,) = result.rows()
    right = int(result.correct.sum())
    assert right < len(data), "an easy case shows nothing"
    beaten = int((result.outcomes[0].success & result.correct).sum())
    assert row.controls == (("zero", share(0, right)), ("all", share(beaten, right)))
    assert row.success == beaten / right > 0
    found = row.to_json()
    assert found["control"] == {"name": "zero", "success": 0.0, "low": 0.0, "high": share(0, right).high}
    assert [each["name"] for each in found["controls"]] == ["zero", "all"]


def test_an_attack_without_controls_has_the_json_and_the_table_of_before(net, data):
    result = evaluate(net, data, PGD(Linf(0.05), steps=2))
    assert list(result.rows()[0].to_json()) == [
        "attack", "eps", "accuracy", "low", "high", "success", "median_distance", "forwards", "backwards", "seconds",
    ]  # fmt: skip
    assert "control" not in " ".join(robustness_table(result).heads)
    assert "control" not in " ".join(long_table(result).heads)


def test_tables_show_the_control_beside_its_row(net, data):
    result = evaluate(net, data, {"tape": TAPE, "noise": _noise()})
    table = robustness_table(result)
    place = table.heads.index("control %")
    by_name = {row[0]: row[place] for row in table.rows}
    random, grey = (each for _, each in result.rows()[0].controls)
    assert by_name["tape"] == f"random {random.percent}, grey {100 * grey.value:.1f}"
    assert (by_name["noise"], by_name["none (clean)"], by_name["worst case"]) == ("-", "-", "-")
    long = long_table(result)
    rows = [dict(zip(long.heads, row, strict=True)) for row in long.rows]
    assert [row["control"] for row in rows] == ["", "random", "", ""]
    assert float(rows[1]["control_success"]) == random.value


def _noise() -> Attack:
    from advkit.attacks import Noise

    return Noise(Area(0.15), steps=2)


def test_stages_of_an_ensemble_have_none_and_survivors_change_no_control(net, data):
    staged = evaluate(net, data, Ensemble((("a", TAPE), ("b", TAPE))))
    assert [outcome.controls for outcome in staged.outcomes] == [(), ()]
    alone = evaluate(net, data, {"tape": TAPE}).rows()[0]
    after = evaluate(net, data, {"noise": _noise(), "tape": TAPE}, survivors=True).rows()[1]
    assert after.follows == "noise"
    assert after.controls == alone.controls


def test_behind_a_defense_the_control_is_that_of_the_defended_model(net, data):
    result = evaluate(net, data, {"tape": TAPE}, defense="bits:1")
    oblivious, adaptive = result.rows()
    assert oblivious.controls == adaptive.controls
    assert oblivious.controls != evaluate(net, data, {"tape": TAPE}).rows()[0].controls


def test_a_sweep_keeps_the_controls_that_evaluate_finds(wanted, net, data, tmp_path):
    result = run_plan(make_plan(wanted), tmp_path)
    for line in result.grid.lines:
        attack = Tape(Area(line.eps), queries=30)
        row = evaluate(net, data, {"tape": attack}, samples=24).rows()[0]
        assert line.controls == row.controls
        assert line.to_json()["control"] == row.to_json()["control"]
        assert [each["name"] for each in line.to_json()["controls"]] == ["random", "grey"]
    assert "control" not in result.grid.clean[0].to_json()
    assert json.loads(json.dumps(load_grid(tmp_path).to_json())) == json.loads(json.dumps(result.grid.to_json()))


def test_a_store_is_merged_shown_and_exported_with_its_controls(wanted, tmp_path: Path):
    grid = run_plan(make_plan(wanted), tmp_path / "a").grid
    merge(Store(tmp_path / "b"), [Store(tmp_path / "a")])
    again = load_grid(tmp_path / "b")
    assert [line.controls for line in again.lines] == [line.controls for line in grid.lines]
    pivot = pivoted(again)
    value = f"{100 * again.lines[0].controls[0][1].value:.1f}"
    assert f"control {value}" in " ".join(" ".join(row) for row in pivot_table(pivot, again).rows)
    assert "Control: success" in pivot_table(pivot, again).caption
    numbers = number_table(pivot)
    assert [head for head in numbers.heads if "control" in head] == ["tape 0.05 control", "tape 0.15 control"]
    assert {len(row) for row in numbers.rows} == {len(numbers.heads)}
    lines = line_table([*again.clean, *again.lines])
    assert {len(row) for row in lines.rows} == {len(lines.heads)}
    assert lines.heads[-4:] == ("control", "control_success", "control_low", "control_high")
    assert export(again, tmp_path / "rows.csv") == 1 + 2 + 2
    assert "control_success" in (tmp_path / "rows.csv").read_text().splitlines()[0]


def test_shards_of_before_controls_are_read_and_join_the_others():
    index, none = np.arange(2), np.zeros((1, 1, 2))
    old = Facts(index, index, index, none > 0, none > 0, none, none, none, none, none, none > 0, np.ones((1, 1)))
    new = replace(old, index=index + 2, controls={"random": np.ones((1, 2), bool)})
    assert Facts.joined([old, new]).controls == {}
    both = Facts.joined([new, replace(new, index=index)])
    assert both.controls["random"].shape == (1, 4)
    assert both.take(np.array([1, 3])).controls["random"].tolist() == [[True, True]]
