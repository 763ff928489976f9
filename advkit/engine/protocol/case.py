"""What the checks look at: a model behind its defense, pictures, and what attacks do to them, each computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import FGSM, PGD
from advkit.catalog import ATTACKS, LOSSES
from advkit.core.attack import Attack
from advkit.core.defense import RandomWrapper, Wrapper
from advkit.core.goal import Untargeted
from advkit.core.losses import DLR, CrossEntropy, Loss, Margin, ProbabilityMargin, TargetedMargin
from advkit.core.modes import borrowed, is_training
from advkit.core.threat import Ball
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.defend import Defended
from advkit.engine.examples import Finished, Source
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision, choose_precision
from advkit.engine.protocol.ledger import Entry, Ledger
from advkit.engine.run import Run
from advkit.engine.transfer import transfer

__all__ = ["Case", "Form", "Gradients", "differ", "lend", "named", "titled"]

T = TypeVar("T")

_RIVALS = 3
_TRIALS = 5
_DRAWS, _SURELY = 8, 24  # answers of a model that draws, to guess how often it is wrong at a picture, and to say so
_ROUNDING = 1e-3  # of the spread of the logits: what another order of sums may move them
_SUM = 1e-3  # how near to 1 probabilities sum


@dataclass(frozen=True)
class Gradients:
    """Of the cross-entropy and of the margin with respect to the pictures (N, ...); None where the model gives none."""

    ce: Tensor | None
    margin: Tensor | None


@dataclass(frozen=True)
class Form:
    """A way to ask the model while an attack searches; what it finds is judged by the model itself."""

    name: str
    passes: Passes
    keep: Literal["first", "best"] = "first"
    """The best iterate where an answer is a matter of chance, and the first success may be luck."""
    draws: int = 1
    """Passes of the model behind one answer."""


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
        data: Data | None = None,
        expected: float | None = None,
        broader: bool = False,
    ) -> None:
        """``training`` names the modules that were in training mode before the model was borrowed.

        ``data`` is where the pictures are from, ``expected`` the clean accuracy (0 to 1) that is claimed, ``broader`` asks
        for what lies outside the ball as well.
        """
        self.model, self.x, self.ball = model, x, ball
        self.seed, self.steps, self.queries, self.batch_size = seed, steps, queries, batch_size
        self.training = tuple(training)
        self.data, self.expected, self.broader = data, expected, broader
        self.forwards = self.backwards = 0
        # What trains on while it is asked moves its statistics.
        self._buffers = [(b, b.detach().clone()) for b in model.buffers()] if self.leftovers else []
        self.own = Passes(model, Precision.own(model), batch_size, labels=y)
        self.device = self.own.device
        self.logits = self.judge(x)
        self.y = torch.where(y < 0, self.logits.argmax(1), y)
        self.correct = self.logits.argmax(1) == self.y
        self._beaten: dict[tuple[Attack, int, str], Tensor] = {}
        self._known: dict[str, object] = {}

    # What the model is

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
    def leftovers(self) -> list[str]:
        """The modules that eval() did not reach."""
        return [name or type(self.model).__name__ for name, module in self.model.named_modules() if is_training(module)]

    def settled(self) -> Case:
        """The same with every module in eval mode, whatever its own eval() says, and with the statistics that it came with.

        What was found so far is asked again. The flags come back with all else that was borrowed.
        """
        for module in self.model.modules():
            if is_training(module):
                module.training = False
        with torch.no_grad():
            for buffer, content in self._buffers:
                buffer.copy_(content)
        case = Case(
            self.model,
            self.x,
            self.y,
            self.ball,
            batch_size=self.batch_size,
            seed=self.seed,
            steps=self.steps,
            queries=self.queries,
            training=self.training,
            data=self.data,
            expected=self.expected,
            broader=self.broader,
        )
        everyone = torch.arange(len(self.x))
        case.ledger.offer(everyone, self.ledger.worst, case.wrong(everyone, self.ledger.worst))
        case.ledger.runs = self.ledger.runs
        case.forwards, case.backwards = case.forwards + self.forwards, self.backwards
        return case

    @cached_property
    def probabilities(self) -> bool:
        """Whether every answer lies in [0, 1] and sums to 1."""
        logits = self.logits.double()
        return bool(((logits >= 0).all(1) & ((logits.sum(1) - 1).abs() < _SUM)).all())

    @cached_property
    def repeated(self) -> list[Tensor]:
        """What it answers (N, K) when asked again."""
        return [self.judge(self.x) for _ in range(_TRIALS - 1)]

    @cached_property
    def unsteady(self) -> bool:
        """Whether the same pictures get other answers when asked again: it draws, and nobody was told."""
        return any(bool(differ(answer, self.logits).any()) for answer in self.repeated)

    @cached_property
    def ledger(self) -> Ledger:
        """What was run, and the worst picture of each example."""
        return Ledger(self.x, self.ball, self.wrong(torch.arange(len(self.x)), self.x))

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

    def form(self, name: str, ask: Callable[[Tensor], Tensor], judge: nn.Module | None = None, draws: int = 1) -> Form:
        """Attacks steered by ``ask``, and judged by the model itself or by ``judge``, what it comes to over many draws."""
        finite = Precision(name, lambda x: ask(_Finite.apply(x)))
        size = self.batch_size if judge is None else max(1, self.batch_size // 4)
        return Form(name, Passes(judge or self.model, finite, size), "first" if judge is None else "best", draws)

    # What it answers

    def judge(self, x: Tensor) -> Tensor:
        """Logits (N, K) of the caller's own model."""
        self.forwards += len(x)
        return torch.cat([self.own.judge(part.to(self.device)).cpu() for part in torch.split(x, self.batch_size)])

    def wrong(self, where: Tensor, x: Tensor, draws: int = _SURELY) -> Tensor:
        """(B,) the share of its answers that are wrong at pictures of the examples ``where``."""
        draws = draws if self.unsteady else 1
        return torch.stack([self.judge(x).argmax(1) != self.y[where] for _ in range(draws)]).double().mean(0)

    def once(self, what: str, compute: Callable[[], T]) -> T:
        """What several checks ask, computed for the first of them."""
        if what not in self._known:
            self._known[what] = compute()
        return cast(T, self._known[what])

    def remember(self, what: str, value: object) -> None:
        """What ``once`` gives from now on."""
        self._known[what] = value

    # What attacks find

    def plain(self, loss: Loss | None = None, *, steps: int | None = None, ball: Ball | None = None) -> PGD:
        """The attack that the checks vary: PGD on the margin."""
        return PGD(ball or self.ball, steps=steps or self.steps, loss=Margin() if loss is None else loss)

    def single_step(self) -> FGSM:
        """One step on the cross-entropy."""
        return FGSM(self.ball)

    def within(self, eps: float) -> Ball:
        """The ball of the same norm with another radius."""
        return replace(self.ball, eps=Eps(eps))

    def beaten(
        self, attack: Attack, among: Tensor | None = None, seed: int | None = None, form: Form | None = None
    ) -> Tensor:
        """(N,) bool: which of the examples ``among`` (N,), of those that the model gets right, fall to an attack.

        A model without a gradient leaves gradient attacks empty-handed. What falls inside the ball enters the ledger.
        """
        chosen = self.correct if among is None else among & self.correct
        seed = self.seed if seed is None else seed
        key = (attack, seed, form.name if form else "")
        found = torch.zeros_like(self.correct)
        if form is None and attack.tells == "gradient" and self.gradients.margin is None:
            return found
        if among is None and key in self._beaten:
            return self._beaten[key]
        where = chosen.nonzero().squeeze(1)
        stood = ~self.ledger.fallen

        def collect(finished: Finished) -> None:
            index, success = where[finished.example.cpu()], finished.success.cpu()
            found[index] = success
            self.offer(index, finished.x_adv.cpu(), success)

        if len(where):
            part = Source(lambda indices: self.x[where[list(indices)]], Untargeted(self.y[where]))
            run = Run(
                attack, form.passes if form else self.passes, part, seed=seed, keep=form.keep if form else "first"
            )
            run.go(collect)
            self.note(titled(attack), form or Form("", self.passes), len(where), found, stood, run)
        if among is None:
            self._beaten[key] = found
        return found

    def offer(self, where: Tensor, x_adv: Tensor, success: Tensor) -> None:
        """Enter pictures that an attack returns, (B, ...), and whether each deceived the model, into the ledger."""
        if not self.unsteady:
            self.ledger.offer(where[success], x_adv[success], success[success].double())
            return
        # Where the answer is a matter of chance, a picture that failed once may be the worst there is, and one that looks
        # worst owes that to luck: it is measured again.
        worse = self.wrong(where, x_adv, _DRAWS) > self.ledger.wrong[where]
        if bool(worse.any()):
            self.ledger.offer(where[worse], x_adv[worse], self.wrong(where[worse], x_adv[worse]))

    def note(self, attack: str, form: Form, tried: int, found: Tensor, stood: Tensor, run: Run) -> None:
        """Enter a run into the ledger; ``stood`` (N,) is what was standing before it."""
        forwards, backwards = form.draws * int(run.forwards.sum()), form.draws * int(run.backwards.sum())
        self.forwards, self.backwards = self.forwards + forwards, self.backwards + backwards
        more = int((stood & self.ledger.fallen).sum())
        self.ledger.runs.append(Entry(attack, form.name, tried, int(found.sum()), more, forwards, backwards))

    @cached_property
    def by_loss(self) -> dict[str, Tensor]:
        """What falls to PGD, (N,) bool each: to cross-entropy, and to each other loss of what those before leave standing."""
        ways = {
            "cross-entropy": self.plain(CrossEntropy()),
            "margin": self.plain(),
            "DLR": self.plain(DLR()),
            "the margin of probabilities": self.plain(ProbabilityMargin()),
            "towards 3 rivals": replace(self.plain(TargetedMargin()), targets=_RIVALS),
        }
        found: dict[str, Tensor] = {}
        for name, attack in ways.items():
            among = ~torch.stack(list(found.values())).any(0) if found else None
            found[name] = self.beaten(attack, among=among)
        return found

    @cached_property
    def white(self) -> Tensor:
        """(N,) bool: which examples fall to the white-box search: PGD on one loss after the other."""
        return torch.stack(list(self.by_loss.values())).any(0)

    @property
    def standing(self) -> Tensor:
        """(N,) bool: what the white-box search leaves standing."""
        return self.correct & ~self.white

    @property
    def left(self) -> Tensor:
        """(N,) bool: what is right and everything that was run leaves standing."""
        return self.correct & ~self.ledger.fallen

    @cached_property
    def oblivious(self) -> Tensor:
        """(N,) bool: which examples fall to pictures made on the model without its defense, with one try each."""
        assert self.bare is not None
        found, stood = torch.zeros_like(self.correct), ~self.ledger.fallen

        def collect(finished: Finished) -> None:
            index, success = finished.example.cpu(), finished.success.cpu()
            found[index] = success
            self.offer(index, finished.x_adv.cpu(), success)

        own = choose_precision("auto", self.bare, self.x[:8].to(self.device))
        attack = self.plain(CrossEntropy())
        made = transfer(
            [attack],
            Passes(self.bare, own, self.batch_size),
            self.own,
            Source(lambda indices: self.x[list(indices)], Untargeted(self.y)),
            self.correct[None],
            self.logits.argmax(1),
            seed=self.seed,
            sink=collect,
        )
        forwards, backwards = int(made.forwards.sum()), int(made.backwards.sum())
        self.forwards, self.backwards = self.forwards + forwards, self.backwards + backwards
        found = found & self.correct
        more = int((stood & self.ledger.fallen).sum())
        entry = Entry(
            titled(attack), "made without the defense", self.total, int(found.sum()), more, forwards, backwards
        )
        self.ledger.runs.append(entry)
        return found

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
            self.forwards += len(x)
            value = loss(form(points), Untargeted(y.to(self.device)))
            if not value.requires_grad:
                return None
            self.backwards += len(x)
            (grad,) = torch.autograd.grad(value.sum(), points, allow_unused=True)
            if grad is None:
                return None
            parts.append(grad.detach().cpu())
        return torch.cat(parts)


def differ(one: Tensor, other: Tensor) -> Tensor:
    """(B,) bool: answers (B, K) that differ by more than rounding."""
    spread = (one.amax(1) - one.amin(1)).clamp_min(1e-6)
    return (one - other).abs().amax(1) > _ROUNDING * spread


def named(wrapper: Wrapper) -> str:
    """What a wrapper is called: its name in the registry, or the text of the user's file."""
    from advkit.catalog import DEFENSES

    text = getattr(wrapper, "text", "")
    return str(text) if text else DEFENSES.name_of(wrapper)


def titled(attack: Attack) -> str:
    """An attack in few words: ``pgd on margin, 20 steps``."""
    name = ATTACKS.name_of(attack).lower()
    rivals = f", {attack.targets} rivals" if attack.targets else ""
    starts = f", {attack.restarts} starts" if attack.restarts > 1 else ""
    return f"{name} on {LOSSES.name_of(attack.loss)}, {attack.steps} steps{rivals}{starts}, {attack.threat.label}"


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
    training = [name or type(module).__name__ for name, module in modules if is_training(module)]
    stack.enter_context(borrowed(model))
    return training
