"""What Python callers give as a model: a module, or anything that can be called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from advkit.backbones.classifier import Classifier
from advkit.errors import ModelError

__all__ = ["Function", "as_module"]


def as_module(given: object) -> nn.Module:
    """A module as it is; a function or another callable as a module around it. Raises ModelError for anything else.

    The modules that a function reaches (its closure, the globals it names, the attributes of what it belongs to) become
    its parts: they are put into eval mode and come back as they were, like a module's own.
    """
    if isinstance(given, nn.Module):
        return given
    if isinstance(given, type):
        raise ModelError(
            f"the model is the class {given.__name__}; give an instance of it, {given.__name__}(...), with its weights loaded."
        )
    if isinstance(given, Mapping):
        raise ModelError(
            "the model is a dictionary: a state dict holds weights and no network; build the network, call "
            "net.load_state_dict(...) and give net."
        )
    if not callable(given):
        what = "None" if given is None else f"of type {type(given).__name__}"
        raise ModelError(
            f"the model is {what}; give a torch.nn.Module, a function from pictures (B, C, H, W) to scores (B, K), or a name "
            "(advkit list backbones)."
        )
    name = getattr(given, "__name__", type(given).__name__)
    return Classifier(Function(given), name="function" if name == "<lambda>" else name)


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, ask: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.ask = ask
        self.parts = nn.ModuleList(dict.fromkeys(_modules(ask)))

    def forward(self, x: Tensor) -> Any:
        """What the function answers."""
        return self.ask(x)


def _modules(ask: object) -> Iterator[nn.Module]:
    """The modules that a callable reaches."""
    owner = getattr(ask, "__self__", ask)
    reached = [owner, *vars(owner).values()] if hasattr(owner, "__dict__") else [owner]
    code = (
        ask if inspect.isfunction(ask) or inspect.ismethod(ask) else inspect.getattr_static(type(ask), "__call__", None)
    )
    if inspect.isfunction(code) or inspect.ismethod(code):
        found = inspect.getclosurevars(code)
        reached += [*found.nonlocals.values(), *found.globals.values()]
    for value in reached:
        if isinstance(value, nn.Module):
            yield value
