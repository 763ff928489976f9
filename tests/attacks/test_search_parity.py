"""The searches that are other libraries' find what those libraries find when they are called directly."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import differential_evolution
from scipy.stats import ks_2samp
from torch import Tensor

from advkit.attacks._search import SEARCHES, CovarianceAdaptation, Evolution, Memory, Moves, Search
from advkit.core import Rng

SIZE, POPULATION, GENERATIONS = 4, 12, 10
MOVES = Moves(torch.full((SIZE,), 0.1), torch.zeros(SIZE, dtype=torch.bool), torch.zeros(SIZE, dtype=torch.long))


def hills(vectors: Any) -> Any:
    """Energy of vectors (..., SIZE) in [0, 1]: many valleys, of which the deepest, 0, is not in the middle."""
    away = 6 * (vectors - 0.3)
    cos = np.cos if isinstance(vectors, np.ndarray) else torch.cos
    return (away**2 - 2 * cos(2 * np.pi * away) + 2).sum(-1)


def ours(search: Search, examples: int, seed: int = 0, generations: int = GENERATIONS) -> tuple[list[Memory], Tensor]:
    """Memories before each answer and after the last, and the least energy (examples,) that was asked."""
    rng = Rng.of(seed, torch.arange(examples))
    memory = search.begin(rng.uniform(POPULATION, SIZE, dtype=torch.float64), MOVES, generations, rng)
    memories, least = [memory], torch.full((examples,), torch.inf, dtype=torch.float64)
    for generation in range(generations):
        energies = hills(memory.theta)
        least = torch.minimum(least, energies.amin(1))
        memory = search.tell(memory, -energies, MOVES, rng.fold(generation))
        memories.append(memory)
    return memories, least


def scipys(search: Evolution, first: np.ndarray, seed: int, generations: int, **more: Any) -> Any:
    return differential_evolution(
        lambda vectors: hills(vectors.T),
        [(0, 1)] * SIZE,
        strategy=search.strategy,
        mutation=search.mutation,
        recombination=search.recombination,
        maxiter=generations,
        tol=0,
        init=first,
        polish=False,
        updating="deferred",
        vectorized=True,
        rng=seed,
        **more,
    )


EVOLUTIONS = [Evolution(), Evolution("rand1bin", 0.5, 1.0)]


@pytest.mark.parametrize("search", EVOLUTIONS, ids=repr)
def test_a_generation_in_two_calls_is_one_generation_of_scipys(search):
    memories, _ = ours(search, 2)
    changed = 0
    for before, after in itertools.pairwise(memories[1:]):
        for row in range(2):
            population, energies, seeds = (part[row].numpy() for part in before.rest)
            np.testing.assert_array_equal(hills(population), energies)
            found = scipys(search, population, int(seeds), 1)
            np.testing.assert_array_equal(after.rest[0][row], found.population)
            np.testing.assert_array_equal(after.rest[1][row], found.population_energies)
            changed += int((np.sort(energies) != np.sort(found.population_energies)).any())
    assert changed > GENERATIONS


@pytest.mark.parametrize("search", EVOLUTIONS, ids=repr)
def test_many_generations_end_where_an_uninterrupted_call_of_scipy_ends(search):
    count = 40
    memories, least = ours(search, count)
    # The first population is judged too, so scipy has a generation less to breed.
    theirs = [scipys(search, memories[0].theta[row].numpy(), row, GENERATIONS - 1).fun for row in range(count)]
    assert ks_2samp(least, theirs).pvalue > 0.05, (float(least.mean()), statistics.mean(theirs))
    # Far enough from the start, and from fewer generations, for a difference to be seen.
    early = [scipys(search, memories[0].theta[row].numpy(), row, GENERATIONS // 2).fun for row in range(count)]
    assert ks_2samp(least, early).pvalue < 1e-3


def test_the_vectors_of_cma_are_those_of_the_package_itself():
    cmaes = pytest.importorskip("cmaes")
    memories, _ = ours(CovarianceAdaptation(), 2)
    for row, seed in enumerate(memories[0].rest[1].tolist()):
        direct = cmaes.CMA(
            np.full(SIZE, 0.5), 0.3, bounds=np.tile([0.0, 1.0], (SIZE, 1)), seed=seed, population_size=POPULATION
        )
        for memory in memories:
            asked = np.stack([direct.ask() for _ in range(POPULATION)])
            np.testing.assert_array_equal(memory.theta[row], asked)
            direct.tell(list(zip(asked, hills(asked), strict=True)))
    assert not torch.equal(memories[0].theta[0], memories[0].theta[1])  # each example has a seed of its own


def test_rows_that_stand_at_different_generations_are_told_apart():
    """The engine mixes examples of different ages in one batch."""
    for name in ("de", "cma"):
        if name == "cma":
            pytest.importorskip("cmaes")
        memories, _ = ours(SEARCHES[name], 2, generations=6)
        rng = Rng.of(0, torch.arange(2))
        young, old = memories[1], memories[4]
        mixed = Memory(*(_joined(a, b) for a, b in zip(young, old, strict=True)))
        streams = Rng(torch.cat([rng.fold(1).keys[:1], rng.fold(4).keys[1:]]))
        after = SEARCHES[name].tell(mixed, -hills(mixed.theta), MOVES, streams)
        assert torch.equal(after.theta[0], memories[2].theta[0])
        assert torch.equal(after.theta[1], memories[5].theta[1])


def _joined(first: Any, second: Any) -> Any:
    """The first row of one and the second of the other."""
    if isinstance(first, tuple):
        return tuple(_joined(a, b) for a, b in zip(first, second, strict=True))
    return torch.cat([first[:1], second[1:]])
