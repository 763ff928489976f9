"""Whether a gradient attack does what it must: more with more steps, more with more room (P4 to P8, P10)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

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
    "twice",
    "unbounded_reaches_all",
    "unconstrained_succeeds",
]

_MUCH = 0.05  # of the examples: what more steps may still find
_EDGE = 0.03  # of the examples: so many lie at the edge of the ball, met by one walk and missed by another
_GAP = 0.1  # of the examples: what another loss may still find
_MORE = 2  # times the steps
_GREY = 0.5  # every picture is within this of a grey one, so nothing can be told apart


def iterative_beats_single_step(case: Case) -> Answer:
    """Example by example: what one step beats, many must beat too, if not on the same loss, then on another."""
    one, many = case.beaten(case.single_step()), case.beaten(case.plain(CrossEntropy()))
    if not bool((one | many).any()):
        return _nothing_falls()
    said = f"FGSM beats {of(int(one.sum()), case.total)}, PGD with {case.steps} steps {of(int(many.sum()), case.total)}"
    alone = int((one & ~many).sum())
    if not alone:
        return Answer(PASS, f"{said}, all of FGSM's among them.")
    only = int((one & ~case.white).sum())
    falls = f"{counted(alone)} fall{'s' if alone == 1 else ''} to FGSM alone"
    if not only and alone <= max(1.0, _EDGE * case.total):
        return Answer(PASS, f"{said}; {falls}, and to PGD on other losses.")
    return Answer(
        grade(only, case.total) if only else WARN,
        f"{said}; {falls}, {of(only, alone)} even of PGD on all losses.",
        "The loss is rough around the pictures: attack with more steps, restarts and by scores.",
    )


def losses_agree(case: Case) -> Answer:
    """Cross-entropy fades where a model is sure of itself, and points at no class where it is not; a margin does neither."""
    first, found = case.by_loss["cross-entropy"], case.white
    if not bool(found.any()):
        return _nothing_falls()
    said = [f"{name} {_more(int(more.sum()))}" for name, more in case.by_loss.items() if name != "cross-entropy"]
    told = f"PGD on cross-entropy beats {of(int(first.sum()), case.total)}, on {', '.join(said)}"
    more_than = int((found & ~first).sum())
    if more_than <= max(1.0, _GAP * case.total):
        level = PASS if more_than <= 2 * max(1.0, LUCK * case.total) else WARN
        return Answer(level, f"{told}.", "" if level == PASS else "Count the worst case of all losses.")
    return Answer(
        FAIL,
        f"{told}: cross-entropy leads nowhere.",
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


def unconstrained_succeeds(case: Case) -> Answer:
    """With nothing but the box to stop it, a sound attack beats everything (Pintor et al. 2022)."""
    fallen = case.beaten(case.plain(ball=case.within(math.inf)))
    left = case.total - int(fallen.sum())
    said = f"Without a radius, in the box alone, PGD leaves {of(left, case.total)} standing"
    if left <= max(1.0, LUCK * case.total):
        return Answer(PASS, f"{said}.")
    return Answer(FAIL, f"{said}.", "The attack is broken, or its gradient is: no number of it means anything.")


def steps_suffice(case: Case) -> Answer:
    """Twice the steps must find little more."""
    if not bool(case.white.any()):
        return _nothing_falls()
    if not bool(case.standing.any()):
        return Answer(PASS, f"{case.steps} steps leave nothing standing.")
    more = int(twice(case).sum())
    return _searched_on(case, more, f"{_MORE * case.steps} steps instead of {case.steps}", "steps")


def twice(case: Case) -> Tensor:
    """(N,) bool: of what stands, what falls to twice the steps."""
    attack = case.plain(steps=_MORE * case.steps)
    return case.once("twice", lambda: case.beaten(attack, among=case.standing))


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
