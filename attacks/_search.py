"""Optimisers that need scores only. Each keeps, for every example, a memory of tensors, and asks P parameter vectors in [0, 1].

What a search does to an example depends on that example's answers and streams alone. Two of them are the libraries' own:
scipy's differential evolution and the CMA-ES of ``cmaes``, one object per example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.core.types import expand
from advkit.errors import MissingExtra

__all__ = ["SEARCHES", "Memory", "Moves", "Optimiser", "Search"]

Optimiser = Literal["random", "hill-climb", "pso", "de", "cma", "gradient"]
Array = npt.NDArray[np.float64]


class Moves(NamedTuple):
    """What a search may know of the parameters, (D,) each."""

    stride: Tensor  # a small move, as a share of the range
    wraps: Tensor  # bool: an angle, whose ends meet
    piece: Tensor  # int64: the piece that it belongs to, counted from 0


class Memory(NamedTuple):
    """What all memories begin with: the vectors that are asked, (B, P, D); ``rest`` is the search's own."""

    theta: Tensor
    rest: tuple[Tensor, ...] = ()


class Search(ABC):
    """A way to choose the next parameters by the losses of the former ones; losses are ascended."""

    usual: int = 10  # vectors of a generation
    least: int = 1

    @abstractmethod
    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """The memory before the first answer: ``first`` (B, P, D), drawn uniformly, is asked."""

    @abstractmethod
    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """The memory after the answer (B, P) to what was asked."""


@dataclass(frozen=True)
class RandomSearch(Search):
    """Every vector is drawn afresh."""

    usual: int = 1

    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """Nothing is remembered."""
        return Memory(first)

    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """Another draw."""
        return Memory(rng.uniform(*memory.theta.shape[1:], dtype=memory.theta.dtype))


@dataclass(frozen=True)
class HillClimb(Search):
    """From the best so far: half of the moves are small ones, half draw one in k of its k pieces afresh."""

    usual: int = 1

    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """No best yet."""
        return Memory(first, (first[:, 0], first.new_full(first.shape[:1], -torch.inf)))

    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """Keep what is better, move from there."""
        best, height = memory.rest
        top, place = loss.max(1)
        rows = torch.arange(len(loss), device=loss.device)
        best = torch.where((top > height)[:, None], memory.theta[rows, place], best)
        height = torch.maximum(top, height)
        shape, dtype = memory.theta.shape[1:], best.dtype
        near = best[:, None] + moves.stride.to(best) * rng.fold("near").normal(*shape, dtype=dtype)
        near = torch.where(moves.wraps, near % 1, near.clamp(0, 1))
        pieces = int(moves.piece.max()) + 1
        odds = rng.fold("pieces").uniform(shape[0], pieces, dtype=dtype)
        drawn = (odds < 1 / pieces) | (odds == odds.amin(2, keepdim=True))  # at least one
        fresh = torch.where(drawn[..., moves.piece], rng.fold("fresh").uniform(*shape, dtype=dtype), best[:, None])
        local = rng.fold("kind").uniform(shape[0], dtype=dtype) < 0.5
        return Memory(torch.where(local[..., None], near, fresh), (best, height))


@dataclass(frozen=True)
class Swarm(Search):
    """Particle swarm (Kennedy & Eberhart 1995) with inertia 1 and both pulls 2; a small move is the highest speed."""

    inertia: float = 1.0
    pull: float = 2.0

    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """Particles at rest points of their own, with random velocities."""
        speed = moves.stride.to(first)
        velocity = speed * (2 * rng.fold("velocity").uniform(*first.shape[1:], dtype=first.dtype) - 1)
        return Memory(first, (velocity, first, first.new_full(first.shape[:2], -torch.inf)))

    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """Towards each particle's own best point and the swarm's."""
        velocity, own, height = memory.rest
        theta = memory.theta
        own = torch.where((loss > height)[..., None], theta, own)
        height = torch.maximum(loss, height)
        swarm = own[torch.arange(len(own), device=own.device), height.argmax(1)][:, None]
        # A vector of random weights each: the released code of Zhong et al. draws one number for all dimensions.
        weights = rng.uniform(2, *theta.shape[1:], dtype=theta.dtype)
        velocity = self.inertia * velocity + self.pull * (
            weights[:, 0] * (own - theta) + weights[:, 1] * (swarm - theta)
        )
        speed = moves.stride.to(theta)
        velocity = torch.clamp(velocity, -speed, speed)
        moved = theta + velocity
        moved = torch.where(moves.wraps, moved % 1, moved.clamp(0, 1))
        return Memory(moved, (velocity, own, height))


class _Asked(Exception):
    """Carries the vectors that the library wants to be judged out of it."""

    def __init__(self, vectors: Array) -> None:
        super().__init__()
        self.vectors = vectors


