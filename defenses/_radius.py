"""Linf radii from lower bounds of margins: what interval bounds and CROWN share."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from advkit.core.defense import Certifier
from advkit.core.rng import Rng
from advkit.defenses._bounds import Box, Network, cut_box, surely_above
from advkit.defenses._reading import read_network
from advkit.errors import InputError, ModelError

__all__ = ["Margins", "OfTheNetwork", "Question", "check_search"]

Margins = Callable[[Network, Box, Tensor], Tensor]
"""(B, K) lower bounds of logit y minus logit k over a box."""


def check_search(name: str, eps: float, halvings: int) -> None:
    """Refuse settings that make no sense."""
    if not 0 <= eps <= 1:
        raise InputError(f"{name}: eps is {eps}; give a number from 0 (the largest that can be certified) to 1.")
    if not 1 <= halvings <= 52:
        raise InputError(f"{name}: halvings is {halvings}; give a whole number from 1 to 52.")


class OfTheNetwork(Certifier):
    """A certifier whose answers are those of the network itself."""

    norm: ClassVar[str] = "linf"

    def predict(self, model: nn.Module, x: Tensor, rng: Rng, batch_size: int) -> Tensor:
        """The network's classes."""
        with torch.no_grad():
            return torch.cat([model(rows).argmax(1) for rows in torch.split(x, max(1, batch_size))])


@dataclass(frozen=True)
class Question:
    """Whether a network keeps its own answers ``y`` in a ball; asked of its copy in float64.

    A radius counts only if every other class stays below by more than ``allowance``, what the network's own rounding may
    come to: 64 units in the last place of its largest logit, and four times what it is wrong by on the picture itself.
    """

    network: Network
    x: Tensor
    y: Tensor
    allowance: Tensor

    @classmethod
    def about(cls, model: nn.Module, x: Tensor) -> Question:
        """Read ``model``. Raises ModelError where the layers read are not what it computes."""
        with torch.no_grad():
            answered = model(x)
        exact = x.detach().double()
        network = read_network(copy.deepcopy(model).double(), exact)
        with torch.no_grad():
            logits = network.run(exact)
        largest, wrong = logits.abs().amax(1), (logits - answered).abs().amax(1)
        if bool((wrong > 1e-2 * largest).any()):
            raise ModelError(
                f"the layers read from {type(model).__name__} answer otherwise than it does; its forward pass depends on "
                "more than the picture, or computes in half precision."
            )
        return cls(network, exact, answered.argmax(1), 64 * torch.finfo(x.dtype).eps * largest + 4 * wrong)

    def holds(self, margins: Margins, radius: Tensor) -> Tensor:
        """(B,) whether no picture of [0, 1] within ``radius`` (B,) is answered otherwise."""
        with torch.no_grad():
            found = margins(self.network, cut_box(self.x, radius), self.y)
        return surely_above(found, self.y, self.allowance)

    def every(self, number: float) -> Tensor:
        """(B,) of this radius."""
        return torch.full_like(self.allowance, number)
