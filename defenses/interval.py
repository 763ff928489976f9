"""Certificates by interval bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Certificate, Certifier
from advkit.core.rng import Rng
from advkit.defenses._bounds import Box, Network
from advkit.defenses._radius import certify_linf, check_search


@DEFENSES.register("interval", paper="arXiv:1810.12715")
@dataclass(frozen=True)
class Interval(Certifier):
    """Linf radius certified by interval bounds, one box per layer (Gowal et al. 2018).

    The ball is cut by the box [0, 1], as those of attacks are. Without ``eps`` the largest radius is found by halving.
    """

    eps: float = 0.0  # the radius to certify, such as 8/255; 0: the largest
    halvings: int = 32  # of the interval [0, 1] in which the largest lies

    norm: ClassVar[str] = "linf"

    def __post_init__(self) -> None:
        check_search("interval", self.eps, self.halvings)

    def certify(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Certificate:
        """Radii about the model's answers; a forward is one pass of an example and its box, which costs two."""
        return certify_linf(model, x, batch_size, _margins, self.eps, self.halvings)


def _margins(network: Network, box: Box, y: Tensor) -> Tensor:
    with torch.no_grad():
        return network.margins(network.boxes(box), y)
