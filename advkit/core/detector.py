"""What a detector is: it lets the model answer as it does, and says of each picture how much it looks attacked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from advkit.registry import Checked

__all__ = ["Detector"]


class Detector(Checked, ABC):
    """What tells attacked pictures from others: a frozen value."""

    @abstractmethod
    def score(self, model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """(B,) how much each of the pictures (B, C, H, W) in [0, 1] looks attacked; more is more suspicious.

        ``model`` answers with logits (B, K), and is borrowed, in eval mode. Each picture is scored by itself. Where x asks for
        a gradient the score must have one, by a stand-in where it must be: an attack that knows the detector follows it.
        """
