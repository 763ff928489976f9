"""A borrowed model comes back as it was, whatever happened meanwhile."""

from __future__ import annotations

import copy
import random
import warnings

import numpy as np
import pytest
import torch
from helpers import conv_net, pictures
from torch import nn

from advkit.core.modes import borrowed, draws_anywhere


def state(model: nn.Module) -> dict[str, object]:
    """Everything a caller could notice, but for the parameters' values."""
    return {
        "training": [m.training for m in model.modules()],
        "asks": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "buffers": [(id(b), b.clone()) for b in model.buffers()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()],
    }


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.fixture
def model() -> nn.Module:
    """In training, with one BatchNorm frozen, one parameter frozen, and a gradient waiting for the optimizer."""
    model = conv_net(norm=True, dropout=0.5)
    model(pictures(4)).sum().backward()
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    return model


def test_inside_the_model_is_in_eval_mode_and_asks_for_no_gradients(model):
    with borrowed(model) as lent:
        assert lent is model
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        assert torch.is_grad_enabled()


def test_afterwards_all_is_as_it_was(model):
    before = state(model)
    with borrowed(model):
        x = pictures(4).requires_grad_()
        model(x).sum().backward()
        model[1].running_mean.add_(1)
        model[4].running_var = torch.ones(6, dtype=torch.float64)
    assert same(before, state(model))


def test_afterwards_all_is_as_it_was_in_train_mode_too(model):
    before = state(model)
    with borrowed(model, mode="train"):
        assert [m.training for m in model.modules()] == before["training"]
        model(pictures(4))
        assert not torch.equal(model[4].running_mean, before["buffers"][3][1])
    assert same(before, state(model))


def test_after_an_exception_all_is_as_it_was(model):
    before = state(model)

    def fail() -> None:
        with borrowed(model):
            model[4].running_mean.mul_(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert same(before, state(model))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_gradients_flow_where_the_caller_switched_them_off(model, context):
    with context():
        with borrowed(model):
            x = pictures(2).requires_grad_()
            (grad,) = torch.autograd.grad(model(x).sum(), x)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (context is torch.inference_mode)
    assert float(grad.abs().max()) > 0


def test_a_module_that_overrides_train_is_not_asked_to_restore_itself():
    class Frozen(nn.BatchNorm2d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    model = nn.Sequential(Frozen(3)).train()
    assert not model[0].training
    model[0].training = True  # thawed for a while, by hand
    with borrowed(model):
        assert not model[0].training
    assert model[0].training
    assert model.training


def test_a_statistic_that_is_not_a_number_survives(model):
    model[1].running_mean.fill_(torch.nan)
    kept = model[1].running_mean
    with borrowed(model):
        model[1].running_mean.zero_()
    assert model[1].running_mean is kept
    assert bool(kept.isnan().all())


def test_borrowing_within_borrowing_gives_back_twice(model):
    before = state(model)
    with borrowed(model):
        with borrowed(model, mode="train"):
            assert not model.training
        assert not any(p.requires_grad for p in model.parameters())
    assert same(before, state(model))


def test_a_scripted_model_can_be_borrowed(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; models saved by it are still about
        scripted = torch.jit.script(copy.deepcopy(model))
    scripted.train()
    kept = [b.clone() for b in scripted.buffers()]
    with borrowed(scripted, mode="train"):
        scripted(pictures(4))
    assert scripted.training
    assert all(torch.equal(a, b) for a, b in zip(kept, scripted.buffers(), strict=True))


class Draws(nn.Module):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.source, self.dropout = source, nn.Dropout(0.5)

    def forward(self, x):
        if self.source == "numpy":
            return x + np.random.rand()
        if self.source == "python":
            return x + random.random()
        if self.source == "torch":
            return x + torch.rand_like(x)
        if self.source == "own":
            return x + torch.rand(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
        return self.dropout(x)


@pytest.mark.parametrize(
    ("source", "expected"), [("torch", True), ("numpy", True), ("python", True), ("own", False), ("dropout", False)]
)
def test_a_model_that_draws_from_a_global_generator_is_known_and_leaves_no_trace(source, expected):
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    model = Draws(source).train()
    assert draws_anywhere(model, pictures(2)) is expected
    assert model.training
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()
    assert random.getstate() == before[2]
