"""Checks of a sweep's results by themselves: what no honest evaluation shows, each with a verdict and one sentence.

A defense that hides its gradients betrays itself by numbers that cannot be: see Carlini et al., "On Evaluating Adversarial
Robustness" (2019), section 4. No torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import nan

import numpy as np

from advkit.results.asked import Asked
from advkit.results.cell import not_oblivious
from advkit.results.grid import Grid, Line

__all__ = ["FAIL", "PASS", "WARN", "Verdict", "size_of", "verdicts"]

PASS, WARN, FAIL = "pass", "warn", "fail"

SINGLE_STEP = frozenset({"fgsm"})
ITERATIVE = frozenset({"apgd", "bim", "mi-fgsm", "pgd"})
_CHANCE = 0.01  # of the examples: a difference up to this is put down to random starts
_WIDE = 0.05  # half an interval


@dataclass(frozen=True)
class Verdict:
    """What one check says: its name as a fact, pass, warn or fail, and why in one sentence."""

    name: str
    level: str
    sentence: str


def size_of(eps: str | None) -> float:
    """A radius as a number; 0 for none, NaN for a text that is no number."""
    try:
        return float(Fraction(eps)) if eps else 0.0
    except (ValueError, ZeroDivisionError):
        return nan


def verdicts(grid: Grid) -> list[Verdict]:
    """Every check that applies to the results there are."""
    if not grid.lines and not grid.clean:
        return []
    return [*(verdict for check in _CHECKS if (verdict := check(grid)) is not None), *_asked(grid)]


def _asked(grid: Grid) -> list[Verdict]:
    """Each question of the protocol that the models were asked before they were attacked, over all of them."""
    found: dict[tuple[str, str], list[tuple[Line, Asked]]] = defaultdict(list)
    for line, answers in grid.asked:
        for answer in answers:
            found[answer.code, answer.name].append((line, answer))
    said = []
    for (code, name), pairs in found.items():
        level = next(level for level in (FAIL, WARN, PASS) if any(answer.level == level for _, answer in pairs))
        at = [(line, answer) for line, answer in pairs if answer.level == level]
        line, answer = at[0]
        if level == PASS:
            sentence = f"Asked of {_times(len(pairs), 'setting')}. {answer.sentence if len(pairs) == 1 else ''}".strip()
        else:
            more = f" So do {len(at) - 1} more of {len(pairs)}." if len(at) > 1 else ""
            sentence = f"{line.setting}: {answer.sentence}{more} {answer.advice}".strip()
        said.append(Verdict(f"{name} ({code})", level, sentence))
    return said


def _never_rises(grid: Grid) -> Verdict | None:
    name = "Accuracy never rises with the radius"
    pairs = [pair for curve in _curves(grid) for pair in pairwise(curve)]
    if not pairs:
        return None
    rises = [_rise(small, large) for small, large in pairs]
    return _compared(
        name,
        rises,
        passed=f"in {_times(len(pairs), 'step')} from a radius to the next larger one",
        because="what is found in a small ball lies in every larger one, so the search at the larger radius is too weak",
    )


def _worst_is_worst(grid: Grid) -> Verdict | None:
    worst = {_threat(line): line for line in grid.worst}
    if not worst:
        return None
    wrong = [line for line in grid.lines if _escapes(worst[_threat(line)], line)]
    name = "The worst case is no better than any attack"
    if wrong:
        return Verdict(name, FAIL, f"{_name(wrong[0])} beats an example that the worst case counts as standing.")
    return Verdict(name, PASS, f"Example by example, over {_times(len(grid.lines), 'line')}.")


def _escapes(worst: Line, line: Line) -> bool:
    """Whether a line beats an example that the worst case counts as standing."""
    shared, here, there = np.intersect1d(worst.index, line.index, return_indices=True)
    return bool(len(shared) and (worst.stands[here] & ~line.stands[there]).any())


def _iterative_is_stronger(grid: Grid) -> Verdict | None:
    groups: dict[object, list[Line]] = defaultdict(list)
    for line in grid.lines:
        groups[_threat(line)].append(line)
    rises = []
    for lines in groups.values():
        for one in (line for line in lines if _plain(line) in SINGLE_STEP):
            for many in (line for line in lines if _plain(line) in ITERATIVE):
                rises.append(_rise(one, many))
    if not rises:
        return None
    return _compared(
        "Iterative attacks beat single-step ones",
        rises,
        passed=f"in {_times(len(rises), 'comparison')} of {' or '.join(sorted(ITERATIVE))} with fgsm at the same radius",
        because="more examples stand than under one step, which points to hidden gradients or a bad step size",
    )


def _adaptive_is_stronger(grid: Grid) -> Verdict | None:
    replayed = {(_threat(line), not_oblivious(line.attack)): line for line in grid.lines if _is_replayed(line)}
    rises = [
        _rise(bound, line)
        for line in grid.lines
        if not line.cell.surrogate and (bound := replayed.get((_threat(line), line.attack))) is not None
    ]
    if not rises:
        return None
    return _compared(
        "Attacks that know a defense beat those that do not",
        rises,
        passed=f"in {_times(len(rises), 'comparison')} with what was made on the model without its defense and replayed",
        because="what was made without knowing the defense is stronger, so the defense hides its gradients: BPDA or more draws",
    )


def _above_chance(grid: Grid) -> Verdict | None:
    if not grid.clean:
        return None
    name = "Without attack, models do better than chance"
    lowest = min(grid.clean, key=lambda line: line.clean_accuracy.low - _chance(line))
    at, chance = lowest.clean_accuracy, _chance(lowest)
    said = f"{lowest.setting} is right on {at.percent} %; chance is {100 * chance:.1f} %"
    if at.low > chance:
        return Verdict(name, PASS, f"The nearest to it: {said}.")
    return Verdict(name, FAIL if at.value <= chance else WARN, f"{said}: robustness of such a model means nothing.")


def _reaches_chance(grid: Grid) -> Verdict | None:
    last: dict[object, Line] = {}
    for line in grid.worst:
        key = _threat(line)[:-1]
        if key not in last or size_of(line.eps) > size_of(last[key].eps):
            last[key] = line
    if not last:
        return None
    name = "The largest radius brings accuracy down to chance"
    above = [line for line in last.values() if line.accuracy.low > _chance(line)]
    if not above:
        return Verdict(name, PASS, f"In all of {_times(len(last), 'setting')}: the attacks do reach through the model.")
    top = max(above, key=lambda line: line.accuracy.value)
    return Verdict(
        name,
        WARN,
        f"{len(above)} of {_times(len(last), 'setting')} stay above it ({top.setting}: {top.accuracy.percent} % at"
        f" {top.eps}); a larger radius would show that the attacks work at all.",
    )


def _attacks_work(grid: Grid) -> Verdict | None:
    largest = [curve[-1] for curve in _curves(grid) if curve[-1].clean.any()]
    if not largest:
        return None
    name = "Every attack beats something at its largest radius"
    idle = [line for line in largest if line.success == 0]
    if idle:
        said = f"{_name(idle[0])} beats nothing"
        more = f", and {len(idle) - 1} more" if len(idle) > 1 else ""
        return Verdict(name, WARN, f"{said}{more}: a radius too small, or gradients that lead nowhere.")
    return Verdict(name, PASS, f"In all of {_times(len(largest), 'curve')}.")


def _complete(grid: Grid) -> Verdict:
    name = "Every cell is complete"
    short = [line for line in (*grid.clean, *grid.lines) if not line.complete]
    seen = {line.cell.key for line in (*grid.clean, *grid.lines)}
    empty = [key for key in (grid.study.samples if grid.study else ()) if key not in seen]
    cells = len({line.cell.key for line in short}) + len(empty)
    if cells:
        return Verdict(
            name, WARN, f"{_times(cells, 'cell')} of {len(seen) + len(empty)} lack examples; run the sweep again."
        )
    return Verdict(name, PASS, f"{_times(len(seen), 'cell')}, with all examples that were asked for.")


def _one_code(grid: Grid) -> Verdict:
    name = "One version of the code made all numbers"
    kinds = {record.cell.code for record in grid.records}
    old = f" {_times(grid.hidden, 'older cell')} left out." if grid.hidden else ""
    if len(kinds) > 1:
        return Verdict(name, WARN, f"{len(kinds)} versions did; run the sweep again to compare like with like.{old}")
    return Verdict(name, PASS, f"Code {next(iter(kinds))[:12] or 'unnamed'}.{old}")


def _same_examples(grid: Grid) -> Verdict:
    name = "Models are compared on the same examples"
    seen: dict[str, set[bytes]] = defaultdict(set)
    for line in (*grid.clean, *grid.lines):
        seen[line.data].add(line.index.tobytes())
    many = [data for data, kinds in seen.items() if len(kinds) > 1]
    if many:
        return Verdict(
            name, WARN, f"On {many[0]} some lines hold other examples than others, so they differ by luck too."
        )
    return Verdict(name, PASS, "Every line of a data set holds the same ones.")


def _enough(grid: Grid) -> Verdict:
    name = "There are enough examples"
    wide = max((*grid.clean, *grid.lines), key=lambda line: line.accuracy.high - line.accuracy.low)
    half = (wide.accuracy.high - wide.accuracy.low) / 2
    said = f"the widest 95 % interval is {100 * half:.1f} points to either side, with n = {wide.n}"
    if half > _WIDE:
        return Verdict(name, WARN, f"{said[0].upper()}{said[1:]}: smaller differences show nothing.")
    return Verdict(name, PASS, f"{said[0].upper()}{said[1:]}.")


_CHECKS: tuple[Callable[[Grid], Verdict | None], ...] = (
    _never_rises,
    _worst_is_worst,
    _iterative_is_stronger,
    _adaptive_is_stronger,
    _attacks_work,
    _reaches_chance,
    _above_chance,
    _complete,
    _same_examples,
    _enough,
    _one_code,
)


def _compared(name: str, rises: Sequence[tuple[int, Line, int]], *, passed: str, because: str) -> Verdict:
    """``rises``: by how many of n examples a line lies above what bounds it."""
    worse = [(rise / n, rise, line, n) for rise, line, n in rises if n and rise > 0]
    if not worse:
        return Verdict(name, PASS, f"{passed[0].upper()}{passed[1:]}.")
    _, rise, line, n = max(worse, key=lambda found: found[0])
    level = FAIL if rise > max(1, _CHANCE * n) else WARN
    more = f" ({len(worse)} of {len(rises)} comparisons)" if len(worse) > 1 else ""
    reason = f": {because}" if level == FAIL else ", as few as random starts explain"
    return Verdict(name, level, f"{_name(line)} leaves {_times(rise, 'example')} of {n} more standing{more}{reason}.")


def _curves(grid: Grid) -> list[list[Line]]:
    """For each attack on each setting its lines from the smallest radius to the largest; what is replayed may rise."""
    found: dict[object, list[Line]] = defaultdict(list)
    copies: dict[object, int] = defaultdict(int)  # the same name with other settings is another curve
    for line in grid.lines:
        if line.cell.surrogate:
            continue
        kind = (*_threat(line)[:-1], line.cell.attack, line.attack, line.follows)
        found[kind, copies[kind, line.eps]].append(line)
        copies[kind, line.eps] += 1
    return [sorted(lines, key=lambda line: size_of(line.eps)) for lines in found.values()]


def _rise(bound: Line, line: Line) -> tuple[int, Line, int]:
    """By how many examples a line lies above another, of how many that both have."""
    here, there = bound.stands, line.stands
    if not np.array_equal(bound.index, line.index):
        _, left, right = np.intersect1d(bound.index, line.index, return_indices=True)
        here, there = here[left], there[right]
    return int(there.sum()) - int(here.sum()), line, len(there)


def _threat(line: Line) -> tuple[object, ...]:
    """Lines are compared where this is the same."""
    return (line.cell.setting, line.cell.threat, line.cell.precision, line.eps)


def _is_replayed(line: Line) -> bool:
    return not_oblivious(line.attack) != line.attack


def _plain(line: Line) -> str:
    """The attack without its settings; nothing for a stage that met survivors only."""
    return "" if line.follows else line.attack.partition(":")[0]


def _chance(line: Line) -> float:
    return 1 / (len(line.classes) or int(line.labels.max()) + 1)


def _name(line: Line) -> str:
    return f"{line.attack} at {line.eps} on {line.setting}"


def _times(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
