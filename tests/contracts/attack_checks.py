"""What every attack owes, as functions: each passes for an attack that keeps the contract, and fails for no other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import FailsAt, conv_net, linear, pictures, trained
from torch import Tensor, nn

from advkit.core import Attack, CrossEntropy, Goal, Rng, Targeted, Untargeted

TIGHT = {"rtol": 0, "atol": 1e-12}
FEW = 9


def sample() -> tuple[nn.Module, Tensor, Tensor]:
    model, x, y = trained()
    return model, x[:FEW].clone(), y[:FEW].clone()


def inside(attack: Attack, x_adv: Tensor, x: Tensor) -> bool:
    return bool(attack.threat.contains(x_adv, x).all()) and bool(((x_adv >= 0) & (x_adv <= 1)).all())


def check_result(attack: Attack) -> None:
    """The result is new, shaped and typed like the pictures, inside ball and box; nothing given is written to."""
    for dtype in (torch.float64, torch.float32):
        model, x, y = sample()
        model, x = copy.deepcopy(model).to(dtype), x.to(dtype)
        for goal in (y, Targeted((y + 1) % 4)):
            kept_x, kept_y = x.clone(), y.clone()
            x_adv = attack(model, x, goal)
            assert (x_adv.shape, x_adv.dtype) == (x.shape, dtype)
            assert inside(attack, x_adv, x)
            assert not x_adv.requires_grad
            assert x_adv.data_ptr() != x.data_ptr()
            assert torch.equal(x, kept_x)
            assert torch.equal(y, kept_y)


def check_gain(attack: Attack) -> None:
    """The pictures that come back have a higher loss than the clean ones, away from a label and towards a target."""
    model, x, y = sample()
    for goal in (Untargeted(y), Targeted((y + 1) % 4)):
        clean, found = (_loss(model, points, goal) for points in (x, attack(model, x, goal, keep="best")))
        assert int((found > clean).sum()) >= FEW - 2, (
            f"{attack} raised the loss of {int((found > clean).sum())} of {FEW}"
        )


def _loss(model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
    with torch.no_grad():
        return CrossEntropy()(model(x), goal)


def check_batching(attack: Attack) -> None:
    """An example becomes the same alone, in any batch, in any order and in lanes of any number."""
    model, x, y = sample()
    whole = attack(model, x, y, batch_size=64)
    for lanes in (1, 4):
        torch.testing.assert_close(attack(model, x, y, batch_size=lanes), whole, **TIGHT)
    alone = torch.cat([attack(model, x[i : i + 1], y[i : i + 1]) for i in (0, 4, FEW - 1)])
    torch.testing.assert_close(alone, whole[[0, 4, FEW - 1]], **TIGHT)
    torch.testing.assert_close(attack(model, x.flip(0), y.flip(0), batch_size=4).flip(0), whole, **TIGHT)


def check_seed(attack: Attack) -> None:
    """One seed, one result; another seed, another result where anything is drawn."""
    model, x, y = sample()
    with _counting_draws() as draws:
        first = attack(model, x, y, seed=5, keep="last")
    assert torch.equal(attack(model, x, y, seed=5, keep="last"), first)
    changed = not torch.equal(attack(model, x, y, seed=6, keep="last"), first)
    assert changed == bool(draws), "the seed must change what is drawn, and nothing else"


@contextmanager
def _counting_draws() -> Iterator[list[int]]:
    draws: list[int] = []
    original = Rng.bits

    def bits(self: Rng, *shape: int) -> Tensor:
        draws.append(1)
        return original(self, *shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rng, "bits", bits)
        yield draws


def fingerprint(model: nn.Module) -> list[object]:
    """Everything of the caller's that an attack could disturb, as comparable values."""
    return [
        [m.training for m in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [(p._version, p.detach().sum().item()) for p in model.parameters()],
        [None if p.grad is None else (id(p.grad), p.grad._version, p.grad.sum().item()) for p in model.parameters()],
        [(id(b), b.double().sum().item()) for b in model.buffers()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    ]


def busy_model() -> tuple[nn.Module, Tensor, Tensor]:
    """A model in the middle of training: one BatchNorm and one weight frozen, gradients waiting for the optimizer."""
    model, x = conv_net(4, norm=True, dropout=0.3), pictures(5)
    model(x).sum().backward()
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    return model, x, torch.tensor([0, 1, 2, 3, 0])


def check_side_effects(attack: Attack) -> None:
    """The caller's model, its gradients, statistics and modes, and the global generators are as they were."""
    model, x, y = busy_model()
    before = fingerprint(model)
    expected = attack(model, x, y)
    assert fingerprint(model) == before
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            within = fingerprint(model)
            x_adv = attack(model, x.clone(), y.clone())
            assert fingerprint(model) == within
        torch.testing.assert_close(x_adv.clone(), expected, **TIGHT)
    assert fingerprint(model) == before


def check_exception(attack: Attack) -> None:
    """What the model raises comes through, at the first call as the cause of a sentence, and leaves everything as it was."""
    calls = FailsAt(busy_model()[0], 0)
    attack(calls, *busy_model()[1:])
    for call in sorted({1, 2, calls.calls}):
        inner, x, y = busy_model()
        model = FailsAt(inner, call)
        before = fingerprint(model)
        with pytest.raises(ValueError, match=f"no answer to call {call}") as raised:
            attack(model, x, y)
        assert str(raised.value.__cause__ or raised.value) == f"no answer to call {call}"
        assert call == 1 or raised.value.__cause__ is None
        assert fingerprint(model) == before


def check_class_counts(attack: Attack) -> None:
    """Works for two classes and for a thousand."""
    for classes in (2, 1000):
        x = pictures(3)
        model = linear(classes)
        y = model(x).argmax(1)
        for goal in (y, Targeted((y + 1) % classes)):
            assert inside(attack, attack(model, x, goal), x)


CHECKS: dict[str, Callable[[Attack], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
