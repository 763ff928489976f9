"""A third party with nothing but a cell.json, the same advkit, weights and data: plans the same cell, and finds the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from advkit.attacks import APGD, PGD, UAP
from advkit.catalog import ATTACKS
from advkit.core import ProbabilityMargin
from advkit.core.attack import Ensemble
from advkit.engine.defend import read_defense
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, recorded, settings_of
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.results.cell import not_oblivious
from advkit.results.store import Store


def model_of(settings: dict[str, Any], seed: int, name: str, trained: str = "") -> ModelSpec:
    settings = dict(settings)
    model, weights, normalize = (settings.pop(key) for key in ("model", "weights", "normalize"))
    return ModelSpec(model, "auto" if weights == trained else weights, normalize, settings_of(settings), seed, name)


def attack_of(about: dict[str, Any], label: str) -> AttackSpec:
    name = about["attack"]
    if "attack stages" not in about:
        return AttackSpec(name, settings_of(about["attack settings"]), None if label == name else label)
    stages = [(title, ATTACKS.create(of, **settings)) for title, of, settings in about["attack stages"]]
    made = Ensemble(tuple(stages)) if stages[0][0] else stages[0][1]
    return AttackSpec(name, label=None if label == name else label, made=made)


def asked_again(found: dict[str, Any]) -> Sweep:
    """The sweep of one cell, from its cell.json."""
    cell, about = found["cell"], found["about"]
    source, via = about["data source"], bool(cell["surrogate"]) and not about.get("oblivious")
    trained = read_defense(cell["defense"]).trained
    name = not_oblivious(cell["attack"]).removesuffix(f" via {cell['surrogate']}" if via else "")
    others = (model_of(about["surrogate settings"], about["surrogate seed"], cell["surrogate"]),) if via else ()
    return Sweep(
        models=(model_of(about["model settings"], about["model seed"], cell["model"], trained),),
        attacks=(attack_of(about, name),),
        radii=tuple(cell["radii"]),
        data=DataSpec(source["name"], settings_of(about["data settings"]), tuple(source["exclude"])),
        norm=cell["norm"],
        defenses=(cell["defense"],),
        samples=8,
        goal=cell["goal"],
        seed=cell["seed"],
        surrogates=others,
        precision=cell["precision"],
        batch_size=about["batch size"],
        shard=about["shard"],
        device=about["device"],
    )


CHAIN = Ensemble((("pma", APGD(steps=2, loss=ProbabilityMargin())), ("pgd", PGD(steps=2))))
FIRST = Sweep(
    models=(
        ModelSpec("lenet", seed=3),
        ModelSpec("cnn", settings=settings_of({"widths": "8,8", "dense": "16"}), weights="random", seed=5),
    ),
    attacks=(
        AttackSpec("pgd", (("steps", 2), ("loss", "margin"))),
        AttackSpec("fgsm", label="one step"),
        AttackSpec("Ensemble", label="chain", made=CHAIN),
        AttackSpec("uap", made=UAP(steps=1, pictures=8, batch=8)),
    ),
    radii=("1/255", "0.02"),
    data=DataSpec("signs", exclude=("stop",)),
    defenses=("none", "jpeg:75"),
    samples=8,
    goal="next",
    seed=3,
    batch_size=4,
    shard=4,
)


def test_every_cell_is_planned_again_from_its_own_file(tmp_path: Path) -> None:
    plans = [make_plan(FIRST), make_plan(replace(FIRST, defenses=("none",), transfer=True))]
    store = Store(tmp_path).create()
    for plan in plans:
        store.add(*(planned.record for planned in plan.cells))
    files = sorted(tmp_path.glob("cells/*/cell.json"))
    kinds = set()
    for path in files:
        found = json.loads(path.read_text())
        if not found["cell"]["stages"]:
            continue
        again = {planned.cell.key for planned in make_plan(asked_again(found)).cells}
        assert path.parent.name in again, f"{found['cell']} is not planned again"
        kinds.add((found["about"]["attack"], found["cell"]["defense"], bool(found["cell"]["surrogate"])))
    assert len(kinds) == 4 * 4, "four attacks: plain, on a surrogate, behind a defense, and oblivious of it"


def test_what_is_done_again_is_the_same(tmp_path: Path) -> None:
    wanted = replace(FIRST, models=FIRST.models[:1], attacks=FIRST.attacks[2:3], defenses=("none",))
    plan = make_plan(wanted)
    run_plan(plan, tmp_path / "first")
    (path,) = (p for p in tmp_path.glob("first/cells/*/cell.json") if json.loads(p.read_text())["cell"]["stages"])
    run_plan(make_plan(asked_again(json.loads(path.read_text()))), tmp_path / "again")
    cell = next(planned.cell for planned in plan.cells if planned.cell.stages)
    first, again = (Store(tmp_path / name).facts(cell) for name in ("first", "again"))
    assert first is not None
    assert again is not None
    for name, array in first.per_example().items():
        assert (array == again.per_example()[name]).all(), name


def test_a_value_is_recorded_by_names_and_numbers() -> None:
    told = json.loads(json.dumps(recorded(AttackSpec("x", made=CHAIN))))
    assert [stage[:2] for stage in told["attack stages"]] == [["pma", "apgd"], ["pgd", "pgd"]]
    assert told["attack stages"][0][2]["steps"] == 2
    assert told["attack stages"][0][2]["loss"] == "prob-margin"
    assert "threat" not in told["attack stages"][0][2]
