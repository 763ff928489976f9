"""Whether something that asks for no gradient finds what the gradient did not (P9, P14)."""

from __future__ import annotations

from advkit.attacks.noise import Noise
from advkit.attacks.square import Square
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import PASS, UNKNOWN, WARN, Answer, counted, grade, of

__all__ = ["noise_finds_nothing_more", "oblivious_finds_nothing_more", "random_search_finds_nothing_more"]

_DRAWS = 30
_SOME = 0.03  # of the examples: so many lie at the edge of the ball, found by one search and missed by another


def noise_finds_nothing_more(case: Case) -> Answer:
    """Random points of the ball are no attack."""
    if not bool(case.standing.any()):
        return _nothing_stands()
    more = int(case.beaten(Noise(case.ball, steps=_DRAWS), among=case.standing).sum())
    return _found(case, more, f"{_DRAWS} draws of random noise")


def random_search_finds_nothing_more(case: Case) -> Answer:
    """A search by scores knows less than one by gradients."""
    if not bool(case.standing.any()):
        return _nothing_stands()
    more = int(case.beaten(Square(case.ball, queries=case.queries), among=case.standing).sum())
    return _found(case, more, f"A search by scores (Square, {case.queries} queries)")


def oblivious_finds_nothing_more(case: Case) -> Answer:
    """Pictures made on the model without its defense are a weak attack on the defended one."""
    if case.bare is None:
        return Answer(UNKNOWN, "There is no defense to leave out; name one by --defense.")
    if not bool(case.standing.any()):
        return _nothing_stands()
    more = int((case.oblivious & case.standing).sum())
    every = of(int(case.oblivious.sum()), case.total)
    return _found(case, more, f"Pictures made on the model without its defense ({every} beaten)")


def _found(case: Case, more: int, who: str) -> Answer:
    left = f"{counted(int(case.standing.sum()))} that PGD leaves standing"
    beats = "beats" if who.startswith("A ") else "beat"
    if not more:
        return Answer(PASS, f"{who} {beats} none of {left}.")
    level = grade(more, case.total, _SOME)
    return Answer(
        level,
        f"{who} {beats} {more:,} of {left}; PGD beats {of(int(case.white.sum()), case.total)}.",
        "Few enough to lie at the edge of the ball; count the worst case of all attacks."
        if level == WARN
        else "The gradient hides what others find: count the worst case of all attacks, and attack the part that hides it.",
    )


def _nothing_stands() -> Answer:
    return Answer(PASS, "The white-box search leaves nothing standing.")
