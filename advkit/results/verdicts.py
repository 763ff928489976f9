"""Checks of a sweep's results by themselves, and of what its models were asked, each with a verdict and one sentence.

No torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from advkit.results.asked import Asked
from advkit.results.cell import not_oblivious
from advkit.results.grid import Grid, Line
from advkit.results.strength import chance_of, strength_verdicts
from advkit.results.verdict import FAIL, PASS, WARN, Verdict, counted, sentence, size_of, worst_level

__all__ = ["FAIL", "PASS", "WARN", "Verdict", "size_of", "verdicts"]

_WIDE = 0.05  # half an interval


def verdicts(grid: Grid) -> list[Verdict]:
    """Every check that applies to the results there are, then every question that the models were asked."""
    if not grid.lines and not grid.clean:
        return []
    found = (verdict for check in _CHECKS if (verdict := check(grid)) is not None)
    return [*strength_verdicts(grid), *found, *_asked(grid)]


def _asked(grid: Grid) -> list[Verdict]:
    """Each question of the protocol that the models were asked before they were attacked, over all of them."""
    found: dict[tuple[str, str], list[tuple[Line, Asked]]] = defaultdict(list)
    for line, answers in grid.asked:
        for answer in answers:
            found[answer.code, answer.name].append((line, answer))
    said = []
    for (code, name), pairs in found.items():
        level = worst_level({answer.level for _, answer in pairs})
        at = [(line, answer) for line, answer in pairs if answer.level == level]
        line, answer = at[0]
        if level == PASS:
            why = f"Asked of {counted(len(pairs), 'setting')}. {answer.sentence if len(pairs) == 1 else ''}".strip()
        else:
            more = f" So do {len(at) - 1} more of {len(pairs)}." if len(at) > 1 else ""
            why = f"{line.setting}: {answer.sentence}{more} {answer.advice}".strip()
        said.append(Verdict(name, level, why, code, asked=True))
    return said


def _above_chance(grid: Grid) -> Verdict | None:
    if not grid.clean:
        return None
    name, code = "Without attack, models do better than chance", "P2"
    lowest = min(grid.clean, key=lambda line: line.clean_accuracy.low - chance_of(line))
    at, chance = lowest.clean_accuracy, chance_of(lowest)
    said = f"{lowest.setting} is right on {at.percent} %; chance is {100 * chance:.1f} %"
    if at.low > chance:
        return Verdict(name, PASS, f"The nearest to it: {said}.", code)
    level = FAIL if at.value <= chance else WARN
    return Verdict(name, level, f"{said}: robustness of such a model means nothing.", code)


def _attacked_themselves(grid: Grid) -> Verdict | None:
    """Pictures made elsewhere are no attack on the model: what stands under them alone is an upper bound."""
    known: dict[tuple[str, ...], bool] = {}
    names: dict[tuple[str, ...], str] = {}
    for line in grid.lines:
        setting = line.cell.setting
        known[setting] = known.get(setting, False) or not line.cell.surrogate
        names.setdefault(setting, line.setting)
    if not known:
        return None
    name, code = "Every setting meets attacks that know it", "P14"
    blind = [names[setting] for setting, is_known in known.items() if not is_known]
    if not blind:
        return Verdict(name, PASS, f"In {counted(len(known), 'setting')}.", code)
    more = f" and {len(blind) - 1} more" if len(blind) > 1 else ""
    return Verdict(
        name,
        WARN,
        f"{blind[0]}{more} met only what was made on another model, or without the defense, and replayed: the accuracy is an"
        " upper bound.",
        code,
    )


def _same_attacks(grid: Grid) -> Verdict | None:
    """A worst case over fewer attacks is no rival of one over more."""
    over: dict[object, dict[tuple[str, ...], frozenset[str]]] = defaultdict(dict)
    names: dict[tuple[str, ...], str] = {}
    for line in grid.worst:
        names[line.cell.setting] = line.setting
        met = frozenset(not_oblivious(attack).partition(" via ")[0] for attack in line.over)
        over[line.cell.data_hash, line.cell.threat, line.cell.precision, line.eps][line.cell.setting] = met
    settings = {setting for group in over.values() for setting in group}
    if len(settings) < 2:
        return None
    name = "Models are compared under the same attacks"
    for group in over.values():
        every = frozenset().union(*group.values())
        for setting, met in group.items():
            if met != every:
                missing = ", ".join(sorted(every - met))
                return Verdict(
                    name,
                    WARN,
                    f"{names[setting]} has not met {missing} at every radius where others have; its worst case is over fewer"
                    " attacks.",
                )
    return Verdict(name, PASS, f"The worst cases of {counted(len(settings), 'setting')} are over the same ones.")


def _complete(grid: Grid) -> Verdict:
    name = "Every cell is complete"
    short = [line for line in (*grid.clean, *grid.lines) if not line.complete]
    seen = {line.cell.key for line in (*grid.clean, *grid.lines)}
    empty = [key for key in (grid.study.samples if grid.study else ()) if key not in seen]
    cells = len({line.cell.key for line in short}) + len(empty)
    if cells:
        done = _done(grid)
        share = f" {100 * done:.0f} % of the sweep's examples are done." if done is not None else ""
        return Verdict(
            name,
            WARN,
            f"{counted(cells, 'cell')} of {len(seen) + len(empty)} lack examples; run the sweep again.{share}",
        )
    return Verdict(name, PASS, f"{counted(len(seen), 'cell')}, with all examples that were asked for.")


def _done(grid: Grid) -> float | None:
    """Of all examples of all cells that the last sweep asked for, the share that is there."""
    wanted = grid.study.samples if grid.study else {}
    there = {line.cell.key: min(line.n, line.wanted) for line in (*grid.clean, *grid.lines) if line.cell.key in wanted}
    every = sum(wanted.values())
    return sum(there.values()) / every if every else None


def _same_examples(grid: Grid) -> Verdict:
    name = "Models are compared on the same examples"
    pictures: dict[str, set[str]] = defaultdict(set)
    places: dict[str, set[bytes]] = defaultdict(set)
    for line in (*grid.clean, *grid.lines):
        pictures[line.data].add(line.cell.data_hash)
        places[line.cell.data_hash].add(line.index.tobytes())
    other = [data for data, kinds in pictures.items() if len(kinds) > 1]
    if other:
        return Verdict(
            name, WARN, f"{other[0]} is the name of {len(pictures[other[0]])} sets of pictures (their hashes differ)."
        )
    if any(len(kinds) > 1 for kinds in places.values()):
        many = next(line.data for line in (*grid.clean, *grid.lines) if len(places[line.cell.data_hash]) > 1)
        return Verdict(name, WARN, f"On {many} some lines hold other examples than others, so they differ by luck too.")
    return Verdict(name, PASS, "Every line of a data set holds the same ones.")


def _enough(grid: Grid) -> Verdict:
    name, code = "There are enough examples", "P18"
    wide = max((*grid.clean, *grid.lines), key=lambda line: line.accuracy.high - line.accuracy.low)
    half = (wide.accuracy.high - wide.accuracy.low) / 2
    said = f"the widest 95 % interval is {100 * half:.1f} points to either side, with n = {wide.n}"
    if half > _WIDE:
        return Verdict(name, WARN, sentence(f"{said}: smaller differences show nothing"), code)
    return Verdict(name, PASS, sentence(said), code)


def _one_code(grid: Grid) -> Verdict:
    """A cell's code is advkit's and its network's: one version gives each network one, and two networks two."""
    name = "One version of the code made all numbers"
    codes: dict[str, set[str]] = defaultdict(set)
    for record in grid.records:
        codes[record.cell.model_hash].add(record.cell.code)
    every = sorted(set().union(*codes.values()))
    most = max(map(len, codes.values()))
    old = f" {counted(grid.hidden, 'older cell')} left out." if grid.hidden else ""
    if most > 1:
        return Verdict(name, WARN, f"{most} versions did; run the sweep again to compare like with like.{old}")
    states = {
        (str(record.about.get("git") or "").partition(",")[0], str(record.about.get("advkit") or ""))
        for record in grid.records
    }
    if len(every) > 1 and len(states) > 1:
        told = " and ".join(sorted(commit or version or "an unknown one" for commit, version in states))
        return Verdict(name, WARN, f"The cells of different models came from {told}; run the sweep again.{old}")
    said = (
        f"Code {every[0][:12] or 'unnamed'}" if len(every) == 1 else f"One for each of {counted(len(codes), 'network')}"
    )
    return Verdict(name, PASS, f"{said}.{old}")


def _code_is_kept(grid: Grid) -> Verdict | None:
    """A checkout with changes cannot be had again."""
    states = [str(record.about.get("git") or "") for record in grid.records]
    if not any(states):
        return None
    name = "The code can be had again"
    changed = sum(state.endswith("changed") for state in states)
    if changed:
        return Verdict(
            name,
            WARN,
            f"{counted(changed, 'cell')} of {len(states)} came from a checkout with changes that no commit holds.",
        )
    commits = sorted({state for state in states if state})
    return Verdict(name, PASS, f"Commit {commits[0]}{f' and {len(commits) - 1} more' if len(commits) > 1 else ''}.")


_CHECKS: tuple[Callable[[Grid], Verdict | None], ...] = (
    _above_chance,
    _attacked_themselves,
    _same_attacks,
    _complete,
    _same_examples,
    _enough,
    _one_code,
    _code_is_kept,
)
