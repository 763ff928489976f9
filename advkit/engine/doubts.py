"""Reasons not to believe an evaluation's numbers that it shows by itself, or with a few passes more (P1 to P20).

What attacks found is compared example by example at no cost; the model is asked a few things about the first pictures, at
a price far below that of the attacks. ``advkit.engine.protocol`` makes the checks that take attacks of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn

from advkit.core.attack import Attack
from advkit.core.fitted import Fitted
from advkit.core.goal import Untargeted
from advkit.core.losses import KL, CrossEntropy
from advkit.core.rng import Rng, identify
from advkit.core.threat import Linf
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.protocol import answers, gradients
from advkit.engine.protocol.case import Case, differ
from advkit.engine.protocol.finding import FAIL, LUCK, PASS, Answer, of
from advkit.errors import PassError
from advkit.results.doubt import Doubt
from advkit.results.outcome import Evaluation, Outcome

__all__ = ["Doubts", "Met", "find_doubts"]

_PICTURES = 64  # at most, of which the model is asked
_FEWEST = 8
_PASSES = 11  # that the questions take of each picture
_PRICE = 0.02  # of the passes of attacks on the model itself: what the questions may take
_EDGE = 0.03  # of the examples: so many lie at the edge of the ball, found by one search and missed by another
_GAP = 0.1  # of the examples: what another loss may find beside cross-entropy without a defect
_LATE, _LATE_FEW = 0.02, 3  # of the examples, and at least so many: what may fall late
_LAST = 0.75  # of the steps: from here on it is late
_MANY = 8  # steps, from which on an attack is said to converge
_NEARBY = 8 / 255  # in Linf: far enough for a rounding to differ
_GREY = 0.5  # in Linf: every picture is within this of a grey one, so nothing can be told apart
_WORST = "the worst case"
_FEW = 10  # examples, below which a share says nothing


@dataclass(frozen=True)
class Met:
    """An attack and what it did. ``elsewhere``: it was made on another model, and replayed on this one."""

    attack: Attack
    outcome: Outcome
    elsewhere: bool = False

    @property
    def beaten(self) -> Tensor:
        """(N,) bool: what it met and beat."""
        return self.outcome.attacked & self.outcome.success

    @property
    def steers(self) -> bool:
        """Whether the model's own gradient steers it, for each picture anew."""
        return self.attack.tells == "gradient" and not self.elsewhere and not isinstance(self.attack, Fitted)

    @property
    def searches(self) -> bool:
        """Whether it follows that gradient for more than a step; of what another library does, steps are not known."""
        return self.steers and self.attack.steps != 1

    @property
    def climbs(self) -> bool:
        """Whether it climbs its loss inside the ball, step by step."""
        return self.steers and self.attack.steps > 1 and not self.attack.minimal


@dataclass(frozen=True)
class Doubts:
    """What was found, and how many checks applied."""

    found: tuple[Doubt, ...]
    checks: int


@dataclass(frozen=True)
class _Look:
    """What the checks look at."""

    result: Evaluation
    met: tuple[Met, ...]
    case: Case | None  # the first pictures, of which the model may be asked
    first: bool  # a run ended at the first success, so its steps say when the example fell
    told: bool  # gradients and verdicts are means over draws

    @cached_property
    def repeatable(self) -> Answer:
        """Whether the model answers the same each time."""
        assert self.case is not None
        return answers.repeatable(self.case)

    @property
    def right(self) -> int:
        """How many examples are right without attack."""
        return int(self.result.correct.sum())

    def luck(self, share: float = LUCK) -> float:
        """So many examples may differ by chance."""
        return max(1.0, share * self.right)

    def at_radii(self, wanted: Callable[[Met], bool]) -> list[tuple[str, list[Met]]]:
        """The attacks that are wanted, for each radius of any."""
        met = [each for each in self.met if wanted(each)]
        return [
            (eps, [each for each in met if each.outcome.threat.eps.exact == eps])
            for eps in dict.fromkeys(each.outcome.threat.eps.exact for each in met)
        ]

    def union(self, met: Sequence[Met], fact: Callable[[Met], Tensor]) -> Tensor:
        """(N,) bool: true of any of them."""
        none = torch.zeros_like(self.result.correct)
        return torch.stack([none, *(fact(each) for each in met)]).any(0)


_Check = Callable[[_Look], "list[Doubt] | None"]


def find_doubts(
    result: Evaluation,
    met: Sequence[Met],
    net: nn.Module,
    data: Data,
    *,
    batch_size: int,
    first: bool = True,
    told: bool = False,
) -> Doubts:
    """Every check on an evaluation that is over, ``net`` being borrowed and in eval mode.

    ``first`` says that runs ended at the first success; ``told`` that gradients and verdicts are means over draws.
    """
    # What was made on another model had cheaper passes, where this one draws.
    own = [each.outcome for each in met if not each.elsewhere]
    passes = sum(int(outcome.forwards.sum() + outcome.backwards.sum()) for outcome in own)
    count = min(len(data), _PICTURES, max(_FEWEST, int(_PRICE * passes / _PASSES)))
    case = None
    if met:
        try:
            x, y = data.pictures(range(count)), result.labels[:count]
            case = Case(net, x, y, met[0].attack.threat, batch_size=batch_size, seed=result.seed)
        except PassError:  # a model that draws, and drew no number this time
            case = None
    look = _Look(result, tuple(met), case, first, told)
    made = [found for check in _CHECKS if (found := _made(check, look)) is not None]
    return Doubts(tuple(doubt for found in made for doubt in found), len(made))


