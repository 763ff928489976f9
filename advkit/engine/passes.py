"""Asking the model: the only place where it is called. Counts what is asked, survives a full memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from advkit.backbones.unfit import first_answer
from advkit.core.answers import called, checked_scores, slope, without_masks
from advkit.core.attack import Ascent, no_gradient
from advkit.core.goal import Goal
from advkit.core.losses import Loss
from advkit.data.base import ignored
from advkit.engine.memory import make_room, memory_is_full
from advkit.engine.precision import Precision
from advkit.errors import DataError, PassError

__all__ = ["Passes", "automatic_batch", "batch_for", "chosen_probe", "device_of", "least_rows"]

Model = Callable[[Tensor], Tensor]

_VALUES_IN_FLIGHT = {"cpu": 400_000, "cuda": 6_400_000}  # input values per pass: 128 and 2048 pictures of 3x32x32
_ROWS_PER_THREAD = 4  # from which on a row's arithmetic no longer depends on how many rows there are


def device_of(model: nn.Module) -> torch.device:
    """Where the model is: the device of its first parameter or buffer, else the CPU."""
    tensor = next(iter(model.parameters()), next(iter(model.buffers()), None))
    return torch.device("cpu") if tensor is None else tensor.device


def automatic_batch(values: int, device: torch.device) -> int:
    """Examples per pass for pictures of so many values: a power of two; a full memory halves it later."""
    return 1 << min(max(_room(device) // max(1, values), 4), 4096).bit_length() - 1


def batch_for(model: nn.Module, picture: Tensor) -> int:
    """Examples (C, H, W) per pass of a model. One that draws keeps what each of its draws needs for the gradient."""
    device, draws = device_of(model), int(getattr(model, "draws", 0))
    usual = automatic_batch(picture.numel(), device)
    # Up to sixteen times what a plain pass may hold: the draws are asked one after the other, and small passes are slow.
    most = 16 * _room(device) // max(1, picture.numel() * draws)
    return min(usual, 1 << max(1, most).bit_length() - 1) if draws else usual


def least_rows(size: int) -> int:
    """To how many rows passes of at most ``size`` are filled up, with as many threads as there are now."""
    return min(size, _ROWS_PER_THREAD * torch.get_num_threads())


def _room(device: torch.device) -> int:
    return _VALUES_IN_FLIGHT.get(device.type, _VALUES_IN_FLIGHT["cpu"])


class Passes:
    """A borrowed model that answers in rows.

    What steers an attack is answered by the precision's form of the model; ``judge`` is always the caller's own model in
    the caller's precision.
    """

    def __init__(
        self,
        model: nn.Module,
        precision: Precision,
        batch_size: int,
        *,
        labels: Tensor | None = None,
        least: int = 1,
        eot: int = 1,
        verdicts: int = 1,
    ) -> None:
        """``labels`` are checked against the number of classes that the first answer shows.

        Of a model that draws, what an attack is told is the mean over ``eot`` calls (expectation over transformation,
        Athalye et al. 2018), and what counts is the mean of its probabilities over ``verdicts`` more.

        Passes of fewer than ``least`` rows are filled up: the kernels for the smallest batches round otherwise, and an
        example's path must not depend on its company to the last bit.
        """
        self.model, self.precision, self.least = model, precision, least
        self.eot, self.verdicts = eot, verdicts
        self._highest = -1 if labels is None else int(labels.max())
        self.batch_size = batch_size
        self.device = device_of(model)
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        self._masked = self.writes = False
        self._classes: int | None = None  # that the first answer shows

    def gradient(
        self,
        query: Tensor,
        goal: Goal,
        loss: Loss,
        view: Callable[[Tensor, Tensor], Tensor],
        early: Tensor | None = None,
        views: int = 1,
    ) -> Ascent:
        """Loss, logits and the gradient of the loss with respect to the query, (B, ...).

        ``view(points, index)`` is what the model is shown for the rows ``index``; rows that are ``early`` (B,) are asked
        of the precision's early form. With ``views`` V it gives V pictures for each row, (B * V, ...), one example's after
        the other's; loss and logits are then the mean over them: the expectation over transformation. Values of the
        gradient that are NaN or infinite are given as 0; the checks of a model (P11) tell of them.
        """

        def ask(index: Tensor, form: Model) -> Ascent:
            points = query[index].detach().requires_grad_()
            logits = self._answer(view(points, index), form)
            value = loss(logits, goal.take(index.repeat_interleave(views)))
            if views > 1:
                value, logits = value.reshape(-1, views).mean(1), logits.reshape(len(index), views, -1).mean(1)
            # A value whose slope is no number says nothing of where to go: it stays, and the example's others move on. One
            # NaN would reach all of them by the norm, and in the end the verdict on the whole evaluation.
            grad = slope(value, points, self.model).nan_to_num(0.0, 0.0, 0.0)
            return Ascent(value.detach(), logits.detach(), grad)

        groups = self._groups(query, early)
        return self._told(lambda: self._ask(ask, groups, views))

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, K) of the form that steers, at once and with their gradient: for whoever brings a loop of their own.

        Of a model that draws, the mean over ``eot`` calls.
        """
        each = [self._answer(x.to(self.device), self.precision.working) for _ in range(self.eot)]
        return each[0] if self.eot == 1 else torch.stack(each).mean(0)

    @torch.no_grad()
    def scores(self, query: Tensor, goal: Goal, loss: Loss) -> Ascent:
        """Loss and logits at the query, (B, ...)."""

        def ask(index: Tensor, form: Model) -> Ascent:
            logits = self._answer(query[index], form)
            return Ascent(loss(logits, goal.take(index)), logits, no_gradient(query))

        return self._told(lambda: self._ask(ask, self._groups(query)))

    @torch.no_grad()
    def judge(self, x: Tensor) -> Tensor:
        """Logits of the caller's own model in its own precision: what counts."""

        def ask(index: Tensor, _: Model) -> Ascent:
            logits = self._answer(x[index], self.model)
            return Ascent(no_gradient(x), logits, no_gradient(x))

        logits = self._ask(ask, self._groups(x)).logits
        if not self._masked and bool((logits == -torch.inf).any()):
            self._masked, logits = True, without_masks(logits)
        if self.verdicts > 1:
            each = [logits, *(self._ask(ask, self._groups(x)).logits for _ in range(self.verdicts - 1))]
            logits = torch.stack([one.log_softmax(1) for one in each]).logsumexp(0) - math.log(self.verdicts)
        if not bool(logits.isfinite().all()):
            raise PassError(
                f"{called(self.model)} answered with NaN or infinite scores; "
                "such an example is neither right nor wrong, so no accuracy can be stated."
            )
        return logits

    def _told(self, once: Callable[[], Ascent]) -> Ascent:
        """The mean over calls. One after the other, not rows of one: a model may draw once for a whole batch."""
        told = once()
        for _ in range(self.eot - 1):
            told = Ascent(*map(torch.add, told, once()))
        return told if self.eot == 1 else Ascent(*(column / self.eot for column in told))

    def _groups(self, x: Tensor, early: Tensor | None = None) -> list[tuple[Tensor, Model]]:
        """Which rows are asked of which form of the model."""
        everyone = torch.arange(len(x), device=x.device)
        if early is None or self.precision.early is None:
            return [(everyone, self.precision.working)]
        groups = [(everyone[early], self.precision.early), (everyone[~early], self.precision.working)]
        return [group for group in groups if len(group[0])]

    def _answer(self, x: Tensor, model: Callable[[Tensor], Tensor]) -> Tensor:
        if len(x) < self.least:
            filling = x[:1].detach().expand(self.least - len(x), *x.shape[1:])
            return self._answer(torch.cat([x, filling]), model)[: len(x)]
        shown = x if self._dtype is None else x.to(self._dtype)
        if self._classes is None:
            logits = self._first(shown, model)
        else:
            answer: object = model(shown.clone() if self.writes else shown)
            logits = checked_scores(answer, len(x), called(self.model), self._classes)
        if self._masked:
            logits = without_masks(logits)
        return logits.to(x.dtype) if logits.dtype != x.dtype else logits

    def _first(self, x: Tensor, model: Callable[[Tensor], Tensor]) -> Tensor:
        """The first answer, which is looked at."""
        logits, self.writes = first_answer(self.model, model, x, memory_is_full)
        if self._highest >= logits.shape[1]:
            raise DataError(
                f"the label {self._highest} is out of range for a model with {logits.shape[1]} classes "
                f"(0 to {logits.shape[1] - 1}).{ignored(self._highest)}"
            )
        self._classes = logits.shape[1]
        self._masked = self._masked or bool((logits.detach() == -torch.inf).any())
        return logits

    def _ask(self, ask: Callable[[Tensor, Model], Ascent], groups: list[tuple[Tensor, Model]], each: int = 1) -> Ascent:
        """Ask in parts of at most ``batch_size`` pictures, ``each`` a row; where memory runs out, halve that and ask again."""
        answers = []
        for rows, form in groups:
            begin = 0
            while begin < len(rows):
                part = rows[begin : begin + max(1, self.batch_size // each)]
                try:
                    answers.append(ask(part, form))
                    begin += len(part)
                    continue
                except (RuntimeError, MemoryError) as error:
                    if not memory_is_full(error) or len(part) == 1:
                        raise
                self.batch_size = max(1, len(part) * each // 2)
                self.least = min(self.least, self.batch_size)
                make_room()  # out here, where the error no longer keeps the tensors of the pass alive
        answer = answers[0] if len(answers) == 1 else Ascent(*map(torch.cat, zip(*answers, strict=True)))
        if len(groups) == 1:
            return answer
        back = torch.cat([rows for rows, _ in groups]).argsort()
        return Ascent(answer.loss[back], answer.logits[back], answer.grad[back])


def chosen_probe(at: Ascent, query: Tensor, hit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of P probes per example the first hit, else the highest loss: (point (B, ...), loss (B,), hit (B,))."""
    rank = torch.where(hit, torch.inf, at.loss)
    best = rank.argmax(1)
    index = torch.arange(len(query), device=query.device)
    return query[index, best], at.loss[index, best], hit.any(1)
