"""No defense: what every other objective is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Objective


@DEFENSES.register("standard")
@dataclass(frozen=True)
class Standard(Objective):
    """Cross-entropy on the pictures as they are."""

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of the batch."""
        return F.cross_entropy(model(shown), y)
