"""What the checks look at: a model behind its defense, pictures, and what attacks do to them, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import FGSM, PGD
from advkit.core.attack import Attack
from advkit.core.defense import RandomWrapper, Wrapper
from advkit.core.goal import Untargeted
from advkit.core.losses import CrossEntropy, Loss, Margin, TargetedMargin
from advkit.core.modes import borrowed
from advkit.core.threat import Ball
from advkit.core.units import Eps
from advkit.engine.defend import Defended
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision, choose_precision
from advkit.engine.run import Finished, Run, Source
from advkit.engine.transfer import transfer

__all__ = ["Case", "Gradients", "lend", "named"]

_RIVALS = 3


@dataclass(frozen=True)
class Gradients:
    """Of the cross-entropy and of the margin with respect to the pictures (N, ...); None where the model gives none."""

    ce: Tensor | None
    margin: Tensor | None


class Case:
    """A borrowed model on N pictures; attacks meet those that it gets right. ``bare`` is the model without its defense."""

    def __init__(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        ball: Ball,
        *,
        batch_size: int,
        seed: int = 0,
        steps: int = 20,
        queries: int = 150,
        training: Sequence[str] = (),
    ) -> None:
        """``training`` names the modules that were in training mode before the model was borrowed."""
        self.model, self.x, self.ball = model, x, ball
        self.seed, self.steps, self.queries, self.batch_size = seed, steps, queries, batch_size
        self.training = tuple(training)
        self.own = Passes(model, Precision.own(model), batch_size, labels=y)
        self.device = self.own.device
        self.logits = self.own.judge(x.to(self.device)).cpu()
        self.y = torch.where(y < 0, self.logits.argmax(1), y)
        self.correct = self.logits.argmax(1) == self.y
        self._beaten: dict[tuple[Attack, int], Tensor] = {}

    @property
    def bare(self) -> nn.Module | None:
        """The model without what stands in front of it; None where nothing does."""
        return self.model.model if isinstance(self.model, Defended) else None

    @property
    def wrappers(self) -> tuple[Wrapper, ...]:
        """What stands in front of the model."""
        return self.model.wrappers if isinstance(self.model, Defended) else ()

    @property
    def stand_ins(self) -> list[str]:
        """The wrappers that declare another gradient than their own: ``Bits (straight-through)``."""
        return [f"{named(w)} ({w.backward})" for w in self.wrappers if w.backward != "exact"]

    @property
    def drawing(self) -> list[RandomWrapper]:
        """The wrappers that declare to be random."""
        return [wrapper for wrapper in self.wrappers if isinstance(wrapper, RandomWrapper)]

    @property
    def total(self) -> int:
        """How many examples are attacked: those that the model gets right."""
        return int(self.correct.sum())

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / self.logits.shape[1]

    @cached_property
    def passes(self) -> Passes:
        """The model as attacks ask it. A gradient that is no number counts as zero, so that a search goes on beside it."""
        precision = choose_precision("auto", self.model, self.x[:8].to(self.device))
        working = precision.working
        finite = Precision(precision.name, lambda x: working(_Finite.apply(x)))
        return Passes(self.model, finite, self.batch_size)

    @cached_property
    def gradients(self) -> Gradients:
        """Gradients at the pictures, of the model in its own arithmetic."""
        return Gradients(self._gradient(CrossEntropy()), self._gradient(Margin()))

    def plain(self, loss: Loss | None = None, *, steps: int | None = None, ball: Ball | None = None) -> PGD:
        """The attack that the checks vary: PGD on the margin."""
        return PGD(ball or self.ball, steps=steps or self.steps, loss=Margin() if loss is None else loss)

    def single_step(self) -> FGSM:
        """One step on the cross-entropy."""
        return FGSM(self.ball)

    def within(self, eps: float) -> Ball:
        """The ball of the same norm with another radius."""
        return replace(self.ball, eps=Eps(eps))

    def beaten(self, attack: Attack, among: Tensor | None = None, seed: int | None = None) -> Tensor:
        """(N,) bool: which of the examples ``among`` (N,), of those that the model gets right, fall to an attack.

        A model without a gradient leaves gradient attacks empty-handed.
        """
        chosen = self.correct if among is None else among & self.correct
        seed = self.seed if seed is None else seed
        found = torch.zeros_like(self.correct)
        if attack.tells == "gradient" and self.gradients.margin is None:
            return found
        if among is None and (attack, seed) in self._beaten:
            return self._beaten[attack, seed]
        where = chosen.nonzero().squeeze(1)

        def collect(finished: Finished) -> None:
            found[where[finished.example.cpu()]] = finished.success.cpu()

        if len(where):
            part = Source(lambda indices: self.x[where[list(indices)]], Untargeted(self.y[where]))
            Run(attack, self.passes, part, seed=seed).go(collect)
        if among is None:
            self._beaten[attack, seed] = found
        return found

    @cached_property
    def white(self) -> Tensor:
        """(N,) bool: which examples fall to the white-box search: PGD on the cross-entropy, then on the margin, then towards
        the likeliest rivals."""
        found = self.beaten(self.plain(CrossEntropy()))
        for attack in (self.plain(), replace(self.plain(TargetedMargin()), targets=_RIVALS)):
            found = found | self.beaten(attack, among=~found)
        return found

    @property
    def standing(self) -> Tensor:
        """(N,) bool: what the white-box search leaves standing."""
        return self.correct & ~self.white

    @cached_property
    def oblivious(self) -> Tensor:
        """(N,) bool: which examples fall to pictures made on the model without its defense, with one try each."""
        assert self.bare is not None
        found = torch.zeros_like(self.correct)

        def collect(finished: Finished) -> None:
            found[finished.example.cpu()] = finished.success.cpu()

        own = choose_precision("auto", self.bare, self.x[:8].to(self.device))
        transfer(
            [self.plain(CrossEntropy())],
            Passes(self.bare, own, self.batch_size),
            self.own,
            Source(lambda indices: self.x[list(indices)], Untargeted(self.y)),
            self.correct[None],
            self.logits.argmax(1),
            seed=self.seed,
            sink=collect,
        )
        return found & self.correct

    def typed(self, x: Tensor) -> Tensor:
        """Pictures where the model is, in its type, apart from the caller's."""
        kind = next((p.dtype for p in self.model.parameters() if p.is_floating_point()), x.dtype)
        return x.detach().to(self.device, kind, copy=True)

    def _gradient(self, loss: Loss) -> Tensor | None:
        """None where the answer hangs on no picture; a gradient through the form that attacks ask."""
        form = self.own.precision.working
        parts = []
        for x, y in zip(torch.split(self.x, self.batch_size), torch.split(self.y, self.batch_size), strict=True):
            points = self.typed(x).requires_grad_()
            value = loss(form(points), Untargeted(y.to(self.device)))
            if not value.requires_grad:
                return None
            (grad,) = torch.autograd.grad(value.sum(), points, allow_unused=True)
            if grad is None:
                return None
            parts.append(grad.detach().cpu())
        return torch.cat(parts)


def named(wrapper: Wrapper) -> str:
    """What a wrapper is called: its name in the registry, or the text of the user's file."""
    from advkit.catalog import DEFENSES

    text = getattr(wrapper, "text", "")
    return str(text) if text else DEFENSES.name_of(wrapper)


class _Finite(torch.autograd.Function):
    """The identity, with zeros where the gradient is no number."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad.nan_to_num(0.0, 0.0, 0.0)


def lend(stack: ExitStack, model: nn.Module) -> list[str]:
    """Borrow a model for as long as the stack is open; the names of its modules that were in training mode."""
    modules = [(name, module) for name, module in model.named_modules() if not isinstance(module, Defended)]
    training = [name or type(module).__name__ for name, module in modules if module.training]
    stack.enter_context(borrowed(model))
    return training
