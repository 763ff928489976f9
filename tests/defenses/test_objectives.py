"""Objectives are frozen values that leave the training loop's model as it is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from helpers import Spy, conv_net, pictures

from advkit.attacks.pgd import PGD
from advkit.catalog import DEFENSES
from advkit.core import L2, Linf
from advkit.core.defense import Objective
from advkit.defenses.pgd_at import PGDTraining
from advkit.defenses.standard import Standard

X = pictures(6, dtype=torch.float32)
Y = torch.tensor([0, 1, 2, 3, 4, 0])


WITHOUT_DRAWS = {"standard", "free-at", "ibp", "roa"}
OF_PICTURES = {"denoise", "logit-guided", "noise-prediction", "stability"}  # objectives of denoisers, tested elsewhere
OBJECTIVES = [
    entry for entry in DEFENSES.entries() if issubclass(entry.factory, Objective) and entry.name not in OF_PICTURES
]


@pytest.mark.parametrize("entry", OBJECTIVES, ids=lambda entry: entry.name)
def test_every_objective_gives_a_scalar_with_a_gradient_and_the_same_one_again(entry: object) -> None:
    objective = entry.create()  # type: ignore[attr-defined]
    assert dataclasses.is_dataclass(objective)
    with pytest.raises(dataclasses.FrozenInstanceError):
        objective.anything = 1  # type: ignore[attr-defined]
    # A pass in train mode moves BatchNorm's statistics, so each loss has a model of its own.
    models = [conv_net(norm=True, dtype=torch.float32).train() for _ in range(3)]
    first, again, other = (objective(model, X, Y, seed) for model, seed in zip(models, (0, 0, 1), strict=True))
    model = models[0]
    assert first.shape == ()
    assert torch.equal(first, again)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    first.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert torch.equal(first, other) == (entry.name in WITHOUT_DRAWS)  # type: ignore[attr-defined]


def test_standard_is_cross_entropy() -> None:
    model = conv_net(dtype=torch.float32)
    assert torch.equal(Standard()(model, X, Y, 0), F.cross_entropy(model(X), Y))


@pytest.mark.parametrize("threat", [Linf(0.05), L2(0.5)])
def test_adversarial_training_sees_what_pgd_leaves(threat: Linf | L2) -> None:
    model = conv_net(dtype=torch.float32)
    objective = PGDTraining(threat, steps=3)
    x_adv = PGD(threat, steps=3, step_size=0.25)(model, X, Y, seed=7, keep="last")
    assert torch.equal(objective(model, X, Y, 7), F.cross_entropy(model(x_adv), Y))
    assert objective(model, X, Y, 7) > Standard()(model, X, Y, 7)


def test_the_attack_of_adversarial_training_takes_its_steps_in_eval_mode() -> None:
    spy = Spy(conv_net(norm=True, dtype=torch.float32).train())
    spy.train()
    PGDTraining(steps=3)(spy, X, Y, 0)
    assert spy.modes == {False, True}
    assert spy.backwards == 3 * len(X)
