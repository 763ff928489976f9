"""Certificates against a patch by masking twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng
from advkit.defenses._masks import check_fill, check_patch, fill_of, square_masks, square_side
from advkit.errors import InputError


@DEFENSES.register("patch-cleanser", paper="arXiv:2108.09135")
@dataclass(frozen=True)
class PatchCleanser(Certifier):
    """Double masking against one square patch of ``patch`` pixels or ``2%`` of the picture (Xiang et al. 2022).

    Certified where every picture with one or two masks is given the same class; then no square of that side, wherever it
    stands and whatever it shows, changes the answer. The certificate holds for this ``k`` and ``fill`` alone.
    """

    patch: str | int = "2%"
    k: int = 6  # masks along a side
    fill: str | float = "mean"  # under a mask: the mean of the model's normalisation (0.5 without one), or a grey level

    norm: ClassVar[str] = "patch"

    def __post_init__(self) -> None:
        check_patch("patch-cleanser", self.patch)
        check_fill("patch-cleanser", self.fill)
        if self.k < 1:
            raise InputError(f"patch-cleanser: k is {self.k}; give 1 mask or more along a side.")

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """The side of the patch where certified, else 0. An example is left as soon as two masks change its class."""
        asked = _Masked(self, model, x, batch_size)
        prediction, unanimous, forwards = asked.recovered()
        certified = unanimous.clone()
        for pairs in torch.split(_pairs(asked.count, x.device), asked.count):
            left = certified.nonzero().squeeze(1)
            if not len(left):
                break
            found = asked.classes(left.repeat_interleave(len(pairs)), pairs.repeat(len(left), 1)).reshape(len(left), -1)
            certified = certified.index_put((left,), (found == prediction[left, None]).all(1))
            forwards = forwards.index_put((left,), forwards[left] + len(pairs))
        return Certificate(prediction, asked.side * certified.double(), forwards)

    def predict(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Tensor:
        """The answer of double masking, which never abstains."""
        return _Masked(self, model, x, batch_size).recovered()[0]


def _pairs(count: int, device: torch.device) -> Tensor:
    """(P, 2) numbers of two different masks; those far apart in the list first, whose union hides most."""
    first, second = torch.triu_indices(count, count, 1, device=device)
    return torch.stack([first, second], 1)[(first - second).argsort(stable=True)]


class _Masked:
    """The pictures of a batch under masks, asked ``batch_size`` rows at a time."""

    def __init__(self, settings: PatchCleanser, model: nn.Module, x: Tensor, batch_size: int) -> None:
        height, width = x.shape[-2:]
        self.model, self.x, self.batch_size = model, x, max(1, batch_size)
        self.side = square_side(settings.patch, height, width)
        self.masks = square_masks(height, width, self.side, settings.k, x.device)
        self.fill = fill_of(settings.fill, model, x)
        self.count = len(self.masks)

    def classes(self, example: Tensor, masks: Tensor) -> Tensor:
        """(N,) classes of the examples with these numbers, each under the masks (N, M) with those."""
        found = []
        with torch.no_grad():
            for rows, numbers in zip(
                torch.split(example, self.batch_size), torch.split(masks, self.batch_size), strict=True
            ):
                hidden = self.masks[numbers].any(1)[:, None]
                found.append(self.model(torch.where(hidden, self.fill, self.x[rows])).argmax(1))
        return torch.cat(found)

    def recovered(self) -> tuple[Tensor, Tensor, Tensor]:
        """The answer of double masking, whether the first round was unanimous, and the passes it took, each (B,)."""
        batch, count, device = len(self.x), self.count, self.x.device
        numbers = torch.arange(count, device=device)
        examples = torch.arange(batch, device=device)
        first = self.classes(examples.repeat_interleave(count), numbers.repeat(batch)[:, None]).reshape(batch, count)
        votes = (first[:, :, None] == first[:, None]).sum(2)
        majority = first.gather(1, votes.argmax(1, keepdim=True)).squeeze(1)
        stray = first != majority[:, None]
        forwards = count * (1 + stray.sum(1))
        prediction = majority
        if bool(stray.any()):
            example, mask = stray.nonzero().unbind(1)
            both = torch.stack([mask.repeat_interleave(count), numbers.repeat(len(mask))], 1)
            second = self.classes(example.repeat_interleave(count), both).reshape(-1, count)
            stands = (second == first[example, mask, None]).all(1)
            # Of several that stand the first is taken: they can differ only on pictures without a certificate.
            none = torch.full_like(majority, count)
            winner = none.scatter_reduce(0, example[stands], mask[stands], "amin")
            told = first.gather(1, winner.clamp(max=count - 1)[:, None]).squeeze(1)
            prediction = torch.where(winner < count, told, majority)
        return prediction, ~stray.any(1), forwards
