"""An example's facts do not depend on its company: on the shard, the worker, the number of workers or of threads."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from advkit.data import TensorData, load_data
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec
from advkit.engine.sweep import Sweep, make_plan, run_plan
from advkit.engine.tasks import Executor, InProcess
from advkit.executors.processes import Processes
from advkit.results.cell import Facts
from advkit.results.store import Store

MODELS = (
    ModelSpec("resnet", weights="standard", name="standard"),
    ModelSpec("resnet", weights="adversarial", name="adversarial"),
    ModelSpec("lenet"),
)
SAMPLES = 40
WANTED = Sweep(
    models=MODELS,
    attacks=(AttackSpec("fgsm"), AttackSpec("pgd", (("steps", 5),)), AttackSpec("worst-case", (("steps", 4),))),
    radii=("1/255", "3/255", "8/255"),
    samples=SAMPLES,
    batch_size=32,
)


def facts_of(wanted: Sweep, folder: Path, executor: Executor | None = None) -> dict[tuple[object, ...], Facts]:
    plan = make_plan(wanted)
    result = run_plan(plan, folder, executor=executor)
    assert not result.failed
    found = {}
    for planned in plan.cells:
        facts = Store(folder).facts(planned.cell)
        assert facts is not None
        assert len(facts) == plan.samples
        found[(planned.cell.model, planned.cell.attack, planned.cell.radii)] = facts
    return found


def assert_same(found: dict[tuple[object, ...], Facts], expected: dict[tuple[object, ...], Facts]) -> None:
    assert found.keys() == expected.keys()
    for name, facts in expected.items():
        for column, array in facts.per_example().items():
            np.testing.assert_array_equal(getattr(found[name], column), array, err_msg=f"{name} {column}")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[object, ...], Facts]:
    return facts_of(dataclasses.replace(WANTED, shard=1000), tmp_path_factory.mktemp("alone"))


def test_the_case_is_not_an_easy_one(alone: dict[tuple[object, ...], Facts]) -> None:
    nested = [facts for (_, attack, radii), facts in alone.items() if attack == "worst-case" and len(radii) == 3]
    assert len(nested) == len(MODELS)
    assert all(0 < facts.stands.sum() < facts.stands.size for facts in nested)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [7, 16])
def test_shards_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path, shard: int) -> None:
    assert_same(facts_of(dataclasses.replace(WANTED, shard=shard), tmp_path), alone)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert_same(facts_of(dataclasses.replace(WANTED, shard=24), tmp_path, InProcess()), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(alone: dict[tuple[object, ...], Facts], tmp_path: Path, workers: int) -> None:
    assert_same(facts_of(dataclasses.replace(WANTED, shard=16), tmp_path, Processes(workers)), alone)


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
