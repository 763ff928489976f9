"""What certifiers by noise share: draws, counts and the confidence in them (Cohen et al. 2019, algorithms 1 and 2)."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import bdtr, betaincinv
from torch import Tensor, nn

from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng, identify
from advkit.errors import InputError, ModelError, PassError

__all__ = ["ByNoise", "lower_bound", "upper_bound"]

Probabilities = npt.NDArray[np.float64]

_BLOCK = 32  # draws from one seed
_LOOKS = 4
_GROWTH = 4  # from one look to the next
_LEAST = 32  # rows of a pass: the kernels for fewer round otherwise, and an answer must not depend on its company


def lower_bound(hits: npt.ArrayLike, n: int, alpha: float) -> Probabilities:
    """What a probability exceeds with confidence 1 - alpha, given ``hits`` of n (Clopper & Pearson 1934, one-sided)."""
    k = np.asarray(hits, np.float64)
    return np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, alpha), 0.0)


def upper_bound(hits: npt.ArrayLike, n: int, alpha: float) -> Probabilities:
    """What a probability stays below with confidence 1 - alpha, given ``hits`` of n."""
    return 1 - lower_bound(n - np.asarray(hits, np.float64), n, alpha)


@dataclass(frozen=True)
class ByNoise(Certifier):
    """The class that a model answers most often under noise, and how far that is certain.

    ``n0`` draws guess the class, ``n`` others count it. With probability ``alpha`` at most the radius of an example is
    wrong. Where ``radii`` are asked for, the count is looked at up to four times, each with a quarter of alpha (Bonferroni),
    and ends as soon as it is sure of each of them, either way.
    """

    sigma: float = 0.25  # standard deviation of the noise in each value, pixels from 0 to 1
    n0: int = 100
    n: int = 1000  # what a processor answers at once; papers take 100,000, which reaches 3.8 sigma and not 2.5
    alpha: float = 0.001
    radii: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise InputError(
                f"smoothing: sigma is {self.sigma}; give the noise's standard deviation, above 0, such as 0.25."
            )
        for what, least in (("n0", 1), ("n", 1)):
            if getattr(self, what) < least:
                raise InputError(f"smoothing: {what} is {getattr(self, what)}; give {least} or more.")
        if not 0 < self.alpha < 1:
            raise InputError(
                f"smoothing: alpha is {self.alpha}; give a probability above 0 and below 1, such as 0.001."
            )
        given: object = self.radii  # of a command line, a text
        if not isinstance(given, tuple) or not all(math.isfinite(radius) and radius >= 0 for radius in self.radii):
            raise InputError(
                f"smoothing: radii are {self.radii!r}; give numbers of 0 or more (advkit certify --radius 0.5)."
            )

    @abstractmethod
    def unit_noise(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
        """float32 noise with standard deviation 1 in each value."""

    @abstractmethod
    def radius_at(self, p: npt.ArrayLike) -> Probabilities:
        """The radius that is certain where the class has probability ``p``; 0 at a half, negative below."""

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many draws the count is looked at: at the end, and before it where an early answer is wanted."""
        if not self.radii:
            return (self.n,)
        early = [self.n // _GROWTH**step for step in range(_LOOKS - 1, 0, -1)]
        whole = [-(-count // _BLOCK) * _BLOCK for count in early]
        return (*sorted({count for count in whole if 0 < count < self.n}), self.n)

    @property
    def largest(self) -> float:
        """The radius where every draw is of one class: none can be larger."""
        found: float = self.radius_at(lower_bound(self.n, self.n, self.alpha / len(self.looks))).item()
        return found

    @torch.no_grad()
    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """Cohen's CERTIFY. The guess, each look and ``predict`` have draws of their own, by example and number."""
        guess = self._counts(model, x, rng.fold("guess"), (0, self.n0), batch_size).argmax(1)
        share = self.alpha / len(self.looks)
        p, hits = np.zeros(len(x)), np.zeros(len(x), np.int64)
        forwards = np.full(len(x), self.n0)
        asked, begin = np.arange(len(x)), 0
        for end in self.looks:
            chosen = torch.from_numpy(asked).to(x.device)
            counts = self._counts(model, x[chosen], rng.take(chosen).fold("count"), (begin, end), batch_size)
            hits[asked] += _of_class(counts, guess[chosen])
            forwards[asked] += end - begin
            p[asked] = np.maximum(p[asked], lower_bound(hits[asked], end, share))
            asked = asked[~self._sure(p[asked], upper_bound(hits[asked], end, share))]
            begin = end
            if not len(asked):
                break
        certain = torch.from_numpy(p >= 0.5).to(x.device)
        radius = torch.from_numpy(np.maximum(self.radius_at(np.maximum(p, 0.5)), 0)).to(x.device)
        return Certificate(
            torch.where(certain, guess, -1),
            torch.where(certain, radius, 0.0),
            torch.from_numpy(forwards).to(x.device),
        )

    @torch.no_grad()
    def predict(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Tensor:
        """Cohen's PREDICT from n draws: -1 where the two classes most often met may be equally likely (two-sided test)."""
        counts = self._counts(model, x, rng.fold("predict"), (0, self.n), batch_size)
        top = counts.topk(min(2, counts.shape[1]), dim=1)
        first = top.values[:, 0].cpu().numpy()
        second = top.values[:, 1].cpu().numpy() if counts.shape[1] > 1 else np.zeros_like(first)
        p = np.minimum(1, 2 * bdtr(second, first + second, 0.5))
        sure = torch.from_numpy(p <= self.alpha).to(x.device)
        return torch.where(sure, top.indices[:, 0], -1)

    def searched(self, model: nn.Module) -> nn.Module:
        """The mean of the probabilities over draws, other ones at each point (Salman et al. 2019)."""
        return _Smoothed(model, self)

    def sharpened(self, alpha: float, draws: int) -> Self:
        """Another n and alpha."""
        return replace(self, n=draws, alpha=alpha, radii=())

    def noise(self, x: Tensor, seed: int, first: int, last: int) -> Tensor:
        """(last - first, ...) noise: these draws of the stream ``seed``, like one picture ``x`` (...).

        A generator of torch's for each block of draws: on a processor that is many times as fast as hashing every value,
        and as much the example's own. Other kinds of device have other streams.
        """
        blocks = []
        for block in range(first // _BLOCK, -(-last // _BLOCK)):
            generator = torch.Generator(x.device).manual_seed(_seed(seed, block))
            drawn = self.unit_noise((_BLOCK, *x.shape), generator, x.device)
            blocks.append(drawn[max(0, first - block * _BLOCK) : last - block * _BLOCK])
        return (blocks[0] if len(blocks) == 1 else torch.cat(blocks)).to(x.dtype)

    def _sure(self, low: Probabilities, high: Probabilities) -> npt.NDArray[np.bool_]:
        """Of which examples every radius asked for is decided."""
        if not self.radii:
            return np.zeros(len(low), bool)
        reach, limit = self.radius_at(np.maximum(low, 0.5)), self.radius_at(high)
        decided = [((low >= 0.5) & (reach >= radius)) | (limit < radius) for radius in self.radii]
        return np.asarray(np.logical_and.reduce(decided), np.bool_)

    def _counts(self, model: nn.Module, x: Tensor, rng: Rng, span: tuple[int, int], batch_size: int) -> Tensor:
        """(B, K) how often each class is the answer under the draws ``span`` of each example's stream."""
        counts: Tensor | None = None
        fit = torch.ones((), dtype=torch.bool, device=x.device)
        for rows, owner in self._passes(x, rng, span, batch_size):
            logits = _answer(model, rows)
            fit = fit & logits.isfinite().all()
            classes = logits.shape[1]
            if counts is None:
                counts = torch.zeros(len(x) * classes, dtype=torch.long, device=x.device)
            counts += torch.bincount(owner * classes + logits.argmax(1), minlength=len(counts))
        if counts is None or not bool(fit):
            raise PassError(
                f"{type(model).__name__} answered with NaN or infinite scores under noise; nothing can be certified of that."
            )
        return counts.reshape(len(x), -1)

    def _passes(self, x: Tensor, rng: Rng, span: tuple[int, int], batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Noisy pictures of one example after the other in full passes, and whose (R,) they are."""
        left = len(x) * (span[1] - span[0])
        size = min(batch_size, left)
        rows, owners, held = x.new_empty(size, *x.shape[1:]), [0] * size, 0
        for place, seed in enumerate(rng.keys.tolist()):
            for begin in range(span[0], span[1], _BLOCK):
                noise = self.noise(x[place], seed, begin, min(begin - begin % _BLOCK + _BLOCK, span[1]))
                while len(noise):
                    taken = min(size - held, len(noise))
                    torch.add(x[place], noise[:taken], alpha=self.sigma, out=rows[held : held + taken])
                    owners[held : held + taken] = [place] * taken
                    noise, held = noise[taken:], held + taken
                    if held == size:
                        yield rows, torch.tensor(owners, device=x.device)
                        left -= size
                        size = min(batch_size, left)
                        rows, owners, held = x.new_empty(size, *x.shape[1:]), [0] * size, 0


class _Smoothed(nn.Module):
    """Logarithms of the mean probabilities of ``model`` under draws of a certifier's noise, keyed by the picture."""

    def __init__(self, model: nn.Module, by: ByNoise, draws: int = _BLOCK) -> None:
        super().__init__()
        self.model, self.by, self.draws = model, by, draws

    def forward(self, x: Tensor) -> Tensor:
        """(B, K)."""
        seeds = Rng.of(0, identify(x)).fold("search").keys.tolist()
        noise = torch.stack([self.by.noise(x[place], seed, 0, self.draws) for place, seed in enumerate(seeds)])
        rows = (x[:, None] + self.by.sigma * noise).flatten(0, 1)
        log_probs: Tensor = self.model(rows).log_softmax(1).reshape(len(x), self.draws, -1)
        return log_probs.logsumexp(1) - math.log(self.draws)


def _seed(stream: int, block: int) -> int:
    """A generator's seed, hashed from an example's stream and the number of a block."""
    key: Any = Rng(torch.tensor([stream])).fold(block).keys.item()
    return int(key) & 0x7FFFFFFFFFFFFFFF


def _answer(model: nn.Module, rows: Tensor) -> Tensor:
    """Logits, of a pass that is filled up where it is small."""
    count = len(rows)
    if count < _LEAST:
        rows = torch.cat([rows, rows[:1].expand(_LEAST - count, *rows.shape[1:])])
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), rows.dtype)
    logits: object = model(rows.to(dtype))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(rows):
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelError(
            f"{type(model).__name__} answered {given} for {len(rows)} pictures; it must return one row of scores per "
            "picture, (B, K)."
        )
    return logits[:count]


def _of_class(counts: Tensor, classes: Tensor) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = counts.gather(1, classes[:, None]).squeeze(1).cpu().numpy()
    return found
