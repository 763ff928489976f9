"""NES: steepest ascent with momentum on a gradient that is estimated from scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from advkit.attacks._probing import Probing
from advkit.catalog import ATTACKS
from advkit.core.rng import Rng
from advkit.core.types import expand

# Of the authors' code.
_MOMENTUM = 0.9
_SPAN = 5  # losses; where the last is no higher than the first, the stride is halved
_LEAST = 1 / 64  # of the first stride


class _Pace(NamedTuple):
    mean: Tensor  # of the gradients, later ones counting more
    losses: Tensor  # (B, 5) the last ones; infinite where there is none yet
    stride: Tensor  # (B,) of the first


@ATTACKS.register("nes", paper="arXiv:1804.08598")
@dataclass(frozen=True)
class NES(Probing):
    """Natural evolution strategies (Ilyas et al. 2018): the gradient estimated from scores at normal draws, and momentum.

    The stride is halved where the loss has not risen in five steps.
    """

    samples: int = 50
    sigma: float = 0.001  # standard deviation of the values of a probe

    width: ClassVar[str] = "sigma"

    def moves(self, x: Tensor, rng: Rng) -> Tensor:
        """Normal draws."""
        return self.sigma * rng.normal(self.samples, *x.shape[1:], dtype=x.dtype)

    def memory(self, x: Tensor) -> _Pace:
        """No gradient and no loss yet."""
        none = torch.full((len(x), _SPAN), -torch.inf, dtype=x.dtype, device=x.device)
        return _Pace(torch.zeros_like(x), none, torch.ones_like(none[:, 0]))

    def ascent(self, grad: Tensor, loss: Tensor, memory: _Pace, x: Tensor) -> tuple[Tensor, _Pace]:
        """The steepest step along the mean."""
        mean = _MOMENTUM * memory.mean + (1 - _MOMENTUM) * grad
        losses = torch.cat([memory.losses[:, 1:], loss[:, None]], 1)
        stands = (losses[:, 0] > -torch.inf) & (losses[:, -1] <= losses[:, 0])
        stride = torch.where(stands, (memory.stride / 2).clamp_min(_LEAST), memory.stride)
        losses = torch.where(stands[:, None], -torch.inf, losses)  # each plateau counts once
        return expand(stride, x) * self.threat.steepest(mean, x), _Pace(mean, losses, stride)
