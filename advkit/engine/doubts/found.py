"""What attacks found, compared example by example."""

from __future__ import annotations

from itertools import pairwise

from advkit.core.threat import Linf
from advkit.core.units import Eps
from advkit.engine.checks import better_order
from advkit.engine.doubts.look import Look, names
from advkit.engine.protocol.finding import of
from advkit.results.doubt import Doubt

__all__ = [
    "above_chance",
    "class_order",
    "converged",
    "iterative_beats_single_step",
    "knowing_beats_more",
    "larger_radius_beats_more",
    "losses_agree",
    "no_luck",
    "search_beats_its_controls",
    "unbounded_reaches_all",
    "white_box_beats_more",
]

_EDGE = 0.03  # of the examples: so many lie at the edge of the ball, found by one search and missed by another
_GAP = 0.1  # of the examples: what another loss may find beside cross-entropy without a defect
_LATE, _LATE_FEW = 0.02, 3  # of the examples, and at least so many: what may fall late
_LAST = 0.75  # of the steps: from here on it is late
_MANY = 8  # steps, from which on an attack is said to converge
_GREY = 0.5  # in Linf: every picture is within this of a grey one, so nothing can be told apart
_WORST = "the worst case"
_FEW = 10  # examples, below which a share says nothing


def above_chance(look: Look) -> list[Doubt] | None:
    """Robustness of a model that guesses means nothing."""
    if look.case is None or len(look.result) < _FEW:
        return None
    chance, at = look.case.chance, look.result.clean_accuracy
    if at.low > chance or at.value > (1 + chance) / 2:
        return []
    return [
        Doubt(
            "P2",
            f"Without attack {at.percent} % are right, and guessing gets {100 * chance:.1f} %.",
            "Check that weights, normalisation and data belong together.",
        )
    ]


def class_order(look: Look) -> list[Doubt] | None:
    """Class folders named by numbers have two orders, and a model learnt one of them."""
    if look.data.other_order is None:
        return None
    told = better_order(look.data.other_order, look.result.labels, look.result.clean)
    return [Doubt("P2", *told)] if told else []


def iterative_beats_single_step(look: Look) -> list[Doubt] | None:
    """Example by example: what one step beats, many must beat too."""
    found: list[Doubt] = []
    compared = False
    for eps, met in look.at_radii(lambda each: each.steers):
        many, single = [each for each in met if each.searches], [each for each in met if not each.searches]
        one = look.union(single, lambda each: each.beaten)
        compared |= bool(many and single)
        tested, beaten = (
            look.union(many, lambda each: each.outcome.attacked),
            look.union(many, lambda each: each.beaten),
        )
        only = int((one & tested & ~beaten).sum())
        if only > look.luck():
            found.append(
                Doubt(
                    "P4",
                    f"One step ({names(single)}) beats {of(only, look.right)} at {eps} that many ({names(many)}) do not.",
                    "The loss is rough around the pictures: attack with more steps and restarts, and by scores (square).",
                )
            )
    return found if compared else None


def larger_radius_beats_more(look: Look) -> list[Doubt] | None:
    """A larger ball holds all that a smaller one does."""
    curves: dict[str, list[tuple[Eps, str, int]]] = {}
    for each in look.met:
        if each.attack.nested and not each.elsewhere and not each.outcome.follows:
            stands = int(each.outcome.stands(look.result.labels).sum())
            curves.setdefault(each.outcome.name, []).append(
                (each.outcome.threat.eps, each.outcome.threat.eps.exact, stands)
            )
    curves[_WORST] = [
        (met[0].outcome.threat.eps, eps, int(look.result.stands(eps).sum()))
        for eps, met in look.at_radii(lambda each: not each.elsewhere)
    ]
    found: list[Doubt] = []
    compared = False
    for name, points in curves.items():
        if found and name == _WORST:
            break  # it rises with the attack that was told already
        for (_, small, before), (_, large, after) in pairwise(sorted(points)):
            compared = True
            if after - before > look.luck():
                found.append(
                    Doubt(
                        "P5",
                        f"Under {name} {after - before:,} more of {look.right:,} stand at {large} than at {small}, though the"
                        " larger ball holds all of the smaller.",
                        "The search at the larger radius is too weak: more steps, smaller steps, restarts.",
                    )
                )
    return found if compared else None


def unbounded_reaches_all(look: Look) -> list[Doubt] | None:
    """Where every picture can be made grey, no model can be right more often than by chance."""
    if look.case is None:
        return None
    worst, chance, applies = dict(look.result.worst()), look.case.chance, False
    found = []
    for eps, met in look.at_radii(lambda each: each.searches):
        threat = met[0].outcome.threat
        if not isinstance(threat, Linf) or float(threat.eps) < _GREY or look.result.goal != "untargeted":
            continue
        applies = True
        if worst[eps].low > chance:
            found.append(
                Doubt(
                    "P6",
                    f"At Linf {eps}, where every picture may turn grey, {worst[eps].percent} % stand, and guessing gets"
                    f" {100 * chance:.1f} %.",
                    "Gradients lead nowhere: look for a step that is detached, rounds, saturates or draws (advkit check).",
                )
            )
    return found if applies else None


