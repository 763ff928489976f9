"""Training by interval bounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective, hard
from advkit.core.threat import Ball, Linf
from advkit.defenses._bounds import cut_box
from advkit.defenses._reading import batch_statistics, read_network
from advkit.errors import InputError


@DEFENSES.register("ibp", paper="arXiv:1810.12715")
@dataclass(frozen=True)
class IBPTraining(Objective):
    """Cross-entropy on the worst logits that interval bounds allow, mixed with the plain one (Gowal et al. 2018).

    Radius and mixture grow linearly from nothing, from the share ``warmup`` of the training on, for the share ``ramp``.
    BatchNorm takes the statistics of the clean batch for the bounds too; dropout acts on the clean pass alone.
    """

    threat: Ball = Linf(8 / 255)
    kappa: float = 0.5  # weight of the plain cross-entropy in the end; 1 in the beginning
    warmup: float = 0.1  # share of the training
    ramp: float = 0.5  # share of the training
    reached: float = 1.0  # share of the ramp that is behind; the training loop moves it

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Linf):
            raise InputError(f"ibp: the threat is {self.threat!r}; interval bounds need Linf.")
        for name in ("kappa", "warmup", "ramp", "reached"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"ibp: {name} is {getattr(self, name)}; give a number from 0 to 1.")

    def at(self, done: float) -> Self:
        """The objective with the radius and the mixture of this moment."""
        after = done - self.warmup
        reached = min(1.0, max(0.0, after / self.ramp)) if self.ramp else float(after >= 0)
        return replace(self, reached=reached)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """The mixture, a mean over the batch."""
        with batch_statistics(model) as statistics:
            plain = F.cross_entropy(model(shown), y)
        kappa = 1 - self.reached * (1 - self.kappa)
        # Half precision would round the two ends of a box across each other.
        with torch.autocast(x.device.type, enabled=False):
            network = read_network(model, shown, statistics)
            margins = network.margins(network.boxes(cut_box(shown, self.reached * self.threat.eps)), hard(y))
            # The logits of the worst case, less that of the class itself, which changes no cross-entropy.
            worst = F.cross_entropy(-margins, y)
        return kappa * plain + (1 - kappa) * worst
