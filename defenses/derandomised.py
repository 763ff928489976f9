"""Certificates against a patch by the votes of parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng
from advkit.defenses._ablation import Ablation, Encoding, Shape
from advkit.errors import InputError


@DEFENSES.register("derandomised", paper="arXiv:2002.10733")
@dataclass(frozen=True)
class Derandomised(Certifier):
    """Derandomised smoothing: every column or block of the picture votes, and a patch reaches few (Levine & Feizi 2020).

    A part votes for each class whose probability is at least ``threshold``. The radius is the side of the largest square
    that cannot turn the vote, wherever it stands. Train the network with the objective ``ablation`` of the same settings.
    """

    shape: Shape = "columns"
    size: int = 4  # pixels: width of a column, side of a block
    threshold: float = 0.3
    fill: str | float = "mean"  # of what is left out: the mean of the model's normalisation, or a grey level
    encoding: Encoding = "fill"  # or channels: x beside 1 - x, both 0 where left out, for networks of 2C channels

    norm: ClassVar[str] = "patch"

    def __post_init__(self) -> None:
        self.ablation.check("derandomised")
        if not 0 < self.threshold <= 1:
            raise InputError(f"derandomised: threshold is {self.threshold}; give a probability above 0, up to 1.")

    @property
    def ablation(self) -> Ablation:
        """What each voter sees."""
        return Ablation(self.shape, self.size, self.fill, self.encoding)

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """The class of most votes, the first of several, and the side in pixels of the largest square that is too small."""
        votes = self.votes(model, x, batch_size)
        prediction = votes.argmax(1)
        most = votes.gather(1, prediction[:, None])
        classes = torch.arange(votes.shape[1], device=x.device)
        # Among equals the first class wins: one before the prediction needs no more votes than it, one behind needs one more.
        ahead = most - votes - (classes < prediction[:, None]).long()
        lead = ahead.scatter(1, prediction[:, None], torch.iinfo(torch.int64).max).amin(1)
        height, width = x.shape[-2:]
        sides = range(1, min(height, width) + 1)
        # A part that sees the patch may take its vote from the one and give it to the other.
        needed = torch.tensor([2 * self.ablation.touched(side, height, width) for side in sides], device=x.device)
        radius = (lead[:, None] >= needed).sum(1)
        return Certificate(prediction, radius.double(), torch.full_like(prediction, self.ablation.places(x)))

    def searched(self, model: nn.Module) -> nn.Module:
        """The logarithm of the mean probability over all parts: what stands for the votes and has a gradient."""
        return _MeanOfParts(model, self.ablation)

    def votes(self, model: nn.Module, x: Tensor, batch_size: int) -> Tensor:
        """(B, K) votes of all parts."""
        places = self.ablation.places(x)
        example = torch.arange(len(x), device=x.device).repeat_interleave(places)
        place = torch.arange(places, device=x.device).repeat(len(x))
        cast = []
        with torch.no_grad():
            for rows, part in zip(torch.split(example, batch_size), torch.split(place, batch_size), strict=True):
                cast.append(model(self.ablation.shown(model, x[rows], part)).softmax(1) >= self.threshold)
        return torch.cat(cast).reshape(len(x), places, -1).sum(1)


class _MeanOfParts(nn.Module):
    def __init__(self, model: nn.Module, ablation: Ablation) -> None:
        super().__init__()
        self.model, self.ablation = model, ablation

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        places = self.ablation.places(x)
        every = torch.arange(places, device=x.device).repeat(len(x))
        shown = self.ablation.shown(self.model, x.repeat_interleave(places, 0), every)
        mean: Tensor = self.model(shown).log_softmax(1).reshape(len(x), places, -1).logsumexp(1)
        return mean