def _made(check: _Check, look: _Look) -> list[Doubt] | None:
    """What a check finds. A model that fails here must not cost the evaluation, which is over."""
    try:
        return check(look)
    except PassError:
        return None  # it answered with NaN this time: it draws, which another check tells
    except (RuntimeError, ValueError) as error:
        said = str(error).partition("\n")[0].rstrip(".")
        return [Doubt("P3", f"The model fails when it is asked apart from an attack: {said}.", "Repair its answers.")]


# ---------------------------------------------------------------------- what attacks found


def _above_chance(look: _Look) -> list[Doubt] | None:
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


def _iterative_beats_single_step(look: _Look) -> list[Doubt] | None:
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
                    f"One step ({_names(single)}) beats {of(only, look.right)} at {eps} that many ({_names(many)}) do not.",
                    "The loss is rough around the pictures: attack with more steps and restarts, and by scores (square).",
                )
            )
    return found if compared else None


def _larger_radius_beats_more(look: _Look) -> list[Doubt] | None:
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


def _unbounded_reaches_all(look: _Look) -> list[Doubt] | None:
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


def _converged(look: _Look) -> list[Doubt] | None:
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


def _white_box_beats_more(look: _Look) -> list[Doubt] | None:
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
                    f"{_names(black).capitalize()}, without a gradient, beats {of(only, look.right)} at {eps} that gradient"
                    f" attacks ({_names(white)}) do not.",
                    "The gradient hides what others find: attack the part that hides it (advkit check names it).",
                )
            )
    return found if compared else None


def _losses_agree(look: _Look) -> list[Doubt] | None:
    found: list[Doubt] = []
    compared = False
    for eps, met in look.at_radii(lambda each: each.climbs):
        plain, other = [m for m in met if _fades(m.attack)], [m for m in met if not _fades(m.attack)]
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
                    f"Cross-entropy ({_names(plain)}) beats {of(int(beaten.sum()), look.right)} at {eps}, other losses"
                    f" ({_names(other)}) {more:,} more.",
                    "Cross-entropy leads nowhere here: quote the worst case only; advkit check tells what else is hidden.",
                )
            )
    return found if compared else None


def _knowing_beats_more(look: _Look) -> list[Doubt] | None:
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


def _search_beats_its_controls(look: _Look) -> list[Doubt] | None:
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


# ---------------------------------------------------------------------- what the model is asked


def _asked(code: str, ask: Callable[[Case], Answer]) -> _Check:
    """A check of the protocol that takes few passes."""

    def check(look: _Look) -> list[Doubt] | None:
        if look.case is None:
            return None
        level, sentence, advice = ask(look.case)
        if level == FAIL:
            return [Doubt(code, sentence, advice)]
        return [] if level == PASS else None

    return check


def _steady(look: _Look) -> list[Doubt] | None:
    if look.case is None:
        return None
    level, sentence, _ = look.repeatable
    if level != FAIL or look.told:
        return []
    advice = "Attack the mean over many draws and judge each picture many times (--eot 20 --repeats 10)."
    return [Doubt("P12", sentence, advice)]


def _no_luck(look: _Look) -> list[Doubt] | None:
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


def _alive(look: _Look) -> list[Doubt] | None:
    case = look.case
    if case is None or not any(each.steers for each in look.met) or not case.total:
        return None
    found, grad = _asked("P11", gradients.available)(look), case.gradients.margin
    if not found or grad is None or not bool(grad.isfinite().all()):
        return found
    dead = (grad == 0).flatten(1).all(1) & case.correct
    if bool(dead.any()):
        return found if int(_hidden(case, dead).sum()) > max(1.0, LUCK * case.total) else []
    # Cross-entropy alone is saturated.
    return [] if any(each.climbs and not _fades(each.attack) for each in look.met) else found


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


_CHECKS: tuple[_Check, ...] = (
    _above_chance,
    _asked("P3", answers.scores),
    _asked("P3", answers.evaluation_mode),
    _asked("P3", answers.alone_and_in_company),
    _iterative_beats_single_step,
    _larger_radius_beats_more,
    _unbounded_reaches_all,
    _converged,
    _white_box_beats_more,
    _losses_agree,
    _alive,
    _asked("P11", gradients.unwatched),
    _steady,
    _no_luck,
    _knowing_beats_more,
    _search_beats_its_controls,
)


def _fades(attack: Attack) -> bool:
    """Whether the attack climbs a loss that fades where the model is sure of itself."""
    return isinstance(attack.loss, CrossEntropy | KL)


def _names(met: Sequence[Met]) -> str:
    return ", ".join(dict.fromkeys(each.outcome.name for each in met))
