"""What other libraries do to a caller's model (see docs), and an attack here does not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from helpers import conv_net, pictures
from torch import nn

from advkit.attacks import PGD
from advkit.core import Linf, Untargeted


def train(*, attacked: bool) -> nn.Module:
    """Three steps of training, with or without an attack between the backward pass and the optimizer's step."""
    model, x, y = conv_net(4, norm=True, seed=3).train(), pictures(8), torch.arange(8) % 4
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(x + 0.01 * torch.randn_like(x)), y).backward()
        if attacked:
            PGD(Linf(0.05), steps=3)(model, x, y)
        optimizer.step()
    return model


def test_an_attack_in_the_middle_of_training_leaves_no_trace_in_the_weights():
    with torch.random.fork_rng():
        plain, attacked = train(attacked=False).state_dict(), train(attacked=True).state_dict()
    assert all(torch.equal(plain[name], attacked[name]) for name in plain)


def test_a_graph_built_before_an_attack_can_be_walked_back_after_it():
    model, x, y = conv_net(4, norm=True).train(), pictures(8), torch.arange(8) % 4
    loss = F.cross_entropy(model(x), y)
    PGD(Linf(0.05), steps=2)(model, x, y)
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_attack_may_run_while_another_pass_of_the_same_model_is_under_way():
    model, x, y = conv_net(4), pictures(4), torch.arange(4)
    found: list[torch.Tensor] = []

    class Outer(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found.append(PGD(Linf(0.05), steps=2)(model, x.detach(), y))
            return model(found[-1])

    with torch.no_grad():
        outer = Outer()(x)
    assert torch.equal(outer, model(PGD(Linf(0.05), steps=2)(model, x, y)).detach())


def test_pictures_that_ask_for_a_gradient_get_none():
    model, x = conv_net(4), pictures(4).requires_grad_()
    found = PGD(Linf(0.05), steps=2)(model, x, Untargeted(torch.arange(4)))
    assert x.grad is None
    assert x.requires_grad
    assert not found.requires_grad
    assert found.is_leaf


def test_pictures_in_another_memory_format_are_attacked_alike():
    model, x, y = conv_net(4), pictures(4), torch.arange(4)
    last = x.to(memory_format=torch.channels_last)
    expected = PGD(Linf(0.05), steps=2)(model, x, y)
    torch.testing.assert_close(PGD(Linf(0.05), steps=2)(model, last, y), expected, rtol=0, atol=1e-12)
