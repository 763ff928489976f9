"""Asking the model: the only place where it is called. Counts what is asked, survives a full memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from advkit.core.attack import Ascent, no_gradient
from advkit.core.goal import Goal
from advkit.core.losses import Loss
from advkit.core.types import tree_map
from advkit.engine.precision import Precision
from advkit.errors import ModelError, PassError

__all__ = ["Passes", "automatic_batch", "chosen_probe", "device_of"]

_VALUES_IN_FLIGHT = {"cpu": 400_000, "cuda": 6_400_000}  # input values per pass: 128 and 2048 pictures of 3x32x32


def device_of(model: nn.Module) -> torch.device:
    """Where the model is: the device of its first parameter or buffer, else the CPU."""
    tensor = next(iter(model.parameters()), next(iter(model.buffers()), None))
    return torch.device("cpu") if tensor is None else tensor.device


def automatic_batch(values: int, device: torch.device) -> int:
    """Examples per pass for pictures of so many values: a power of two; a full memory halves it later."""
    room = _VALUES_IN_FLIGHT.get(device.type, _VALUES_IN_FLIGHT["cpu"]) // max(1, values)
    return 1 << min(max(room, 4), 4096).bit_length() - 1


class Passes:
    """A borrowed model that answers in rows; ``forwards`` and ``backwards`` count the rows asked.

    ``working`` answers what steers an attack and may be a faster form of the model; ``judge`` is always the caller's own
    model in the caller's precision.
    """

    def __init__(self, model: nn.Module, precision: Precision, batch_size: int) -> None:
        self.model, self.precision = model, precision
        self.batch_size = batch_size
        self.device = device_of(model)
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        self._seen = False

    def gradient(self, query: Tensor, goal: Goal, loss: Loss, view: Callable[[Tensor], Tensor]) -> Ascent:
        """Loss, logits and the gradient of the loss with respect to the query, (B, ...)."""

        def ask(points: Tensor, their: Goal) -> Ascent:
            points = points.detach().requires_grad_()
            logits = self._answer(view(points), self.precision.working)
            value = loss(logits, their)
            if not value.requires_grad:
                raise ModelError(
                    f"{type(self.model).__name__} answers without a gradient (a detached or non-differentiable step); "
                    "use an attack that needs scores only, such as noise, or make that step differentiable."
                )
            # The sum, not the mean: an example's gradient must not depend on the size of the batch.
            (grad,) = torch.autograd.grad(value.sum(), points)
            return Ascent(value.detach(), logits.detach(), grad)

        return self._in_parts(ask, query, goal)

    @torch.no_grad()
    def scores(self, query: Tensor, goal: Goal, loss: Loss) -> Ascent:
        """Loss and logits at the query, (B, ...)."""

        def ask(points: Tensor, their: Goal) -> Ascent:
            logits = self._answer(points, self.precision.working)
            return Ascent(loss(logits, their), logits, no_gradient(points))

        return self._in_parts(ask, query, goal)

    @torch.no_grad()
    def judge(self, x: Tensor) -> Tensor:
        """Logits of the caller's own model in its own precision: what counts."""

        def ask(points: Tensor, _: None) -> Tensor:
            return self._answer(points, self.model)

        logits: Tensor = self._in_parts(ask, x, None)
        if not bool(logits.isfinite().all()):
            raise PassError(
                f"{type(self.model).__name__} answered with NaN or infinite scores; "
                "such an example is neither right nor wrong, so no accuracy can be stated."
            )
        return logits

    def _answer(self, x: Tensor, model: Callable[[Tensor], Tensor]) -> Tensor:
        logits = model(x if self._dtype is None else x.to(self._dtype))
        if not self._seen:
            self._seen = True
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x):
                given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
                raise ModelError(
                    f"{type(self.model).__name__} answered {given} for {len(x)} pictures; it must return one row of "
                    "scores per picture, (B, K)."
                )
        return logits.to(x.dtype) if logits.dtype != x.dtype else logits

    def _in_parts(self, ask: Callable[..., Ascent | Tensor], x: Tensor, goal: Goal | None) -> Ascent:
        """Ask in parts of at most ``batch_size`` rows; where memory runs out, halve that and ask again."""
        answers, begin = [], 0
        while begin < len(x):
            part = torch.arange(begin, min(begin + self.batch_size, len(x)), device=x.device)
            whole = len(part) == len(x)
            try:
                answers.append(
                    ask(x if whole else x[part], goal if whole or goal is None else goal.take(part))
                )
            except RuntimeError as error:
                if not _memory_is_full(error) or len(part) == 1:
                    raise
                self.batch_size = max(1, len(part) // 2)
                continue
            begin += len(part)
        if len(answers) == 1:
            return answers[0]  # type: ignore[return-value]
        return tree_map(lambda *parts: torch.cat(parts), *answers)  # type: ignore[no-any-return]


def _memory_is_full(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def chosen_probe(at: Ascent, query: Tensor, hit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of P probes per example the first hit, else the highest loss: (point (B, ...), loss (B,), hit (B,))."""
    rank = torch.where(hit, torch.inf, at.loss)
    best = rank.argmax(1)
    index = torch.arange(len(query), device=query.device)
    return query[index, best], at.loss[index, best], hit.any(1)
