"""What is run where a doubt is raised, and the accuracy that is left: the worst case of all that was run so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from advkit.attacks.apgd import APGD
from advkit.attacks.pgd import PGD
from advkit.attacks.square import Square
from advkit.core.attack import Attack
from advkit.core.losses import DLR, CrossEntropy, Margin, ProbabilityMargin, TargetedMargin
from advkit.engine.protocol.case import Case, Form
from advkit.engine.protocol.finding import Remedy, counted, percent
from advkit.engine.protocol.forms import Smoothed, adapted, bridges_of, jumps

__all__ = ["adapt", "by_scores", "close", "in_eval_mode", "losses", "more_steps", "restarts", "smooth", "transferred"]

_RIVALS = 9
_SEARCH = 8  # times the queries of the check that raised the doubt
_DOUBLINGS = 3
_STILL = 0.01  # of the examples: fewer that fall when steps are doubled show that the search has converged
_RESTARTS = 0.005  # the same for another start
_EACH = 4  # starts that are added at a time
_FEW_RIVALS, _FEW_STARTS, _MANY_STARTS = 3, 2, 8  # of the closing search; many where there is a doubt
_SETTLED = 0.01  # of the accuracy of a model that draws: less is the luck of its draws


def adapt(case: Case) -> Remedy:
    """The suite of losses on the form of the model that the doubts ask for; where nothing leads a gradient, scores."""
    form = adapted(case)
    before = _left(case)
    _suite(case, form)
    if jumps(case):
        # What jumps has a gradient between the jumps, which may lead further than the one of the bridge.
        _suite(case, Form("", case.passes))
        _around(case, Form("", case.passes))
    if not form.name or bridges_of(case)[0]:
        _search(case, form)
    close(case, True)
    return _told(case, before, form.name or "The suite of losses and a search by scores")


def in_eval_mode(case: Case) -> Remedy:
    """The plain attack with every module in eval mode."""
    stands = case.correct & ~case.beaten(case.plain(CrossEntropy()))
    number = int(stands.sum()) / len(case.y)
    return Remedy(f"Run: with every module in eval mode the plain attack leaves {percent(number)}.", number)


def losses(case: Case) -> Remedy:
    """CE, margin, DLR, the margin of probabilities, and towards each of the likeliest rivals."""
    before = _left(case)
    _suite(case, adapted(case))
    close(case, True)
    return _told(case, before, "CE, margin, DLR, the margin of probabilities, and towards 9 rivals")


def more_steps(case: Case) -> Remedy:
    """Twice the steps, and twice again, until less than 1 point changes."""
    before, steps = _left(case), case.steps
    for _ in range(_DOUBLINGS):
        steps, stood = 2 * steps, _left(case)
        for loss in (Margin(), CrossEntropy()):
            _run(case, case.plain(loss, steps=steps), adapted(case))
        if stood - _left(case) <= _STILL * len(case.y):
            break
    return _told(case, before, f"Up to {steps} steps")


def restarts(case: Case) -> Remedy:
    """More random starts, until less than half a point changes."""
    before, starts = _left(case), 0
    for round_ in range(_DOUBLINGS):
        stood, starts = _left(case), starts + _EACH
        _run(case, replace(case.plain(), restarts=_EACH), adapted(case), seed=case.seed + 1 + round_)
        if stood - _left(case) <= _RESTARTS * len(case.y):
            break
    return _told(case, before, f"{starts} more random starts")


def by_scores(case: Case) -> Remedy:
    """A search that asks for scores only, eight times as long."""
    before = _left(case)
    _search(case, adapted(case))
    return _told(case, before, f"Square with {_SEARCH * case.queries} queries")


def smooth(case: Case) -> Remedy:
    """Gradients of the adapted form, and their mean around each point: a rough loss has a slope from afar."""
    before = _left(case)
    form = adapted(case)
    _suite(case, form)
    _around(case, form)
    _search(case, form)
    close(case, True)
    return _told(case, before, f"{form.name or 'The suite of losses'}, smoothed gradients and a search by scores")


def transferred(case: Case) -> Remedy:
    """What was made without the defense counts in the worst case."""
    number = case.ledger.accuracy
    return Remedy(f"Run: with the transferred pictures in the worst case accuracy is {percent(number)}.", number)


def close(case: Case, doubted: bool) -> None:
    """What all runs leave is searched once more, twice as long and from other starts; again while that finds something.

    No check hangs on it: it is there so that the number does not hang on where the first walks began.
    """
    starts = _MANY_STARTS if doubted else _FEW_STARTS
    rivals = min(_RIVALS if doubted else _FEW_RIVALS, case.logits.shape[1] - 1)
    forms = [adapted(case)]
    if jumps(case) and forms[0].name:
        forms.append(Form("", case.passes))
    for round_ in range(_DOUBLINGS):
        before, seed = case.ledger.accuracy, case.seed + 101 + round_
        for form in forms:
            attack = case.plain(steps=2 * case.steps)
            if form.keep == "best":  # each step takes many draws
                for loss in (CrossEntropy(), ProbabilityMargin()):
                    _run(case, replace(attack, loss=loss), form, seed)
                continue
            _run(case, replace(attack, restarts=starts), form, seed)
            strongest: type[APGD] | type[PGD] = APGD if isinstance(case.ball, APGD.balls) else PGD
            _run(case, strongest(case.ball, steps=2 * case.steps, loss=TargetedMargin(), targets=rivals), form, seed)
            if jumps(case) and not form.name:
                _run(case, Smoothed(case.ball, steps=2 * case.steps, loss=Margin()), form, seed)
        if before - case.ledger.accuracy <= (_SETTLED if case.unsteady else 0.0):
            break


def _suite(case: Case, form: Form) -> None:
    for attack in _attacks(case, form):
        _run(case, attack, form)


def _attacks(case: Case, form: Form) -> Iterator[Attack]:
    yield case.plain()
    yield case.plain(CrossEntropy())
    if form.keep == "best":  # each step takes many draws
        return
    strongest: type[APGD] | type[PGD] = APGD if isinstance(case.ball, APGD.balls) else PGD
    for loss in (DLR(), ProbabilityMargin()):
        yield strongest(case.ball, steps=case.steps, loss=loss)
    rivals = min(_RIVALS, case.logits.shape[1] - 1)
    yield strongest(case.ball, steps=case.steps, loss=TargetedMargin(), targets=rivals)


def _around(case: Case, form: Form) -> None:
    """By the mean gradient around each point; of what draws it is a mean already."""
    for loss in () if form.keep == "best" else (Margin(), CrossEntropy()):
        _run(case, Smoothed(case.ball, steps=case.steps, loss=loss), form)


def _search(case: Case, form: Form) -> None:
    _run(case, Square(case.ball, queries=_SEARCH * case.queries), form)


def _run(case: Case, attack: Attack, form: Form, seed: int | None = None) -> None:
    """Attack what is left, once: what stood against an attack is not shown it again."""
    left = case.ledger.wrong < _sure(case)
    done = f"ran {attack} {form.name} {seed}"
    if case.once(done, lambda: False) or not bool((left & case.correct).any()):
        return
    case.remember(done, True)
    if not form.name and attack.tells == "gradient" and case.gradients.margin is None:
        return
    case.beaten(attack, among=left, seed=seed, form=form if form.name else None)


def _sure(case: Case) -> float:
    """From which share of wrong answers on an example needs no further attack."""
    return 0.97 if case.unsteady else 0.5


def _left(case: Case) -> int:
    return int(case.left.sum())


def _told(case: Case, before: int, what: str) -> Remedy:
    more, number = before - _left(case), case.ledger.accuracy
    if not more and case.once(f"told {what}", lambda: False):
        return Remedy(f"Run, as above: accuracy {percent(number)}.", number)
    case.remember(f"told {what}", True)
    falls = f"{counted(more)} more fall{'s' if more == 1 else ''}" if more else "none more fall"
    return Remedy(f"Run: {what[0].upper()}{what[1:]}: {falls}, accuracy {percent(number)}.", number)
