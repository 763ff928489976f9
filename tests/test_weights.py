"""What ships is what it says it is."""

from __future__ import annotations

import pytest
import torch

from advkit import Linf, evaluate, load_data, load_model
from advkit.attacks import PGD
from advkit.backbones.checkpoint import Checkpoint, embedded
from advkit.engine.evaluate import accuracy


@pytest.mark.parametrize("weights", embedded(), ids=lambda weights: weights.path.stem)
def test_shipped_weights_are_small_and_as_accurate_as_is_written_beside_them(weights: Checkpoint) -> None:
    assert weights.path.stat().st_size < 1_500_000
    data = load_data("signs", samples=300)
    model = load_model(str(weights.backbone), weights=f"embedded:{weights.path.stem}", data=data)
    found = accuracy(model, data)
    written = float(weights.metadata["accuracy"].split()[0])
    assert found.low <= written <= found.high
    assert written > 0.7
    assert weights.metadata["recipe"]


def test_adversarial_training_holds_where_standard_training_falls() -> None:
    data = load_data("signs", samples=60)
    left = {}
    for variant in ("standard", "adversarial"):
        model = load_model("resnet", weights=variant, data=data)
        left[variant] = evaluate(model, data, PGD(Linf("8/255"), steps=10)).worst()[0][1].value
    assert left["standard"] < 0.1
    assert left["adversarial"] > 0.4


def test_the_same_example_ends_the_same_in_any_batch_and_any_order() -> None:
    data = load_data("signs", samples=40)
    model = load_model("resnet", data=data)
    attack = PGD(Linf("2/255"), steps=10)
    facts = [evaluate(model, data, attack, batch_size=size).outcomes[0] for size in (1, 7, 64)]
    for fact in facts[1:]:
        assert torch.equal(facts[0].success, fact.success)
        assert torch.equal(facts[0].steps, fact.steps)
        assert torch.equal(facts[0].forwards, fact.forwards)
        assert torch.allclose(facts[0].distance, fact.distance, atol=1e-6)
