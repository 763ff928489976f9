"""What a sweep asks each model before it is attacked: what of the protocol takes few passes (P2, P3, P11, P12)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from advkit.core.threat import Linf
from advkit.data import Data
from advkit.engine.checks import better_order
from advkit.engine.doubts.asked import leads_nowhere
from advkit.engine.memory import memory_is_full
from advkit.engine.protocol import answers, gradients
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.examine import CHECKS, Check
from advkit.engine.protocol.finding import FAIL, REPAIR, UNKNOWN, WARN, Answer
from advkit.engine.standards import expected_standard
from advkit.errors import PassError, first_line
from advkit.results.asked import Asked

__all__ = ["ask"]

_PICTURES = 16
_SLOPES = 8  # pictures, at about twenty passes each
_BALL = Linf(8 / 255)  # of no question asked here, but of every case
_QUESTIONS = (
    answers.scores,
    answers.evaluation_mode,
    answers.alone_and_in_company,
    gradients.available,
    gradients.own,
    gradients.unwatched,
    answers.repeatable,
)


def ask(net: nn.Module, data: Data, *, batch_size: int, seed: int, clean: Tensor | None = None) -> list[Asked]:
    """Ask a borrowed model, behind its defense, about the first pictures of the data. What cannot be told is left out.

    ``clean`` (M,) is what it answers for the first M examples, where that is known.
    """
    count = min(_PICTURES, len(data))
    x, y = data.pictures(range(count)), data.labels[:count]
    try:
        case = Case(net, x, y, _BALL, batch_size=batch_size, seed=seed)
        few = Case(net, x[:_SLOPES], y[:_SLOPES], _BALL, batch_size=batch_size, seed=seed)
    except PassError:  # it answers NaN, which its attacks will meet too
        return []

    def put(question: Callable[[Case], Answer]) -> Asked:
        check = next(each for each in CHECKS if each.ask is question)
        return _asked(check, few if question is gradients.own else case)

    repeated = put(answers.repeatable)
    # A model that says its gradient is another's, or that draws untold, has none of its own to compare with.
    without = {gradients.own} if case.stand_ins or repeated.level == FAIL else set()
    asked = [question for question in _QUESTIONS if question not in without]
    found = [repeated if question is answers.repeatable else put(question) for question in asked]
    clean = case.logits.argmax(1) if clean is None else clean
    known = data.head(len(clean))
    told = better_order(known.other_order, known.labels, clean)
    if told is not None:
        found.insert(0, Asked("P2", "Classes in the model's order", FAIL, *told))
    elif repeated.level != FAIL:
        found[:0] = _standardised(case, known, clean)
    return [each for each in found if each.level != UNKNOWN]


def _standardised(case: Case, known: Data, clean: Tensor) -> list[Asked]:
    """Whether it expects standardised input; nothing where it does not, or fails at what it never asked for."""
    try:
        found = expected_standard(case.model, known, clean == known.labels, case.batch_size)
    except (RuntimeError, ValueError, MemoryError):
        return []
    return [] if found is None else [Asked("P2", "Input in the model's units", FAIL, found.sentence, found.advice)]


def _asked(check: Check, case: Case) -> Asked:
    """A model that fails at a question must not cost the sweep."""
    try:
        finding = check(case)
        level = finding.level
        # Cross-entropy alone may fade, or a slope of zero be the truth: attacks on the margin have their way there.
        if check.ask is gradients.available and level == FAIL and not leads_nowhere(case):
            level = WARN
    except PassError:  # it answers NaN this time: it draws, which another question tells
        return Asked(check.code, check.name, UNKNOWN, "")
    except (RuntimeError, ValueError, MemoryError) as error:
        if memory_is_full(error):
            return Asked(check.code, check.name, UNKNOWN, "")
        return Asked(check.code, check.name, FAIL, f"It fails when it is asked: {first_line(error)}.", REPAIR)
    return Asked(finding.code, finding.name, level, finding.sentence, finding.advice)
