"""Image quilting in front of a model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import ClassVar

import torch
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, RandomWrapper
from advkit.core.rng import Rng
from advkit.defenses._patch_bank import drawn_bank, read_bank
from advkit.defenses._pixels import check_draws, check_inside
from advkit.errors import InputError

_SPARE = 8  # candidates looked at again in double precision, besides those wanted
_AT_ONCE = 2**24  # distances


@DEFENSES.register("quilting", paper="arXiv:1711.00117")
@dataclass(frozen=True)
class Quilting(RandomWrapper):
    """The picture sewn together from a bank of clean patches, each of the nearest by chance (Guo et al. 2018).

    Seams cost least (Efros & Freeman 2001). Guo's bank: a million patches of ImageNet; here ``size`` from the training
    pictures of signs, or the array ``patches`` (N, C, patch, patch) of the file ``bank`` (.npz, .safetensors). Claimed 60
    to 70 % on ImageNet (L2 0.05, normalised): 0 % under BPDA (Athalye et al. 2018).
    """

    patch: int = 5  # pixels
    overlap: int = 2  # pixels
    neighbours: int = 10
    size: int = 10000
    bank: str = ""

    backward: ClassVar[Backward] = "straight-through"

    def __post_init__(self) -> None:
        check_draws("quilting", self.draws, self.eot)
        if not 2 <= self.patch <= 8:
            raise InputError(f"quilting: patch is {self.patch}; give a number of pixels from 2 to 8.")
        if not 1 <= self.overlap < self.patch:
            raise InputError(
                f"quilting: overlap is {self.overlap}; give a number of pixels from 1 to {self.patch - 1}."
            )
        if self.neighbours < 1:
            raise InputError(f"quilting: neighbours is {self.neighbours}; give 1 or more.")
        if self.size < self.neighbours + _SPARE:
            raise InputError(f"quilting: size is {self.size}; give {self.neighbours + _SPARE} patches or more.")

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """The quilt; each patch is one of the ``neighbours`` nearest to what it covers, all as likely."""
        check_inside("quilting", "patch", self.patch, x)
        rows, columns = (self._starts(size) for size in x.shape[-2:])
        bank = self._bank(x.shape[1]).to(x.device)
        cut = x.detach().double().unfold(2, self.patch, 1).unfold(3, self.patch, 1)[:, :, rows][:, :, :, columns]
        cut = cut.permute(0, 2, 3, 1, 4, 5).flatten(1, 2).flatten(2)  # (B, patches, C * patch * patch)
        nearest = _nearest(cut.flatten(0, 1), bank, self.neighbours).reshape(*cut.shape[:2], -1)
        which = rng.fold("which").integers(self.neighbours, cut.shape[1])
        chosen = bank[nearest.gather(2, which[..., None])[..., 0]]
        return self._sewn(chosen.reshape(*cut.shape[:2], x.shape[1], self.patch, self.patch), rows, columns).to(x.dtype)

    def _starts(self, size: int) -> list[int]:
        """Where patches begin; the last one ends at the border."""
        return sorted({*range(0, size - self.patch + 1, self.patch - self.overlap), size - self.patch})

    def _bank(self, channels: int) -> Tensor:
        """(N, channels * patch * patch) float64."""
        if self.bank:
            patches = read_bank(self.bank, self.patch, channels)
            if len(patches) < self.neighbours + _SPARE:
                raise InputError(
                    f"quilting: {self.bank} holds {len(patches)} patches; give {self.neighbours + _SPARE} or more."
                )
            return patches
        return drawn_bank(self.size, self.patch, channels)

    def _sewn(self, patches: Tensor, rows: list[int], columns: list[int]) -> Tensor:
        """Patches (B, R * Q, C, patch, patch) laid down line by line, each cut along the cheapest seams."""
        side = self.patch
        quilt = patches.new_zeros(len(patches), patches.shape[2], rows[-1] + side, columns[-1] + side)
        for number, (i, j) in enumerate(product(range(len(rows)), range(len(columns)))):
            row, column = rows[i], columns[j]
            patch, place = patches[:, number], (..., slice(row, row + side), slice(column, column + side))
            below = quilt[place]
            first, *others = (patch - below).square().unbind(1)
            cost = sum(others, first)
            shown = torch.ones_like(cost, dtype=torch.bool)
            if j:
                shown = shown & _beyond(cost, columns[j - 1] + side - column)
            if i:
                shown = shown & _beyond(cost.transpose(1, 2), rows[i - 1] + side - row).transpose(1, 2)
            quilt[place] = torch.where(shown[:, None], patch, below)
        return quilt


def _nearest(patches: Tensor, bank: Tensor, count: int) -> Tensor:
    """(M, count) the rows of the bank nearest to each of the patches (M, D), the nearest first.

    A product of matrices may round otherwise for other numbers of patches: it only proposes, and the order is that of the
    squared differences in double precision, then of the bank.
    """
    lengths = bank.square().sum(1)
    found, step = [], max(1, _AT_ONCE // len(bank))
    for start in range(0, len(patches), step):
        some = patches[start : start + step]
        rough = lengths.float() - 2 * some.float() @ bank.float().T
        likely = rough.topk(count + _SPARE, largest=False).indices.sort(1).values
        apart = (some[:, None] - bank[likely]).square().sum(2)
        found.append(likely.gather(1, apart.sort(stable=True).indices[:, :count]))
    return torch.cat(found)


def _beyond(cost: Tensor, overlap: int) -> Tensor:
    """(B, side, side) true on and right of the cheapest seam down the first ``overlap`` columns of ``cost``."""
    side = cost.shape[1]
    seams = _seams(side, overlap).to(cost.device)
    each = cost[:, torch.arange(side, device=cost.device), seams]  # (B, seams, side)
    best = seams[each.sum(2).argmin(1)]
    return torch.arange(side, device=cost.device) >= best[..., None]


@lru_cache(maxsize=16)
def _seams(side: int, overlap: int) -> Tensor:
    """(seams, side) every way from top to bottom in ``overlap`` columns that moves one column at most in a row."""
    ways = torch.arange(overlap)[:, None]
    for _ in range(side - 1):
        further = torch.cat([torch.cat([ways, ways[:, -1:] + step], 1) for step in (-1, 0, 1)])
        ways = further[(further[:, -1] >= 0) & (further[:, -1] < overlap)]
    return ways
