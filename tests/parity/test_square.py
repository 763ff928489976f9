"""As often as torchattacks' Square Attack succeeds, over ten seeds, ours does."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from helpers import seeded
from torch import Tensor, nn

from advkit.attacks import Square
from advkit.core import L2, Ball, Linf

pytestmark = pytest.mark.parity
torchattacks = pytest.importorskip("torchattacks")

SEEDS = 10
QUERIES = 100


@functools.lru_cache(maxsize=1)
def patches() -> tuple[nn.Module, Tensor, Tensor]:
    """A float64 CNN that tells five coarse patterns of 20 x 20 pixels apart, and 24 pictures that it gets right."""
    generator = torch.Generator().manual_seed(4)
    patterns = torch.rand(5, 3, 5, 5, generator=generator, dtype=torch.float64).repeat_interleave(4, 2)
    patterns = patterns.repeat_interleave(4, 3)

    def draw(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.randint(5, (count,), generator=generator)
        noise = 0.15 * torch.randn(count, 3, 20, 20, generator=generator, dtype=torch.float64)
        return (0.35 + 0.3 * patterns[labels] + noise).clamp(0, 1), labels

    model = seeded(
        nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=3),
            nn.Softplus(),
            nn.Flatten(),
            nn.Linear(216, 24),
            nn.Softplus(),
            nn.Linear(24, 5),
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        x, y = draw(48)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    x, y = draw(30)
    right = (model(x).argmax(1) == y).nonzero().squeeze(1)[:24]
    assert len(right) == 24
    return model, x[right], y[right]


def shares(ball: Ball) -> tuple[Tensor, Tensor]:
    """(SEEDS,) each: how many pictures we and they beat."""
    model, x, y = patches()
    ours, theirs = [], []
    for seed in range(SEEDS):
        ours.append(Square(ball, queries=QUERIES)(model, x, y, seed=seed, keep="first"))
        peer = torchattacks.Square(model, norm=type(ball).__name__, eps=float(ball.eps), n_queries=QUERIES, seed=seed)
        peer.device = "cpu"
        with torch.random.fork_rng():
            theirs.append(peer(x, y))
    with torch.no_grad():
        return tuple(
            torch.stack([(model(p).argmax(1) != y).double().mean() for p in found]) for found in (ours, theirs)
        )


@pytest.mark.parametrize("ball", [Linf(0.12), L2(4.0)], ids=repr)
def test_it_succeeds_as_often(ball):
    ours, theirs = shares(ball)
    assert 0.2 < float(ours.mean()) < 0.8  # else both would agree for want of trying
    # Three standard errors of the difference; a picture more may fall to us, since the peer never reaches the last row.
    apart = 3 * float(((ours.var() + theirs.var()) / SEEDS).sqrt())
    assert abs(float(ours.mean() - theirs.mean())) <= apart + 1 / 24
