"""What a defense is. Three kinds: an objective to train with, a wrapper in front of a model, a certifier."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

__all__ = ["Objective"]


class Objective(ABC):
    """What training minimises: a frozen value, called on each batch."""

    @abstractmethod
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> Tensor:
        """The scalar loss of a batch x (B, C, H, W), y (B,); ``seed`` is new in every step of the training."""