def converged(look: Look) -> list[Doubt] | None:
    """Examples that fall in the last steps say that more would fall after them."""
    if not look.first:
        return None
    found: list[Doubt] = []
    applies = False
    for each in look.met:
        steps = each.attack.steps
        if not each.climbs or not each.attack.nested or steps < _MANY:
            continue
        applies = True
        place = (each.outcome.steps[each.beaten] - 1) % steps
        late = int((place >= _LAST * steps).sum())
        if late > max(_LATE_FEW, look.luck(_LATE)):
            found.append(
                Doubt(
                    "P7",
                    f"{of(late, int(each.beaten.sum())).capitalize()} that {each.outcome.name} beats at"
                    f" {each.outcome.threat.eps.exact} fell in the last quarter of its {steps} steps.",
                    "The search had not converged: raise --steps.",
                )
            )
    return found if applies else None


def white_box_beats_more(look: Look) -> list[Doubt] | None:
    """A search by scores, or chance, knows less than a gradient."""
    found: list[Doubt] = []
    compared = False
    for eps, met in look.at_radii(lambda each: not each.elsewhere):
        white, black = [m for m in met if m.searches], [m for m in met if m.attack.tells != "gradient"]
        compared |= bool(white and black)
        tested, beaten = (
            look.union(white, lambda each: each.outcome.attacked),
            look.union(white, lambda each: each.beaten),
        )
        only = int((look.union(black, lambda each: each.beaten) & tested & ~beaten).sum())
        if only > look.luck():
            found.append(
                Doubt(
                    "P9",
                    f"{names(black).capitalize()}, without a gradient, beats {of(only, look.right)} at {eps} that gradient"
                    f" attacks ({names(white)}) do not.",
                    "The gradient hides what others find: attack the part that hides it (advkit check names it).",
                )
            )
    return found if compared else None


def losses_agree(look: Look) -> list[Doubt] | None:
    """Cross-entropy fades where a model is sure of itself; other losses do not."""
    found: list[Doubt] = []
    compared = False
    for eps, met in look.at_radii(lambda each: each.climbs):
        plain, other = [m for m in met if m.fades], [m for m in met if not m.fades]
        compared |= bool(plain and other)
        tested, beaten = (
            look.union(plain, lambda each: each.outcome.attacked),
            look.union(plain, lambda each: each.beaten),
        )
        more = int((look.union(other, lambda each: each.beaten) & tested & ~beaten).sum())
        if more > look.luck(_GAP):
            found.append(
                Doubt(
                    "P10",
                    f"Cross-entropy ({names(plain)}) beats {of(int(beaten.sum()), look.right)} at {eps}, other losses"
                    f" ({names(other)}) {more:,} more.",
                    "Cross-entropy leads nowhere here: quote the worst case only; advkit check tells what else is hidden.",
                )
            )
    return found if compared else None


def knowing_beats_more(look: Look) -> list[Doubt] | None:
    """Pictures made on another model, or without the defense, are the weaker attack."""
    found: list[Doubt] = []
    compared = False
    for eps, met in look.at_radii(lambda each: each.attack.tells == "gradient"):
        replayed, own = [m for m in met if m.elsewhere], [m for m in met if not m.elsewhere]
        if not replayed or not own:
            continue
        compared = True
        without, knowing = look.union(replayed, lambda each: each.beaten), look.union(own, lambda each: each.beaten)
        only, rise = int((without & ~knowing).sum()), int(without.sum()) - int(knowing.sum())
        if rise > look.luck() or only > look.luck(_EDGE):
            found.append(
                Doubt(
                    "P14",
                    f"What was made on another model beats {of(int(without.sum()), look.right)} at {eps}; attacks on the model"
                    f" itself beat {int(knowing.sum()):,} and leave {only:,} of those standing.",
                    "The gradient is hidden: count the worst case of both, and attack by a better one (BPDA) or more draws.",
                )
            )
    return found if compared else None


def search_beats_its_controls(look: Look) -> list[Doubt] | None:
    """The same thing at a random place is no search."""
    found: list[Doubt] = []
    compared = False
    for each in look.met:
        for control in each.outcome.controls if not each.elsewhere and not each.outcome.follows else ():
            compared = True
            without, searched = int(control.success.sum()), int(each.beaten.sum())
            if without - searched > look.luck():
                found.append(
                    Doubt(
                        "P14",
                        f"The control of {each.outcome.name} ({control.name}) beats {of(without, look.right)} at"
                        f" {each.outcome.threat.eps.exact}, the search itself {searched:,}.",
                        "The search is led astray: more steps and restarts, or another loss.",
                    )
                )
    return found if compared else None


def no_luck(look: Look) -> list[Doubt] | None:
    """A success must be one under other draws too."""
    found: list[Doubt] = []
    applies = False
    for each in look.met:
        if each.outcome.repeated is None:
            continue
        applies = True
        lucky = int((each.beaten & (each.outcome.repeated.double().mean(0) > 0.5)).sum())
        if lucky > look.luck():
            found.append(
                Doubt(
                    "P12",
                    f"{of(lucky, int(each.beaten.sum())).capitalize()} that {each.outcome.name} beats at"
                    f" {each.outcome.threat.eps.exact} were the luck of a draw: under other draws most answers are right.",
                    "Quote the accuracy over repeats, and attack the mean over more draws (--eot).",
                )
            )
    return found if applies else None
