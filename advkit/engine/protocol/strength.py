"""Whether a gradient attack does what it must: more with more steps, more with more room (P4 to P8, P10)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from advkit.core.losses import CrossEntropy
from advkit.core.threat import Linf
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import FAIL, LUCK, PASS, UNKNOWN, WARN, Answer, counted, grade, of
from advkit.results.statistics import share

__all__ = [
    "iterative_beats_single_step",
    "larger_radius_beats_more",
    "losses_agree",
    "restarts_suffice",
    "steps_suffice",
    "unbounded_reaches_all",
]

_MUCH = 0.05  # of the examples: what more steps may still find
_GAP = 0.1  # of the examples: what another loss may still find
_MORE = 2  # times the steps
_GREY = 0.5  # every picture is within this of a grey one, so nothing can be told apart


def iterative_beats_single_step(case: Case) -> Answer:
    """Example by example: what one step beats, many must beat too."""
    one, many = case.beaten(case.single_step()), case.beaten(case.plain(CrossEntropy()))
    if not bool((one | many).any()):
        return _nothing_falls()
    only = int((one & ~many).sum())
    said = f"FGSM beats {of(int(one.sum()), case.total)}, PGD with {case.steps} steps {of(int(many.sum()), case.total)}"
    if not only:
        return Answer(PASS, f"{said}, all of FGSM's among them.")
    return Answer(
        grade(only, case.total),
        f"{said}; {counted(only)} fall{'s' if only == 1 else ''} to FGSM alone.",
        "The loss is rough around the pictures: attack with more steps, restarts and by scores.",
    )


def losses_agree(case: Case) -> Answer:
    """Cross-entropy fades where a model is sure of itself; the margin between logits does not."""
    if not bool(case.white.any()):
        return _nothing_falls()
    first = case.beaten(case.plain(CrossEntropy()))
    more = int((case.beaten(case.plain(), among=~first)).sum())
    said = f"PGD on cross-entropy beats {of(int(first.sum()), case.total)}, on the margin {_more(more)}"
    if more <= _GAP * case.total:
        level = PASS if more <= 2 * max(1.0, LUCK * case.total) else WARN
        return Answer(level, f"{said}.", "" if level == PASS else "Count the worst case of both losses.")
    return Answer(
        FAIL,
        f"{said}: cross-entropy leads nowhere.",
        "Attack with --loss margin or dlr; count the worst case of all losses.",
    )


def larger_radius_beats_more(case: Case) -> Answer:
    """A larger ball holds all that a smaller one does."""
    eps = min(case.ball.reach(case.x[:1]), float(case.ball.eps))
    most = case.within(eps * 100).reach(case.x[:1]) if not isinstance(case.ball, Linf) else 1.0
    radii = [eps / 2, eps, min(2 * eps, most)]
    steps = max(1, case.steps // 2)
    left = [case.total - int(case.beaten(case.plain(ball=case.within(r), steps=steps)).sum()) for r in radii]
    if left[-1] == case.total:
        return _nothing_falls()
    rise = max(after - before for before, after in pairwise(left))
    said = f"Of {counted(case.total)} {left[0]:,}, {left[1]:,} and {left[2]:,} stand at half, one and two radii"
    if rise <= 0:
        return Answer(PASS, f"{said}.")
    return Answer(
        grade(rise, case.total),
        f"{said}: more room, and fewer fall.",
        "The search is led astray: attack with smaller steps, restarts and by scores.",
    )


def unbounded_reaches_all(case: Case) -> Answer:
    """Where every picture can be made grey, no model can be right more often than by chance."""
    fallen = case.beaten(case.plain(ball=Linf(_GREY)))
    left = case.total - int(fallen.sum())
    accuracy = share(left, len(case.y))
    said = f"At Linf {_GREY}, where every picture may turn grey, accuracy is {accuracy.percent} %"
    if left <= max(1.0, LUCK * len(case.y)):
        return Answer(PASS, f"{said}.")
    advice = "Gradients lead nowhere: look for a step that is detached, rounds, saturates or draws."
    level = WARN if accuracy.value <= case.chance else FAIL
    return Answer(level, f"{said}; chance is {100 * case.chance:.1f} %.", advice)


def steps_suffice(case: Case) -> Answer:
    """Twice the steps must find little more."""
    if not bool(case.white.any()):
        return _nothing_falls()
    if not bool(case.standing.any()):
        return Answer(PASS, f"{case.steps} steps leave nothing standing.")
    more = int(case.beaten(case.plain(steps=_MORE * case.steps), among=case.standing).sum())
    return _searched_on(case, more, f"{_MORE * case.steps} steps instead of {case.steps}", "steps")


def restarts_suffice(case: Case) -> Answer:
    """A walk from another random point must find little more."""
    if not bool(case.white.any()):
        return _nothing_falls()
    if not bool(case.standing.any()):
        return Answer(PASS, "The first run leaves nothing standing.")
    again = replace(case.plain(), restarts=2)
    more = int(case.beaten(again, among=case.standing, seed=case.seed + 1).sum())
    return _searched_on(case, more, "Two more random starts", "restarts")


def _searched_on(case: Case, more: int, what: str, setting: str) -> Answer:
    said = f"{what} beat {_more(more)} of the {int(case.standing.sum()):,} that stood"
    if more <= max(1.0, LUCK * case.total):
        return Answer(PASS, f"{said}.")
    level = grade(more, case.total, _MUCH)
    return Answer(level, f"{said}: the search had not converged.", f"Report numbers with more {setting} only.")


def _more(count: int) -> str:
    return f"{count:,} more" if count else "none more"


def _nothing_falls() -> Answer:
    return Answer(UNKNOWN, "PGD beats nothing here, so there is nothing to compare.")