@dataclass(frozen=True)
class Evolution(Search):
    """Differential evolution (Storn & Price 1997) by scipy, one generation at a time.

    A generation is two calls of ``differential_evolution`` from the same population with the same seed: the first is left as
    soon as it asks for its trial vectors, the second is told their energies and selects. So an example needs no thread, and
    its state is the population.
    """

    strategy: str = "best1bin"
    mutation: float | tuple[float, float] = (0.5, 1.0)
    recombination: float = 0.7
    usual: int = 20
    least: int = 5  # as scipy has it

    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """The first population is judged as it was drawn."""
        unknown = torch.full(first.shape[:2], torch.inf, dtype=torch.float64, device=first.device)
        return Memory(first, (first.double(), unknown, _seeds(rng)))

    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """Select, then breed."""
        population, energies, seeds = (part.cpu().numpy() for part in memory.rest)
        told = -loss.double().cpu().numpy()
        coming = _seeds(rng)
        asked, bred, known = [], [], []
        for row, seed in enumerate(coming.tolist()):
            if np.isinf(energies[row]).all():
                grown, best = population[row], told[row]
            else:
                grown, best = self._generation(population[row], energies[row], int(seeds[row]), told[row])
            asked.append(self._trials(grown, best, seed))
            bred.append(grown)
            known.append(best)
        theta, device = memory.theta, memory.theta.device
        more = (torch.from_numpy(np.stack(bred)), torch.from_numpy(np.stack(known)))
        rest = (more[0].to(device), more[1].to(device), coming)
        return Memory(torch.from_numpy(np.stack(asked)).to(theta), rest)

    def _trials(self, population: Array, energies: Array, seed: int) -> Array:
        """What scipy wants to be judged in the next generation, (P, D)."""
        try:
            self._evolve(population, energies, seed, None)
        except _Asked as asked:
            return asked.vectors
        raise AssertionError("scipy bred a generation and judged none of it")

    def _generation(self, population: Array, energies: Array, seed: int, trials: Array) -> tuple[Array, Array]:
        """Population and energies after a generation whose trial vectors have these energies."""
        found = self._evolve(population, energies, seed, trials)
        return np.ascontiguousarray(found.population), np.ascontiguousarray(found.population_energies)

    def _evolve(self, population: Array, energies: Array, seed: int, trials: Array | None) -> Any:
        from scipy.optimize import differential_evolution

        answers = iter([energies] if trials is None else [energies, trials])

        def judge(vectors: Array) -> Array:
            answer = next(answers, None)
            if answer is None:
                raise _Asked(vectors.T.copy())
            return answer

        return differential_evolution(
            judge,
            [(0.0, 1.0)] * population.shape[1],
            strategy=self.strategy,
            mutation=self.mutation,
            recombination=self.recombination,
            maxiter=1,
            tol=0,
            init=population,
            polish=False,
            updating="deferred",
            vectorized=True,
            rng=seed,
        )


@dataclass(frozen=True)
class CovarianceAdaptation(Search):
    """CMA-ES (Hansen 2016) by the package ``cmaes``.

    Its object does not come out of the library; so it is made anew from its seed in every generation and told the
    losses of all former ones, which is the same object again. That costs time quadratic in the number of generations.
    """

    sigma: float = 0.3
    least: int = 4

    def begin(self, first: Tensor, moves: Moves, generations: int, rng: Rng) -> Memory:
        """A distribution around the middle; room for the losses of all generations."""
        seeds = _seeds(rng)
        losses = torch.full(
            (len(first), generations, first.shape[1]), torch.nan, dtype=torch.float64, device=first.device
        )
        size = first.shape[2]
        theta = np.stack([self._after(size, int(seed), losses[0, :0].cpu().numpy(), first.shape[1]) for seed in seeds])
        return Memory(torch.from_numpy(theta).to(first), (losses, seeds, torch.zeros_like(seeds)))

    def tell(self, memory: Memory, loss: Tensor, moves: Moves, rng: Rng) -> Memory:
        """Write the losses down, and ask the object that knows them."""
        losses, seeds, age = memory.rest
        here = torch.arange(losses.shape[1], device=age.device)[None, :, None] == age[:, None, None]
        losses = torch.where(here, -loss.double()[:, None], losses)
        told, most = losses.cpu().numpy(), losses.shape[1]
        theta = memory.theta
        asked = [
            self._after(theta.shape[2], seed, told[row, : min(count, most)], theta.shape[1])
            for row, (seed, count) in enumerate(zip(seeds.tolist(), (age + 1).tolist(), strict=True))
        ]
        return Memory(torch.from_numpy(np.stack(asked)).to(theta), (losses, seeds, age + 1))

    def _after(self, size: int, seed: int, told: Array, population: int) -> Array:
        """What the object asks after these generations, (P, D)."""
        try:
            from cmaes import CMA
        except ImportError:
            raise MissingExtra("cmaes", "physical", "the optimiser cma") from None
        bounds = np.tile([0.0, 1.0], (size, 1))
        search = CMA(np.full(size, 0.5), self.sigma, bounds=bounds, seed=seed, population_size=population)
        for losses in told:
            search.tell([(search.ask(), float(loss)) for loss in losses])
        return np.stack([search.ask() for _ in range(population)])


SEARCHES: dict[str, Search] = {
    "random": RandomSearch(),
    "hill-climb": HillClimb(),
    "pso": Swarm(),
    "de": Evolution(),
    "cma": CovarianceAdaptation(),
}


def _seeds(rng: Rng) -> Tensor:
    """(B,) numbers of 31 bits, which every library takes for a seed."""
    return expand(rng.bits(1)[:, 0] >> 33 & 0x7FFFFFFF, rng.keys)
