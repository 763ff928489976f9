"""Randomness belongs to the example: never to the batch, never to the process."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import pictures
from scipy import stats

from advkit.core import Rng
from advkit.core.rng import identify

IDS = torch.arange(1000) * 7919 - 3_000_000
DRAWS = {
    "uniform": lambda rng: rng.uniform(5, 3, dtype=torch.float64),
    "normal": lambda rng: rng.normal(5, 3, dtype=torch.float64),
    "integers": lambda rng: rng.integers(1000, 5, 3).double(),
    "bits": lambda rng: rng.bits(5, 3).double(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_an_example_draws_the_same_alone_in_a_batch_and_in_any_order(draw):
    whole = draw(Rng.of(3, IDS))
    alone = torch.cat([draw(Rng.of(3, IDS[i : i + 1])) for i in range(0, 1000, 50)])
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(whole[::50], alone)
    assert torch.equal(draw(Rng.of(3, IDS[order])), whole[order])
    assert torch.equal(draw(Rng.of(3, IDS).take(order)), whole[order])


def test_seeds_examples_purposes_steps_and_places_draw_unrelated_numbers():
    base = Rng.of(0, IDS)
    streams = {
        "base": base,
        "other seed": Rng.of(1, IDS),
        "far seed": Rng.of(2**62, IDS),
        "negative seed": Rng.of(-1, IDS),
        "next ids": Rng.of(0, IDS + 1),
        "a word": base.fold("start"),
        "another word": base.fold("view"),
        "step 0": base.fold(0),
        "step 1": base.fold(1),
        "steps by row": base.fold(torch.full_like(IDS, 2)),
        "0 then 1": base.fold(0).fold(1),
        "1 then 0": base.fold(1).fold(0),
    }
    drawn = torch.stack([rng.uniform(100, dtype=torch.float64).flatten() for rng in streams.values()])
    correlation = torch.corrcoef(drawn) - torch.eye(len(streams), dtype=torch.float64)
    assert float(correlation.abs().max()) < 0.016  # 5 standard deviations of 100,000 pairs
    assert len({tuple(row[:4].tolist()) for row in drawn}) == len(streams)
    places = Rng.of(0, IDS).uniform(30, dtype=torch.float64)
    assert float((torch.corrcoef(places.T) - torch.eye(30, dtype=torch.float64)).abs().max()) < 0.16
    assert float((torch.corrcoef(places[:60]) - torch.eye(60, dtype=torch.float64)).abs().max()) < 0.9


def test_a_number_per_row_is_the_same_purpose_as_the_number():
    steps = torch.arange(1000) % 4
    mixed = Rng.of(0, IDS).fold(steps).uniform(3)
    for step in range(4):
        assert torch.equal(mixed[steps == step], Rng.of(0, IDS).fold(step).uniform(3)[steps == step])


def test_uniform_numbers_are_uniform():
    drawn = Rng.of(0, IDS).uniform(100, dtype=torch.float64).flatten().numpy()
    assert stats.kstest(drawn, stats.uniform().cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount((drawn * 64).astype(int), minlength=64)).pvalue > 1e-3


def test_the_ends_of_the_interval_are_never_drawn(monkeypatch):
    for bits in (-1, 0):
        monkeypatch.setattr(Rng, "bits", lambda self, *shape, bits=bits: torch.full((1, *shape), bits))
        for dtype in (torch.float32, torch.float64):
            value = float(Rng(torch.zeros(1, dtype=torch.long)).uniform(1, dtype=dtype))
            assert 0 < value < 1


def test_float32_draws_the_same_uniform_numbers_as_float64():
    rng = Rng.of(0, IDS)
    assert torch.equal(rng.uniform(50).double(), rng.uniform(50, dtype=torch.float64))


def test_normal_numbers_are_normal():
    drawn = Rng.of(0, IDS).normal(100, dtype=torch.float64).flatten().numpy()
    assert stats.kstest(drawn, stats.norm().cdf).pvalue > 1e-3
    assert abs(drawn.mean()) < 0.016
    assert abs(drawn.var() - 1) < 0.025
    assert abs(stats.skew(drawn)) < 0.04
    assert abs(stats.kurtosis(drawn)) < 0.08


def test_whole_numbers_are_uniform_below_their_limit():
    drawn = Rng.of(0, IDS).integers(7, 20)
    assert stats.chisquare(torch.bincount(drawn.flatten(), minlength=7).numpy()).pvalue > 1e-3
    limit = torch.arange(1, 1001)
    each = Rng.of(0, IDS).integers(limit, 20)
    assert bool((each >= 0).all())
    assert bool((each < limit[:, None]).all())
    assert bool((each[0] == 0).all())


def test_the_global_generators_are_neither_read_nor_written():
    x = pictures(5)
    before, before_np = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    first = Rng.of(0, identify(x)).normal(4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_np)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        assert torch.equal(Rng.of(0, identify(x)).normal(4), first)


def test_a_picture_is_the_same_example_in_float32_and_float64():
    for x in (pictures(200, dtype=torch.float32), (pictures(200) * 255).round().float() / 255):
        assert torch.equal(identify(x), identify(x.double()))
    levels = (pictures(200) * 255).round()
    assert torch.equal(identify(levels.float() / 255), identify(levels / 255))


def test_a_picture_is_the_same_example_alone_shuffled_or_not_contiguous():
    x = pictures(20)
    assert torch.equal(identify(x)[3:4], identify(x[3:4]))
    assert torch.equal(identify(x.flip(0)), identify(x).flip(0))
    assert torch.equal(identify(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), identify(x))


def test_no_two_of_many_small_pictures_are_taken_for_one():
    x = (pictures(120_000, (1, 3, 3)) * 15).round() / 15
    distinct = len(torch.unique(x.flatten(1), dim=0))
    assert len(torch.unique(identify(x))) == distinct > 119_000
    flat = torch.arange(256, dtype=torch.float64)[:, None].expand(-1, 12) / 255  # plain grey pictures
    swapped = torch.tensor([[0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [0.5, 0.0, 1.0]])
    assert len(torch.unique(identify(flat))) == 256
    assert len(torch.unique(identify(swapped))) == 3
