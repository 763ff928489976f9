"""Where in a checkpoint the tensors of a network stand: under which prefix, and beside which normalisation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.errors import ModelError

__all__ = ["AVERAGED", "Placed", "Spread", "placed", "spread_of"]

AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?)([._]|$)")
"""Names under which training scripts keep the running mean of the weights."""

_PARTNERS = (("mean", "std"), ("mu", "sigma"), ("mu", "std"))
_LEVELS = 2.0  # a mean above is of pixels from 0 to 255

Spread = tuple[tuple[float, ...], tuple[float, ...]]
"""Means and standard deviations, by channel."""


@dataclass(frozen=True)
class Placed:
    """The tensors under ``prefix``, without it, and what stands beside them; ``choice`` says that there were others."""

    prefix: str
    tensors: Mapping[str, Tensor]
    aside: Mapping[str, Tensor]
    choice: bool = False


def placed(tensors: Mapping[str, Tensor], wanted: Sequence[str], where: str) -> Placed:
    """The tensors under the prefix that holds every wanted name; under that which holds most of them where none does.

    Of several networks of these names the averaged one is taken. Raises ModelError where that does not decide.
    """
    needed = [name for name in wanted if not name.endswith("num_batches_tracked")] or list(wanted)
    counts = {prefix: sum(prefix + name in tensors for name in needed) for prefix in _prefixes(tensors, needed)}
    whole = [prefix for prefix in counts if counts[prefix] == len(needed)]
    if not whole:
        return _under(max(counts, key=lambda prefix: (counts[prefix], -len(prefix))), tensors)
    if "" in whole:
        return _under("", tensors)
    whole.sort(key=lambda prefix: (prefix.count("."), len(prefix)))
    first, *others = whole
    apart = [p for p in others if any(not _same(tensors[p + name], tensors[first + name]) for name in needed)]
    averaged = [prefix for prefix in (first, *apart) if AVERAGED.search(prefix)]
    if apart and len(averaged) != 1:
        named = [prefix.removesuffix(".") for prefix in (first, *apart)]
        raise ModelError(
            f"{where} holds {len(named)} networks of these names, under {', '.join(named)}; say which, as FILE:{named[0]}."
        )
    return _under(averaged[0] if apart else first, tensors, choice=bool(apart))


def spread_of(tensors: Mapping[str, Tensor], where: str) -> tuple[Spread | None, set[str]]:
    """The normalisation that tensors beside a network's own hold, for images in [0, 1], and the names of its tensors.

    It is a mean and a std in one place, by channel. Raises ModelError where there are several that differ.
    """
    found: dict[str, Spread] = {}
    names: set[str] = set()
    for key, mean in tensors.items():
        scope, dot, leaf = key.rpartition(".")
        for one, other in _PARTNERS:
            partner = f"{scope}{dot}{leaf.replace(one, other)}"
            std = tensors.get(partner)
            if one in re.split(r"[_\d]", leaf) and std is not None and _by_channel(mean) and _by_channel(std):
                found.setdefault(key, _numbers(mean, std))
                names |= {key, partner}
    chosen = list(found.values())
    if any(each != chosen[0] for each in chosen):
        raise ModelError(
            f"{where} holds several normalisations ({', '.join(found)}) that differ; say which with mean and std (--normalize)."
        )
    return (chosen[0] if chosen else None), names


def _prefixes(tensors: Mapping[str, Tensor], needed: Sequence[str]) -> list[str]:
    found = [""]
    for name in dict.fromkeys((*needed[:1], *needed[-1:])):
        found += [key.removesuffix(name) for key in tensors if key.endswith(f".{name}")]
    return list(dict.fromkeys(found))


def _under(prefix: str, tensors: Mapping[str, Tensor], *, choice: bool = False) -> Placed:
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    return Placed(prefix, own, {k: v for k, v in tensors.items() if not k.startswith(prefix)}, choice)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _by_channel(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and 1 <= tensor.numel() <= 4 and max(tensor.shape, default=1) == tensor.numel()


def _numbers(mean: Tensor, std: Tensor) -> Spread:
    means, stds = (tuple(round(float(v), 6) for v in t.flatten().double()) for t in (mean, std))
    if max(means) <= _LEVELS:
        return means, stds
    return tuple(v / 255 for v in means), tuple(v / 255 for v in stds)
