"""How the gradients seen along the way become the direction of ascent.

PGD with another direction is MI-FGSM (momentum), NI-FGSM (nesterov), TI-FGSM (smooth), DI-FGSM (diverse); ``+`` chains
them: ``diverse+smooth+momentum``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.catalog import DIRECTIONS
from advkit.core.rng import Rng
from advkit.core.types import Tree, expand
from advkit.errors import InputError
from advkit.registry import Checked

__all__ = ["Chain", "Direction", "Diverse", "Momentum", "Nesterov", "Plain", "Smooth"]


@dataclass(frozen=True)
class Direction(Checked):
    """Says what is remembered, what the model is shown, and where the ascent goes; here: the gradient itself."""

    @property
    def judged_apart(self) -> bool:
        """True where the model is asked at other points than the iterate."""
        return False

    def memory(self, x: Tensor) -> Tree:
        """What is remembered at the start, rows like x."""
        return None

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """What the model is shown for a query."""
        return query

    def ascent(self, grad: Tensor, memory: Tree) -> tuple[Tensor, Tree]:
        """The direction, and what is remembered."""
        return grad, memory

    def ahead(self, x_adv: Tensor, memory: Tree, length: float) -> Tensor:
        """Where the next gradient is taken."""
        return x_adv


@DIRECTIONS.register("plain")
@dataclass(frozen=True)
class Plain(Direction):
    """The gradient itself."""


@DIRECTIONS.register("momentum", paper="arXiv:1710.06081")
@dataclass(frozen=True)
class Momentum(Direction):
    """A sum of past gradients, each at mean absolute value 1 (Dong et al. 2018, MI-FGSM)."""

    decay: float = 1.0

    def memory(self, x: Tensor) -> Tree:
        """No momentum yet."""
        return torch.zeros_like(x)

    def ascent(self, grad: Tensor, memory: Tree) -> tuple[Tensor, Tree]:
        """The decayed sum."""
        size = grad.abs().flatten(1).mean(1).clamp_min(torch.finfo(grad.dtype).tiny)
        total = self.decay * memory + grad / expand(size, grad)
        return total, total


@DIRECTIONS.register("nesterov", paper="arXiv:1908.06281")
@dataclass(frozen=True)
class Nesterov(Momentum):
    """Momentum with the gradient taken one step ahead (Lin et al. 2020, NI-FGSM)."""

    @property
    def judged_apart(self) -> bool:
        """The point ahead may lie outside the ball."""
        return True

    def ahead(self, x_adv: Tensor, memory: Tree, length: float) -> Tensor:
        """One step along the momentum."""
        further: Tensor = length * self.decay * memory
        return x_adv + further


@DIRECTIONS.register("smooth", paper="arXiv:1904.02884")
@dataclass(frozen=True)
class Smooth(Direction):
    """The gradient blurred by a Gaussian window (Dong et al. 2019, TI-FGSM)."""

    width: int = 15
    deviations: float = 3.0  # standard deviations from the middle of the window to its edge

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2 == 0:
            raise InputError(f"smooth: width is {self.width}; give an odd number of pixels, 1 or more.")

    def ascent(self, grad: Tensor, memory: Tree) -> tuple[Tensor, Tree]:
        """The blurred gradient."""
        places = torch.linspace(-self.deviations, self.deviations, self.width, dtype=grad.dtype, device=grad.device)
        window = torch.exp(-places.square() / 2)
        kernel = torch.outer(window, window) / window.sum().square()
        channels = grad.shape[1]
        return F.conv2d(grad, kernel.expand(channels, 1, -1, -1), padding="same", groups=channels), memory


@DIRECTIONS.register("diverse", paper="arXiv:1803.06978")
@dataclass(frozen=True)
class Diverse(Direction):
    """Gradients through a random shrinking and padding of the picture (Xie et al. 2019, DI-FGSM)."""

    probability: float = 0.5
    smallest: float = 0.9  # side of the shrunken picture, as a fraction

    @property
    def judged_apart(self) -> bool:
        """The model is shown a changed picture."""
        return True

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """Each picture at its own size and place; bilinear, padded with black."""
        dtype = query.dtype
        size = self.smallest + (1 - self.smallest) * rng.fold("side").uniform(dtype=dtype)
        size = torch.where(rng.fold("whether").uniform() < self.probability, size, torch.ones_like(size))
        shift = (2 * rng.fold("place").uniform(2, dtype=dtype) - 1) * (1 - size)[:, None]
        # The output pixel at u shows the input at (u - shift) / size.
        turn = torch.zeros(len(query), 2, 3, dtype=dtype, device=query.device)
        turn[:, 0, 0] = turn[:, 1, 1] = 1 / size
        turn[:, :, 2] = -shift / size[:, None]
        grid = F.affine_grid(turn, list(query.shape), align_corners=False)
        seen = F.grid_sample(query, grid, padding_mode="zeros", align_corners=False)
        return torch.where(expand(size == 1, query), query, seen)


@dataclass(frozen=True)
class Chain(Direction):
    """Several directions, one after another."""

    parts: tuple[Direction, ...]

    @property
    def judged_apart(self) -> bool:
        """True if any part asks elsewhere."""
        return any(part.judged_apart for part in self.parts)

    def memory(self, x: Tensor) -> Tree:
        """What each part remembers."""
        return tuple(part.memory(x) for part in self.parts)

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """Every part's view in turn."""
        for number, part in enumerate(self.parts):
            query = part.view(query, rng.fold(number))
        return query

    def ascent(self, grad: Tensor, memory: Tree) -> tuple[Tensor, Tree]:
        """Every part's ascent in turn."""
        kept = []
        for part, own in zip(self.parts, memory, strict=True):
            grad, own = part.ascent(grad, own)
            kept.append(own)
        return grad, tuple(kept)

    def ahead(self, x_adv: Tensor, memory: Tree, length: float) -> Tensor:
        """Every part's look ahead, added."""
        steps = [part.ahead(x_adv, own, length) - x_adv for part, own in zip(self.parts, memory, strict=True)]
        return x_adv + sum(steps)
