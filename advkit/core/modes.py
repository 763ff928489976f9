"""Borrowing the caller's model: everything of the caller's is as it was afterwards, also after an exception."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["borrowed", "draws_anywhere", "is_training", "reseeded"]


def is_training(module: nn.Module) -> bool:
    """Whether it is in training mode. A frozen TorchScript module has no such flag: its mode is part of its code."""
    return bool(getattr(module, "training", False))


@contextmanager
def borrowed(model: nn.Module, *, mode: Literal["eval", "train"] = "eval") -> Iterator[nn.Module]:
    """The model in eval mode, with parameters that ask for no gradients and buffers that come back unchanged.

    Each module's own ``training`` flag is restored (a BatchNorm that the caller froze stays frozen), each parameter's
    ``requires_grad``, and each buffer that a forward pass changed. ``.grad`` is never written, since attacks take
    gradients with respect to pictures only. Works inside ``torch.no_grad()`` and ``torch.inference_mode()``.

    ``mode="train"`` leaves the caller's own flags in force, for attacks inside a training loop that ask for it.
    """
    flags = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    trained = [p for p in model.parameters() if p.requires_grad]
    buffers = [_Kept(m, name, b) for m in model.modules() for name, b in m._buffers.items() if b is not None]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            if mode == "eval":
                model.eval()
            for parameter in trained:
                parameter.requires_grad_(False)
            yield model
        finally:
            # Not model.train(flag): a module may override it, and its children carry flags of their own.
            for module, flag in flags:
                module.training = flag
            for parameter in trained:
                parameter.requires_grad_(True)
            for buffer in buffers:
                buffer.restore()


@contextmanager
def reseeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators of torch, NumPy and Python start from a seed, and go on afterwards as if nothing had been drawn.

    For models and for attacks of other libraries that draw from them: under the same seed the same comes again. Nothing of
    advkit's draws there.
    """
    numpy: Any = sys.modules.get("numpy")  # what was not imported cannot have been drawn from
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        kept, others = random.getstate(), None if numpy is None else numpy.random.get_state()
        # torch.manual_seed would seed every other device too, whose state is not put back.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        random.seed(seed)
        if numpy is not None:
            numpy.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(kept)
            if numpy is not None:
                numpy.random.set_state(others)


def draws_anywhere(model: nn.Module, x: Tensor) -> bool:
    """Whether the model, asked about x (B, ...), draws from a global generator; nothing is left of the draws."""
    with borrowed(model), reseeded(0, x.device), torch.no_grad():
        before = _generators(x.device)
        model(x)
        return _generators(x.device) != before


def _generators(device: torch.device) -> tuple[object, ...]:
    """Where the global generators stand."""
    numpy: Any = sys.modules.get("numpy")
    name, key, *place = (None, None) if numpy is None else numpy.random.get_state()
    found = (torch.get_rng_state().numpy().tobytes(), random.getstate(), name, None if key is None else key.tobytes())
    cuda = torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else None
    return (*found, *place, cuda)


class _Kept:
    """A buffer as it was: the same tensor object with the same content."""

    def __init__(self, module: nn.Module, name: str, buffer: Tensor) -> None:
        self.module, self.name, self.buffer = module, name, buffer
        self.content = buffer.detach().clone()

    def restore(self) -> None:
        if isinstance(self.module, torch.jit.ScriptModule):
            current = getattr(self.module, self.name)
        else:
            self.module._buffers[self.name] = current = self.buffer
        with torch.inference_mode(current.is_inference()), torch.no_grad():
            if not torch.equal(current, self.content):
                current.copy_(self.content)
