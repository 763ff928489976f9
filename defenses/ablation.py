"""Training on parts of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective
from advkit.core.rng import Rng, identify
from advkit.defenses._ablation import Ablation, Encoding, Shape


@DEFENSES.register("ablation", paper="arXiv:2002.10733")
@dataclass(frozen=True)
class AblationTraining(Objective):
    """Cross-entropy on a random column or block of each picture, the voters of derandomised (Levine & Feizi 2020)."""

    shape: Shape = "columns"
    size: int = 4  # pixels: width of a column, side of a block
    fill: str | float = "mean"  # of what is left out: the mean of the model's normalisation, or a grey level
    encoding: Encoding = "fill"  # or channels: x beside 1 - x, both 0 where left out, for networks of 2C channels

    def __post_init__(self) -> None:
        self.ablation.check("ablation")

    @property
    def ablation(self) -> Ablation:
        """What the network sees."""
        return Ablation(self.shape, self.size, self.fill, self.encoding)

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """A part of each picture, drawn by seed and picture."""
        place = Rng.of(seed, identify(x)).fold("place").integers(self.ablation.places(x), 1).squeeze(1)
        return self.ablation.shown(model, x, place)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(model(shown), y)
