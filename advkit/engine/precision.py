"""In which arithmetic the model is asked while an attack searches; verdicts are always the caller's own model's.

``float32``   the caller's model as it is
``folded``    a copy in which every BatchNorm is folded into its convolution: the same function up to rounding, faster
``mixed``     the folded copy in 16-bit matrix arithmetic (bfloat16) for the first half of an attack's steps, in float32
              for the rest: fastest where the processor has units for it (AMX, GPUs)
``auto``      ``folded``: the same numbers on every machine, and never a weaker attack than the caller's model allows.
              16 bits may leave examples standing that are beaten by a hair, so they are an option and not the default

A copy steers only if it answers as the caller's model does: where it cannot be made, or answers otherwise (a model with
randomness or with branches of its own), the caller's model steers, and the name in the result says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor, fx, nn

from advkit.engine.defend import Defended
from advkit.engine.memory import asked_in_part, memory_is_full
from advkit.errors import UnknownName

__all__ = ["Precision", "PrecisionName", "checked_precision", "choose_precision"]

PrecisionName = Literal["auto", "float32", "folded", "mixed"]

_ROUNDING = 1e-3  # of the spread of the logits: what folding may move them
_ROUNDING_16 = 0.1  # the same for 8 bits of mantissa through many layers
_EARLY = 0.5  # share of the steps that the early form steers


@dataclass(frozen=True)
class Precision:
    """The form of the model that steers the search, and its name."""

    name: str
    working: Callable[[Tensor], Tensor]
    early: Callable[[Tensor], Tensor] | None = None  # steers instead in the first part of the steps

    @classmethod
    def own(cls, model: nn.Module) -> Precision:
        """The caller's model as it is."""
        return cls("float32", model.searching() if isinstance(model, Defended) else model)

    def is_early(self, taken: Tensor, steps: Tensor) -> Tensor | None:
        """(B,) bool where the early form steers after ``taken`` of ``steps``; None where it never does."""
        return None if self.early is None else taken < _EARLY * steps


def checked_precision(name: str) -> PrecisionName:
    """A precision by name. Raises InputError for any other."""
    names = get_args(PrecisionName)
    if name not in names:
        raise UnknownName("precision", name, names)
    return cast(PrecisionName, name)


def choose_precision(name: PrecisionName, model: nn.Module, x: Tensor) -> Precision:
    """The form of a borrowed model that steers; ``x`` (B, ...) are pictures to try it on, fewer where memory runs out.

    Where not even one picture finds room in a copy too, the model steers itself.
    """
    try:
        return asked_in_part(lambda count: _chosen(name, model, x[:count]), len(x))
    except (RuntimeError, MemoryError) as error:
        if not memory_is_full(error):
            raise
    return Precision.own(model)


def _chosen(name: PrecisionName, model: nn.Module, x: Tensor) -> Precision:
    if isinstance(model, Defended):
        # The network has another form, its defense has not; and what draws is asked with draws of its own.
        with torch.no_grad():
            inner = choose_precision(name, model.model, model.cleaned(x))
        early = None if inner.early is None else model.searching(inner.early)
        return Precision(inner.name, model.searching(inner.working), early)
    own = Precision.own(model)
    if name == "float32" or next((p.dtype for p in model.parameters()), None) != torch.float32:
        return own
    folded = _folded(model)
    with torch.no_grad():
        answer, again = model(x), model(x)
        # A model that answers otherwise the second time is none that a copy can stand for.
        if folded is None or not _agree(again, answer, _ROUNDING) or not _agree(folded(x), answer, _ROUNDING):
            return own
        if name != "mixed":
            return Precision("float32, folded", folded)
        sixteen = _in_bfloat16(folded, x.device)
        if not _agree(sixteen(x), answer, _ROUNDING_16):
            return Precision("float32, folded", folded)
        return Precision("bfloat16, then float32, folded", folded, sixteen)


def _folded(model: nn.Module) -> Callable[[Tensor], Tensor] | None:
    from torch.fx.experimental.optimization import fuse

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what tracing remarks is decided below, by comparing answers
            copy = fuse(model)
    except Exception:  # any model that cannot be traced or copied steers itself
        return None
    if not isinstance(copy, fx.GraphModule):
        return None
    copy.eval()
    for parameter in copy.parameters():
        parameter.requires_grad_(False)
    if any(isinstance(module, nn.Conv2d) for module in copy.modules()):
        copy.to(memory_format=torch.channels_last)
        return lambda x: _tensor(copy(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x))
    return lambda x: _tensor(copy(x))


def _in_bfloat16(model: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    def answer(x: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model(x).float()

    return answer


def _tensor(answer: object) -> Tensor:
    if not isinstance(answer, Tensor):
        raise TypeError(f"expected a tensor of scores, not {type(answer).__name__}")
    return answer


def _agree(answer: Tensor, reference: Tensor, share: float) -> bool:
    """Two sets of logits (B, K) that differ by less than a share of their spread, typically."""
    if answer.shape != reference.shape or {answer.layout, reference.layout} != {torch.strided}:
        return False
    spread = (reference.amax(1) - reference.amin(1)).clamp_min(1e-6)
    return bool(((answer - reference).abs().amax(1) / spread).median() < share)
