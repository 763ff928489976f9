"""An example's facts do not depend on its company: on the shard, the worker, the number of workers or of threads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from company import Crowd

from advkit.attacks import APGD, FMN, UAP, Square
from advkit.core import ProbabilityMargin
from advkit.core.attack import Ensemble
from advkit.data import TensorData, load_data
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.engine.tasks import Executor, InProcess
from advkit.executors.processes import Processes
from advkit.results.cell import Facts
from advkit.results.store import Store

MODELS = (ModelSpec("resnet", weights="standard", name="standard"), ModelSpec("lenet"))
SAMPLES = 40
WANTED = Sweep(
    models=MODELS,
    attacks=(AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 5),)), AttackSpec("worst-case", (("steps", 4),))),
    radii=("1/255", "3/255", "8/255"),
    samples=SAMPLES,
    batch_size=32,
)


CHAIN = Ensemble(
    (
        ("pma", APGD(steps=4, loss=ProbabilityMargin())),
        ("square-near", Square(queries=25, resumes=True, patience=10)),
    )
)
RICH = Sweep(
    models=(ModelSpec("lenet"),),
    attacks=(
        AttackSpec("chain", made=CHAIN),  # stages, of which one begins where those before it came nearest
        AttackSpec("fmn", made=FMN(steps=8)),  # one run for the nearest pictures serves all radii
        AttackSpec("uap", made=UAP(steps=4, pictures=16, batch=8)),  # fitted
        AttackSpec("crowd", made=Crowd()),  # of another library, which minds who shares its batch
    ),
    radii=("1/255", "4/255"),
    # One that draws, keyed by the picture; one with weights of its own. Each is attacked, and shown what beat the bare model.
    defenses=("none", "resize-pad", "dncnn"),
    samples=60,
    batch_size=32,
)
VIA = dataclasses.replace(
    RICH, models=MODELS[:1], defenses=("none",), surrogates=(ModelSpec("lenet"), ModelSpec("cnn"))
)
DRAWS = dataclasses.replace(
    RICH,
    models=(ModelSpec.named(f"{Path(__file__).parents[1]}/company.py:Draws"),),
    attacks=RICH.attacks[:3],
    defenses=("none",),
)
"""Of a model that draws from torch's own generator, the same comes of the same shards and batches only."""


def facts_of(wanted: Sweep, folder: Path, executor: Executor | None = None) -> dict[tuple[object, ...], Facts]:
    plan = make_plan(wanted)
    result = run_plan(plan, folder, executor=executor)
    assert not result.failed
    found = {}
    for planned in plan.cells:
        facts = Store(folder).facts(planned.cell)
        assert facts is not None
        assert len(facts) == plan.samples
        found[(planned.cell.model, planned.cell.defense, planned.cell.attack, planned.cell.radii)] = facts
    return found


def assert_same(found: dict[tuple[object, ...], Facts], expected: dict[tuple[object, ...], Facts]) -> None:
    assert found.keys() == expected.keys()
    for name, facts in expected.items():
        for column, array in facts.per_example().items():
            np.testing.assert_array_equal(found[name].per_example()[column], array, err_msg=f"{name} {column}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[object, ...], Facts]:
    return facts_of(dataclasses.replace(WANTED, shard=1000), tmp_path_factory.mktemp("alone"))


def test_the_case_is_not_an_easy_one(alone: dict[tuple[object, ...], Facts]) -> None:
    nested = [facts for (_, _, attack, radii), facts in alone.items() if attack == "worst-case" and len(radii) == 3]
    assert len(nested) == len(MODELS)
    assert all(0 < facts.stands.sum() < facts.stands.size for facts in nested)


@pytest.mark.slow
def test_shards_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path) -> None:
    assert_same(facts_of(dataclasses.replace(WANTED, shard=7), tmp_path), alone)


