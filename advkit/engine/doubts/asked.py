"""What the model is asked after the attacks: checks of the protocol that take few passes, and two that are kept short."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit.attacks.pgd import PGD
from advkit.core.goal import Untargeted
from advkit.core.losses import Margin
from advkit.core.rng import Rng, identify
from advkit.core.threat import Linf
from advkit.engine.doubts.look import Check, Look, Met, names
from advkit.engine.examples import Finished, Source
from advkit.engine.protocol import gradients
from advkit.engine.protocol.case import Case, differ
from advkit.engine.protocol.finding import FAIL, LUCK, PASS, Answer, of
from advkit.engine.run import Run
from advkit.engine.standards import BUDGET, expected_standard
from advkit.results.doubt import Doubt

__all__ = ["alive", "another_loss", "asked", "leads_nowhere", "slopes", "standardised", "steady"]

_NEARBY = 8 / 255  # in Linf: far enough for a rounding to differ
_SLOPES, _SLOPES_EACH = 6, 20  # pictures, and passes of each
_LEAPS, _LEAPS_EACH = 4, 15  # the same, where modules that jump are looked for and nothing else
_SLOPES_PRICE = 0.01  # of the attacks' passes: what they may take
_STEPS = 10
_OTHERS, _FEWEST_OTHERS = 16, 5  # pictures at most and at least
_OTHERS_PRICE = 0.015
_STANDARDS_PRICE = 0.01  # of the attacks' passes, where that is more than suffices
_GAP = 0.1  # of them: what another loss may find beside cross-entropy without a defect


def asked(code: str, ask: Callable[[Case], Answer]) -> Check:
    """A check of the protocol that takes few passes."""

    def check(look: Look) -> list[Doubt] | None:
        if look.case is None:
            return None
        level, sentence, advice = ask(look.case)
        if level == FAIL:
            return [Doubt(code, sentence, advice)]
        return [] if level == PASS else None

    return check


def standardised(look: Look) -> list[Doubt] | None:
    """A model that was trained on standardised input, and is not told so, is right by chance at best."""
    if look.case is None or look.result.goal != "untargeted" or look.repeatable.level == FAIL:
        return None
    budget = max(BUDGET, _STANDARDS_PRICE * look.passes)
    found = expected_standard(look.case.model, look.data, look.result.correct, look.case.batch_size, budget)
    return None if found is None else [Doubt("P2", found.sentence, found.advice)]


def steady(look: Look) -> list[Doubt] | None:
    """Chance hides a gradient, unless gradients and verdicts are means over it."""
    if look.case is None:
        return None
    level, sentence, _ = look.repeatable
    if level != FAIL or look.told:
        return []
    advice = "Attack the mean over many draws and judge each picture many times (--eot 20 --repeats 10)."
    return [Doubt("P12", sentence, advice)]


def alive(look: Look) -> list[Doubt] | None:
    """A slope of zero leads nowhere: where the answer changes all the same, or the loss is one that fades."""
    case = look.case
    if case is None or not any(each.steers for each in look.met) or not case.total:
        return None
    found, grad = asked("P11", gradients.available)(look), case.gradients.margin
    if not found or grad is None or not bool(grad.isfinite().all()):
        return found
    if bool(_dead(case, grad).any()):
        return found if leads_nowhere(case) else []
    # Cross-entropy alone is saturated.
    return [] if any(each.climbs and not each.fades for each in look.met) else found


def leads_nowhere(case: Case) -> bool:
    """Whether the margin gives no slope, or none that is a number, where the answer changes all the same."""
    grad = case.gradients.margin
    if grad is None or not bool(grad.isfinite().all()):
        return True
    dead = _dead(case, grad)
    return bool(dead.any()) and int(_hidden(case, dead).sum()) > max(1.0, LUCK * case.total)


def _dead(case: Case, grad: Tensor) -> Tensor:
    """(n,) bool: the pictures without a slope, of those that are right."""
    return (grad == 0).flatten(1).all(1) & case.correct


def _hidden(case: Case, dead: Tensor) -> Tensor:
    """(n,) bool: of the pictures without a slope, which have none nearby either, though the answer changes on the way.

    Where dead units leave the answer as it is, no slope is the truth: a network that is proven robust may have such places.
    """
    x, y = case.x[dead], case.y[dead]
    points = case.typed(Linf(_NEARBY).random_point(x, Rng.of(case.seed, identify(x)).fold("nearby"))).requires_grad_()
    hidden = []
    for part, labels, before in zip(
        *(torch.split(t, case.batch_size) for t in (points, y, case.logits[dead])), strict=True
    ):
        logits = case.own.precision.working(part)
        (grad,) = torch.autograd.grad(Untargeted(labels.to(case.device)).margin(logits).sum(), part)
        hidden.append((grad == 0).flatten(1).all(1).cpu() & differ(logits.detach().cpu().to(before), before))
    return torch.cat(hidden)


def slopes(look: Look) -> list[Doubt] | None:
    """Whether the gradient is the model's own, for a few pictures, where attacks took long."""
    case = look.case
    if case is None or case.stand_ins or not any(each.steers for each in look.met) or look.repeatable.level == FAIL:
        return None
    ways = ((gradients.own, _SLOPES, _SLOPES_EACH), (gradients.leaps, _LEAPS, _LEAPS_EACH))
    for ask, count, each in ways:
        chosen = case.correct.nonzero().squeeze(1)[:count]
        if len(chosen) == count and count * each <= _SLOPES_PRICE * look.passes:
            few = Case(
                case.model, case.x[chosen], case.y[chosen], case.ball, batch_size=case.batch_size, seed=case.seed
            )
            level, sentence, advice = ask(few)
            return [Doubt("P11", sentence, advice)] if level == FAIL else [] if level == PASS else None
    return None


def another_loss(look: Look) -> list[Doubt] | None:
    """A short walk on the margin from examples that stand under cross-entropy alone."""
    climbing = [each for each in look.met if each.climbs and type(each.attack.threat) in PGD.balls]
    if not climbing or look.case is None or look.repeatable.level == FAIL or look.result.goal != "untargeted":
        return None
    if not all(each.fades for each in look.met if each.steers):
        return None
    largest = max(climbing, key=lambda each: each.outcome.threat.eps)
    chosen = look.result.stands(largest.outcome.threat.eps.exact).nonzero().squeeze(1)
    chosen = chosen[: min(_OTHERS, int(_OTHERS_PRICE * look.passes / (2 * _STEPS)))]
    if len(chosen) < _FEWEST_OTHERS:
        return None
    beaten = _beaten(look, largest, chosen)
    if beaten <= max(1.0, _GAP * len(chosen)):
        return []
    return [
        Doubt(
            "P10",
            f"{_STEPS} steps on the margin beat {of(beaten, len(chosen))} of those that stand under cross-entropy"
            f" ({names(climbing)}) at {largest.outcome.threat.eps.exact}.",
            "Attack with other losses too: leave --attack out (standard), or give --loss margin or dlr.",
        )
    ]


def _beaten(look: Look, largest: Met, chosen: Tensor) -> int:
    """How many of the examples ``chosen`` fall to the short walk."""
    assert look.case is not None
    found: list[Tensor] = []

    def collect(finished: Finished) -> None:
        found.append(finished.success.cpu())

    part = Source(
        lambda indices: look.data.pictures(chosen[list(indices)].tolist()), Untargeted(look.result.labels[chosen])
    )
    walk = PGD(largest.attack.threat, steps=_STEPS, loss=Margin())
    Run(walk, look.case.own, part, seed=look.result.seed).go(collect)
    return int(torch.cat(found).sum())
