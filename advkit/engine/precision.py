"""In which arithmetic the model is asked while an attack searches; verdicts are always the caller's own model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

__all__ = ["Precision"]


@dataclass(frozen=True)
class Precision:
    """The form of the model that steers the search, and its name."""

    name: str
    working: Callable[[Tensor], Tensor]

    @classmethod
    def own(cls, model: nn.Module) -> Precision:
        """The caller's model as it is."""
        return cls("float32", model)