@pytest.mark.slow
def test_threads_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        assert_same(facts_of(dataclasses.replace(WANTED, shard=24), tmp_path, InProcess()), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_workers_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path) -> None:
    assert_same(facts_of(dataclasses.replace(WANTED, shard=16), tmp_path, Processes(2)), alone)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_workers_of_ray_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from advkit.executors.ray import Ray

    assert_same(facts_of(dataclasses.replace(WANTED, shard=16), tmp_path, Ray(workers=2)), alone)


def test_a_tensor_in_another_order_has_the_same_facts_in_that_order(tmp_path: Path) -> None:
    x, labels = load_data("signs").head(24).tensors()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    few = dataclasses.replace(WANTED, models=(ModelSpec("lenet", "embedded:lenet-signs-standard"),), shard=9)
    sweeps = [
        facts_of(dataclasses.replace(few, data=DataSpec("mine", made=TensorData(*data))), tmp_path / str(place))
        for place, data in enumerate([(x, labels), (x[order], labels[order])])
    ]
    for name, facts in sweeps[0].items():
        for column, array in facts.per_example().items():
            if column != "index":
                np.testing.assert_array_equal(
                    getattr(sweeps[1][name], column), array[..., order.numpy()], err_msg=column
                )


# ---------------------------------------------------------------------- all that an attack and a defense may be


STUDIES = {"defended": RICH, "surrogates": VIA}
Everything = dict[str, dict[tuple[object, ...], Facts]]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Everything:
    return {
        name: facts_of(dataclasses.replace(study, shard=1000), tmp_path_factory.mktemp(name))
        for name, study in STUDIES.items()
    }


@pytest.mark.slow
def test_the_rich_case_is_not_an_easy_one(everything: Everything) -> None:
    """Chains go on to the end, things are fitted, controls stand beside them; few rows are all won or all lost."""
    kinds = {name[2] for study in everything.values() for name in study}
    assert {"chain", "chain (oblivious)", "uap via cnn", "crowd via lenet", "fmn"} <= kinds
    for name, facts in everything["defended"].items():
        if name[2] == "chain":
            assert facts.attacked[1].any(), "the last stage meets what the others left"
    attacked = [facts for study in everything.values() for name, facts in study.items() if name[2] != "none"]
    mixed = [facts for facts in attacked if 0 < facts.success.sum() < facts.attacked.sum()]
    assert len(mixed) > 0.5 * len(attacked)
    assert any(facts.controls for facts in attacked)


COMPANIES = {
    "small shards, large batches": ({"shard": 7, "batch_size": 64}, None),
    "two processes, small batches": ({"shard": 20, "batch_size": 8}, Processes(2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("company", COMPANIES)
def test_no_company_changes_anything(everything: Everything, tmp_path: Path, study: str, company: str) -> None:
    changed, executor = COMPANIES[company]
    wanted = dataclasses.replace(STUDIES[study], **changed)  # type: ignore[arg-type]
    assert_same(facts_of(wanted, tmp_path, executor), everything[study])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.parametrize("study", STUDIES)
def test_ray_changes_nothing_either(everything: Everything, tmp_path: Path, study: str) -> None:
    pytest.importorskip("ray")
    from advkit.executors.ray import Ray

    assert_same(facts_of(dataclasses.replace(STUDIES[study], shard=20), tmp_path, Ray(workers=2)), everything[study])


@pytest.mark.slow
def test_a_model_that_draws_says_the_same_in_the_same_shards_wherever_and_however_often_it_is_asked(
    tmp_path: Path,
) -> None:
    wanted = dataclasses.replace(DRAWS, shard=20, samples=40)
    here = facts_of(wanted, tmp_path / "here")
    assert_same(facts_of(wanted, tmp_path / "there", Processes(2)), here)
    for path in sorted((tmp_path / "there").glob("cells/*/0*.safetensors"))[::3]:
        path.unlink()
    assert_same(facts_of(wanted, tmp_path / "there", InProcess()), here)
    threads = torch.get_num_threads()
    torch.set_num_threads(3 - min(threads, 2))
    try:
        assert_same(facts_of(wanted, tmp_path / "threads"), here)
    finally:
        torch.set_num_threads(threads)
