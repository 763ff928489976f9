"""Checks of what attacks found, compared example by example: what no sound search shows.

A defense that hides its gradients betrays itself by numbers that cannot be: see Carlini et al., "On Evaluating Adversarial
Robustness" (2019), section 4. What an attack does is read from what it took, not from its name: an attack that goes
backwards steers by the gradient, one that does so more than once for each example takes many steps. No torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np

from advkit.results.cell import Bools, Numbers
from advkit.results.grid import Grid, Line
from advkit.results.statistics import mcnemar
from advkit.results.verdict import FAIL, LUCK, PASS, WARN, Verdict, counted, sentence, size_of

__all__ = ["CONTROLS", "chance_of", "strength_verdicts"]

_SURE = 0.05  # McNemar's p: a rise that luck alone makes less often than this
_EDGE = 0.03  # of the examples: so many lie at the edge of the ball, found by one search and missed by another
_GRAVE = 0.05  # of the examples, and at least so many: what no luck explains
_GRAVE_FEW = 3
_MOST_NAMED = 4  # attacks in one sentence
CONTROLS = frozenset({"noise"})  # of attacks that are run for comparison only


@dataclass(frozen=True)
class Look:
    """The lines of a grid, and what is known of the attacks that made them."""

    grid: Grid

    @cached_property
    def groups(self) -> Mapping[object, list[Line]]:
        """Lines at one radius of one setting and threat."""
        found: dict[object, list[Line]] = defaultdict(list)
        for line in self.grid.lines:
            found[_threat(line)].append(line)
        return found

    @cached_property
    def curves(self) -> list[list[Line]]:
        """For each attack on each setting its lines from the smallest radius to the largest; what is replayed may rise."""
        found: dict[object, list[Line]] = defaultdict(list)
        copies: dict[object, int] = defaultdict(int)  # the same name with other settings is another curve
        for line in self.grid.lines:
            if line.cell.surrogate:
                continue
            kind = (*_threat(line)[:-1], line.cell.attack, line.attack, line.follows)
            found[kind, copies[kind, line.eps]].append(line)
            copies[kind, line.eps] += 1
        return [sorted(lines, key=lambda line: size_of(line.eps)) for lines in found.values()]

    @cached_property
    def _backwards(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """For each stage of each cell its backward passes and the examples that it met, over all radii."""
        found: dict[tuple[str, str], tuple[int, int]] = {}
        before: Line | None = None
        for line in self.grid.lines:
            met = before.stands if line.follows and before is not None else line.clean
            passes, examples = found.get((line.cell.key, line.attack), (0, 0))
            found[line.cell.key, line.attack] = (passes + line.backwards, examples + int(met.sum()))
            before = line
        return found

    def steers(self, line: Line) -> bool:
        """Whether the stage of a line asks for gradients, at any radius: a search over all of them asks once."""
        return self._backwards[line.cell.key, line.attack][0] > 0

    def takes_many_steps(self, line: Line) -> bool:
        """Whether it does so more than once for each example that it meets."""
        backwards, met = self._backwards[line.cell.key, line.attack]
        return backwards > met


@dataclass(frozen=True)
class Compared:
    """Two groups of lines at one radius of one setting: what only the one beats, and what only the other."""

    at: Line
    only_weak: int  # beaten by what should be weaker alone
    only_strong: int
    right: int
    weak: str
    strong: str

    @property
    def rise(self) -> int:
        """How many more fall to what should be weaker."""
        return self.only_weak - self.only_strong


def _never_rises(look: Look) -> Verdict | None:
    """A larger ball holds all of a smaller one."""
    pairs = [pair for curve in look.curves for pair in pairwise(curve)]
    if not pairs:
        return None
    name, code = "Accuracy never rises with the radius", "P5"
    found = [_compare([small], [large], _fallen) for small, large in pairs]
    risen = [each for each in found if each.rise > 0]
    if not risen:
        return Verdict(
            name, PASS, sentence(f"in {counted(len(pairs), 'step')} from a radius to the next larger one"), code
        )
    top = max(risen, key=lambda each: each.rise / max(1, each.right))
    said = f"{_name(top.at)} leaves {counted(top.rise, 'example')} of {top.at.n} more standing{_others(risen, found)}"
    if not _is_sure(top):
        few = top.rise <= max(1.0, LUCK * top.at.n)
        return Verdict(name, PASS if few else WARN, f"{said}, as few as random starts explain.", code)
    why = (
        "what is found in a small ball lies in every larger one, so the search at the larger radius is too weak"
        if look.takes_many_steps(top.at) or not look.steers(top.at)
        else "one long step overshoots, so read its numbers as those of a weak attack"
    )
    return Verdict(name, FAIL if look.takes_many_steps(top.at) else WARN, f"{said}: {why}.", code)


def _worst_is_worst(look: Look) -> Verdict | None:
    """The worst case is no better than any attack, example by example."""
    worst = {_threat(line): line for line in look.grid.worst}
    lines = [line for line in look.grid.lines if not line.outdated and _threat(line) in worst]
    if not lines:
        return None
    wrong = [line for line in lines if _escapes(worst[_threat(line)], line)]
    name = "The worst case is no better than any attack"
    if wrong:
        return Verdict(name, FAIL, f"{_name(wrong[0])} beats an example that the worst case counts as standing.")
    return Verdict(name, PASS, f"Example by example, over {counted(len(lines), 'line')}.")


def _many_steps_beat_more(look: Look) -> Verdict | None:
    """What one step beats, many must beat too."""

    def split(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
        own = [line for line in lines if look.steers(line) and not line.cell.surrogate]
        many = [line for line in own if look.takes_many_steps(line)]
        return [line for line in own if line not in many and not line.follows], many

    return _only_weak_beats(
        look,
        split,
        "Attacks of many steps beat what one step beats",
        "P4",
        "the loss is rough around the pictures or the step is too long: more steps and restarts, and attacks by scores",
    )


def _gradients_beat_more(look: Look) -> Verdict | None:
    """A search by scores, or chance, knows less than a gradient."""

    def split(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
        own = [line for line in lines if not line.cell.surrogate]
        steered = [line for line in own if look.steers(line)]
        return [line for line in own if line not in steered], [line for line in steered if look.takes_many_steps(line)]

    return _only_weak_beats(
        look,
        split,
        "Attacks by gradient beat what attacks by scores beat",
        "P9",
        "the gradient hides what others find: attack the part that hides it (advkit check names it)",
    )


def _knowing_beats_more(look: Look) -> Verdict | None:
    """What was made on another model, or without the defense, is the weaker attack."""
    found = []
    for lines in look.groups.values():
        elsewhere = [line for line in lines if line.cell.surrogate]
        own = [line for line in lines if not line.cell.surrogate]
        if elsewhere and own:
            found.append(_compare(elsewhere, own))
    if not found:
        return None
    name, code = "Attacks that know a model beat those that do not", "P14"
    worse = [
        each
        for each in found
        if each.rise > max(1.0, LUCK * each.right) or each.only_weak > max(_GRAVE_FEW, _EDGE * each.right)
    ]
    if not worse:
        return Verdict(
            name, PASS, f"In {counted(len(found), 'comparison')} with what was made elsewhere and replayed.", code
        )
    top = max(worse, key=lambda each: each.only_weak / max(1, each.right))
    return Verdict(
        name,
        FAIL if _is_sure(top) else WARN,
        f"On {top.at.setting} at {top.at.eps} {counted(top.only_weak, 'example')} of {top.right} fall only to what was made"
        f" without knowing it ({top.weak}), {top.only_strong} only to attacks that do ({top.strong}){_others(worse, found)}:"
        " the gradient is hidden, so count the worst case of both, and use BPDA or more draws.",
        code,
    )


def _searches_beat_controls(look: Look) -> Verdict | None:
    """The same thing at a random place is no search."""
    found: list[tuple[int, Line, str, int, int]] = []
    for line in look.grid.lines:
        if line.follows or line.cell.surrogate:
            continue
        beaten = line.clean & ~line.stands
        for control, success in line.beaten.items():
            without = success & line.clean
            rise = int(without.sum()) - int(beaten.sum())
            found.append((rise, line, control, int((without & ~beaten).sum()), int(line.clean.sum())))
    if not found:
        return None
    name, code = "Searches beat their controls", "P14"
    rise, line, control, only, right = max(found, key=lambda each: each[0] / max(1, each[4]))
    if rise <= max(1.0, LUCK * right):
        return Verdict(
            name, PASS, f"In {counted(len(found), 'comparison')} with the same thing without a search.", code
        )
    level = FAIL if mcnemar(only, only - rise) < _SURE else WARN
    return Verdict(
        name,
        level,
        f"The control of {_name(line)} ({control}) beats {counted(rise, 'example')} of {right} more than the search: it is led"
        " astray, so try more steps and restarts, or another loss.",
        code,
    )


def _attacks_work(look: Look) -> Verdict | None:
    """An attack that beats nothing at its largest radius says nothing."""
    largest = [curve[-1] for curve in look.curves if curve[-1].clean.any() and curve[-1].cell.attack not in CONTROLS]
    if not largest:
        return None
    name = "Every attack beats something at its largest radius"
    idle = [line for line in largest if not (line.clean & ~line.stands).any()]
    if idle:
        more = f", and {len(idle) - 1} more" if len(idle) > 1 else ""
        leads = ", or gradients that lead nowhere" if look.steers(idle[0]) else ", or too few queries"
        return Verdict(name, WARN, f"{_name(idle[0])} beats nothing{more}: a radius too small{leads}.")
    return Verdict(name, PASS, f"In all of {counted(len(largest), 'curve')}.")


def _reaches_chance(look: Look) -> Verdict | None:
    """Where the ball is large enough no model can be right more often than by chance."""
    last: dict[object, Line] = {}
    known = {_threat(line) for line in look.grid.lines if not line.cell.surrogate}
    for line in look.grid.worst:
        key = _threat(line)[:-1]
        if line.clean_accuracy.low <= chance_of(line) or line.cell.goal != "untargeted" or _threat(line) not in known:
            continue
        if key not in last or size_of(line.eps) > size_of(last[key].eps):
            last[key] = line
    if not last:
        return None
    name, code = "The largest radius brings accuracy down to chance", "P6"
    above = [line for line in last.values() if line.accuracy.low > chance_of(line)]
    if not above:
        said = "In the one setting" if len(last) == 1 else f"In all of {counted(len(last), 'setting')}"
        return Verdict(name, PASS, f"{said}: the attacks do reach through the model.", code)
    top = max(above, key=lambda line: line.accuracy.value)
    stay = "The one setting stays" if len(last) == 1 else f"{len(above)} of {counted(len(last), 'setting')} stay"
    return Verdict(
        name,
        WARN,
        f"{stay} above it ({top.setting}: {top.accuracy.percent} % at {top.eps}); a larger radius would show that the attacks"
        " work at all.",
        code,
    )


_CHECKS: tuple[Callable[[Look], Verdict | None], ...] = (
    _never_rises,
    _worst_is_worst,
    _many_steps_beat_more,
    _gradients_beat_more,
    _knowing_beats_more,
    _searches_beat_controls,
    _attacks_work,
    _reaches_chance,
)


def strength_verdicts(grid: Grid) -> list[Verdict]:
    """Every check that applies to what the attacks found."""
    look = Look(grid)
    return [verdict for check in _CHECKS if (verdict := check(look)) is not None]


def chance_of(line: Line) -> float:
    """How often guessing is right."""
    return 1 / (len(line.classes) or int(line.labels.max()) + 1)


# ------------------------------------------------------------------ comparing


def _only_weak_beats(
    look: Look,
    split: Callable[[Sequence[Line]], tuple[list[Line], list[Line]]],
    name: str,
    code: str,
    because: str,
) -> Verdict | None:
    """Whether what should be weaker beats examples that what should be stronger does not, all of it together."""
    found = []
    for lines in look.groups.values():
        weak, strong = split(lines)
        if weak and strong:
            found.append(_compare(weak, strong))
    if not found:
        return None
    worse = [each for each in found if each.only_weak > max(1.0, LUCK * each.right)]
    top = max(found, key=lambda each: each.only_weak / max(1, each.right))
    if not worse:
        few = (
            f"; at most {counted(top.only_weak, 'example')} of {top.right} fell only to the weaker"
            if top.only_weak
            else ""
        )
        return Verdict(
            name, PASS, sentence(f"in {counted(len(found), 'comparison')}, as {top.strong} with {top.weak}{few}"), code
        )
    grave = top.only_weak >= max(_GRAVE_FEW, _GRAVE * top.right)
    return Verdict(
        name,
        FAIL if grave else WARN,
        f"{top.weak} at {top.at.eps} on {top.at.setting} beats {counted(top.only_weak, 'example')} of {top.right} that"
        f" {top.strong} leaves standing{_others(worse, found)}: {because}.",
        code,
    )


def _fallen(line: Line) -> Bools:
    """(n,) what an attack and the stages before it have beaten."""
    return line.clean & ~line.stands


def _beaten(line: Line) -> Bools:
    """(n,) what a line beats itself: of a stage that follows, of what it met."""
    fell = _fallen(line)
    return fell & np.isfinite(line.distance) if line.follows and line.distance is not None else fell


def _compare(weak: Sequence[Line], strong: Sequence[Line], beaten: Callable[[Line], Bools] = _beaten) -> Compared:
    """What each group beats together, on the examples that all of both have."""
    lines = [*weak, *strong]
    shared: Numbers = reduce(_shared, (line.index for line in lines))

    def together(group: Sequence[Line]) -> Bools:
        found = [beaten(line)[np.searchsorted(line.index, shared)] for line in group]
        return reduce(np.logical_or, found)

    one, other = together(weak), together(strong)
    clean = strong[0].clean[np.searchsorted(strong[0].index, shared)]
    return Compared(
        strong[-1],
        int((one & ~other).sum()),
        int((other & ~one).sum()),
        int(clean.sum()),
        *(_several([line.attack for line in group]) for group in (weak, strong)),
    )


def _shared(one: Numbers, other: Numbers) -> Numbers:
    return one if one is other or np.array_equal(one, other) else np.intersect1d(one, other)


def _several(names: Sequence[str]) -> str:
    """Each name once, the first few."""
    found = list(dict.fromkeys(names))
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


def _is_sure(found: Compared) -> bool:
    """Whether a rise is more than luck makes: beyond what starts explain, and uneven beyond McNemar's doubt."""
    few = found.rise <= max(1.0, LUCK * found.at.n)
    return not few and mcnemar(found.only_weak, found.only_strong) < _SURE


def _others(worse: Sequence[Compared], found: Sequence[Compared]) -> str:
    return f" ({len(worse)} of {len(found)} comparisons)" if len(worse) > 1 else ""


def _escapes(worst: Line, line: Line) -> bool:
    """Whether a line beats an example that the worst case counts as standing."""
    _, here, there = np.intersect1d(worst.index, line.index, return_indices=True)
    return bool((worst.stands[here] & ~line.stands[there]).any())


def _threat(line: Line) -> tuple[object, ...]:
    """Lines are compared where this is the same."""
    return (line.cell.setting, line.cell.threat, line.cell.precision, line.eps)


def _name(line: Line) -> str:
    return f"{line.attack} at {line.eps} on {line.setting}"
