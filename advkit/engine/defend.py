"""A model behind a defense: one more model, with a declared backward, so that attacks on it are adaptive without knowing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.errors import InputError

__all__ = ["Defended", "build_defense", "defend"]


class Defended(nn.Module):
    """``model`` on what the wrappers, one after the other, make of the pictures."""

    def __init__(self, model: nn.Module, wrappers: Sequence[Wrapper]) -> None:
        super().__init__()
        self.model, self.wrappers = model, tuple(wrappers)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K)."""
        for wrapper in self.wrappers:
            x = _through(wrapper, x)
        logits: Tensor = self.model(x)
        return logits


def defend(model: nn.Module, wrappers: Sequence[Wrapper]) -> nn.Module:
    """The model behind its defenses; itself where there are none."""
    return Defended(model, wrappers) if wrappers else model


def build_defense(text: str) -> tuple[Wrapper, ...]:
    """Wrappers by name: ``none``, ``jpeg``, ``jpeg:75``, ``jpeg:quality=75+bits:4``; a chain runs from left to right.

    Raises InputError for a name that is none, or that belongs to a training objective.
    """
    return tuple(_wrapper(part) for part in text.split("+") if part != "none")


def _wrapper(text: str) -> Wrapper:
    made = DEFENSES.build(text)
    if not isinstance(made, Wrapper):
        name = text.partition(":")[0]
        raise InputError(
            f"{name} is a way to train, not one to defend a trained model: train with it (advkit train --defense {name}) "
            "and give the weights."
        )
    return made


def _through(wrapper: Wrapper, x: Tensor) -> Tensor:
    if wrapper.backward == "exact":
        return wrapper(x)
    with torch.no_grad():
        cleaned = wrapper(x)
    # The value is the wrapper's to the bit; the gradient passes as if it were not there.
    return _StraightThrough.apply(x, cleaned)  # type: ignore[no-any-return]


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor, cleaned: Tensor) -> Tensor:
        return cleaned.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
