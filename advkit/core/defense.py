"""What a defense is. Three kinds: an objective to train with, a wrapper in front of a model, a certifier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn

__all__ = ["Backward", "Objective", "Wrapper"]

Backward = Literal["exact", "straight-through"]
"""How the gradient passes a wrapper: its own, or as if it were not there (BPDA, Athalye et al. 2018)."""


class Objective(ABC):
    """What training minimises: a frozen value, called on each batch."""

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """The scalar loss of a batch x (B, C, H, W), y (B,); ``seed`` is new in every step of the training."""


class Wrapper(ABC):
    """What stands in front of a model when it is used: a frozen value that maps pictures to pictures."""

    backward: ClassVar[Backward] = "exact"

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) in [0, 1] as the model is to see them; each by itself, whatever else is in the batch."""
