"""What was found, in a few words and one small table for each data set and threat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from advkit.results.baseline import difference
from advkit.results.cell import Bools, not_oblivious
from advkit.results.grid import NONE, Line
from advkit.results.report.view import Row, clean_of, comparable, threat_of, threats
from advkit.results.strength import CONTROLS
from advkit.results.verdict import FAIL, Verdict, size_of

__all__ = ["Headline", "Matrix", "attacks_of", "findings", "headlines", "matrices"]

_MOST_MATRICES, _MOST_SETTINGS, _MOST_RADII = 6, 30, 12
_MOST_NAMED = 4  # settings in one sentence
_SETTLED = 0.05  # McNemar's p


@dataclass(frozen=True)
class Cellule:
    """One number of a matrix; ``narrow`` is a worst case over fewer attacks than others have met."""

    row: Row | None
    best: bool
    narrow: bool = False

    @property
    def tint(self) -> int:
        """From 0 to 10, for the colour behind the number."""
        return round(10 * self.row.accuracy) if self.row else 0


@dataclass(frozen=True)
class Matrix:
    """Settings by radii: accuracy in the worst case, the most robust setting first."""

    title: str
    radii: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cellule, ...]], ...]
    settings: int  # of which the lines show the first
    all_radii: int
    attacks: tuple[str, ...]

    @property
    def narrow(self) -> bool:
        """Whether some worst cases are over fewer attacks than others."""
        return any(cell.narrow for _, cells in self.lines for cell in cells)


@dataclass(frozen=True)
class Headline:
    """Where a threat is decided: the most and the least robust setting there, and how sure the first place is."""

    threat: str
    eps: str
    most: Row
    least: Row
    level: tuple[str, ...]  # all that have as much as the most robust one
    lead: str = ""  # over the second
    rival: str = ""  # the second, where its distance may be luck
    left_out: int = 0  # settings whose worst case there cannot be compared yet
    lowest: tuple[str, ...] = ()  # all that have as little as the least robust one

    @property
    def last(self) -> str:
        """The least robust in words."""
        return _some(self.lowest)

    @property
    def alone(self) -> bool:
        """Whether there is nothing to compare."""
        return self.most is self.least


def attacks_of(found: Iterable[Row]) -> tuple[str, ...]:
    """The attacks by their own names: stages, what is replayed and what other models were shown count as one."""
    return tuple(dict.fromkeys(_plain(row.line) for row in found if row.kind == "attack"))


def _plain(line: Line) -> str:
    cell = line.cell
    return not_oblivious(cell.attack).removesuffix(f" via {cell.surrogate}" if cell.surrogate else "")


def matrices(found: Sequence[Row], columns: Sequence[str]) -> list[Matrix]:
    """For each data set and threat, the worst case of each setting at each radius."""
    clean = clean_of(found)
    return [
        _matrix(key, group, clean, [row for row in found if threat_of(row) == key], columns)
        for key, group in list(threats(found).items())[:_MOST_MATRICES]
    ]


def _matrix(
    key: tuple[str, ...], group: Sequence[Row], clean: dict[int, Row], of_threat: Sequence[Row], columns: Sequence[str]
) -> Matrix:
    radii = sorted({(row.radius, row.texts["eps"]) for row in group})
    if len(radii) > _MOST_RADII:
        shown = [radii[round(i * (len(radii) - 1) / (_MOST_RADII - 1))] for i in range(_MOST_RADII)]
    else:
        shown = radii
    by_place = {(row.setting, row.texts["eps"]): row for row in group}
    order = _ranked(group, _deciding(group))
    table = [[clean.get(setting), *(by_place.get((setting, eps)) for _, eps in shown)] for setting in order]
    marked = list(zip(*(_marked([line[place] for line in table]) for place in range(len(shown) + 1)), strict=True))
    names = {row.setting: row.who for row in group}
    words = [
        *key[:2],
        *([key[2]] if key[2] != "untargeted" else []),
        *([f"seed {key[3]}"] if "seed" in columns else []),
        *([key[4]] if "precision" in columns else []),
    ]
    return Matrix(
        title=", ".join(words),
        radii=tuple(eps for _, eps in shown),
        lines=tuple(
            (names[setting], cells) for setting, cells in list(zip(order, marked, strict=True))[:_MOST_SETTINGS]
        ),
        settings=len(order),
        all_radii=len(radii),
        attacks=attacks_of(of_threat),
    )


def _ranked(group: Sequence[Row], eps: str) -> list[int]:
    """Settings by their accuracy at a radius, and where that is the same by the mean over all radii."""
    every: dict[int, list[float]] = defaultdict(list)
    at: dict[int, float] = {}
    for row in group:
        every[row.setting].append(row.accuracy)
        if row.texts["eps"] == eps:
            at[row.setting] = row.accuracy
    return sorted(every, key=lambda each: (at.get(each, -1.0), sum(every[each]) / len(every[each])), reverse=True)


def _marked(column: Sequence[Row | None]) -> list[Cellule]:
    """One column: the best of what can be compared is marked, where there is something to compare."""
    there = [row for row in column if row]
    fair = {id(line) for line in comparable([row.line for row in there])}
    values = [row.accuracy for row in there if id(row.line) in fair]
    top = max(values) if values and min(values) < max(values) else None
    most = max((len(row.line.over) for row in there), default=0)
    return [
        Cellule(
            row,
            best=row is not None and id(row.line) in fair and row.accuracy == top,
            narrow=row is not None and len(row.line.over) < most,
        )
        for row in column
    ]


def _deciding(group: Sequence[Row]) -> str:
    """The largest radius that all settings have and at which they differ; else the largest that all have."""
    settings = {row.setting for row in group}
    at: dict[str, list[Row]] = defaultdict(list)
    for row in group:
        at[row.texts["eps"]].append(row)
    shared = [eps for eps, line in at.items() if len(line) == len(settings)] or list(at)
    telling = [eps for eps in shared if len({row.accuracy for row in at[eps]}) > 1]
    return max(telling or shared, key=size_of)


def headlines(found: Sequence[Row]) -> list[Headline]:
    """For each data set and threat: where it is decided, the most and the least robust setting."""
    said = []
    for key, group in list(threats(found).items())[:_MOST_MATRICES]:
        eps = _deciding(group)
        there = [row for row in group if row.texts["eps"] == eps]
        fair = {id(line) for line in comparable([row.line for row in there])}
        ranked = [row for row in there if id(row.line) in fair] or there
        place = {setting: rank for rank, setting in enumerate(_ranked(group, eps))}
        ranked.sort(key=lambda row: place[row.setting])
        level = tuple(row.who for row in ranked if row.accuracy == ranked[0].accuracy)
        lead, rival = _lead(ranked[0], ranked[1]) if len(ranked) > 1 else ("", "")
        lowest = tuple(row.who for row in ranked if row.accuracy == ranked[-1].accuracy)
        said.append(
            Headline(
                threat=f"{key[0]}, {key[1]}",
                eps=eps,
                most=ranked[0],
                least=ranked[-1],
                level=level,
                lead=lead,
                rival=rival,
                left_out=len(there) - len(ranked),
                lowest=lowest,
            )
        )
    return said


def _lead(first: Row, second: Row) -> tuple[str, str]:
    """How far ahead of the second the first is, and the second where that may be luck."""
    found = difference(first.line, second.line)
    if found is None:
        return f"not comparable with {second.who}, which met other examples", second.who
    if not found.gained and not found.lost:
        return f"{second.who} stands and falls on the same examples", second.who
    if not found.value:
        return f"level with {second.who}", second.who
    p = f"p = {found.p:.2g}" if found.p >= 1e-4 else "p < 0.0001"
    settled, rival = ("", "") if found.p < _SETTLED else (": not settled", second.who)
    ahead, interval = found.percent.lstrip("+").split(" ", 1)
    return f"{ahead} {interval} points ahead of {second.who}, McNemar {p}{settled}", rival


def findings(found: Sequence[Row], checks: Sequence[Verdict]) -> list[str]:
    """What was found, in sentences: of each threat ranking, radii, attacks, defenses; then what speaks against it."""
    said = []
    groups = list(threats(found).items())[:_MOST_MATRICES]
    clean = clean_of(found)
    for (key, group), headline in zip(groups, headlines(found), strict=True):
        of_threat = [row for row in found if row.kind == "attack" and threat_of(row) == key]
        where = f"On {key[0]} in {key[1]}: " if len(groups) > 1 else ""
        sentences = (
            _ranking(headline, clean),
            _halves(group, clean),
            _strongest(group, of_threat),
            *_defenses(group, of_threat, headline.eps),
            _shown_only(of_threat),
            _against_controls(of_threat),
        )
        said += [f"{where}{sentence}" for sentence in sentences if sentence]
    failed = [verdict.name for verdict in checks if verdict.level == FAIL]
    if failed:
        count = "One check fails" if len(failed) == 1 else f"{len(failed)} checks fail"
        said.append(f"{count}: {'; '.join(failed)}. Read why before quoting a number.")
    return said


def _ranking(headline: Headline, clean: dict[int, Row]) -> str:
    most, least, at = headline.most, headline.least, headline.eps
    bare = clean.get(most.setting)
    before = f", and on {_percent(bare.accuracy)} without attack" if bare else ""
    if headline.alone:
        return f"{most.who} is right on {most.line.accuracy.percent} % at {at} in the worst case{before}."
    if most.accuracy == least.accuracy:
        return f"No setting stands out at {at}: all are right on {_percent(most.accuracy)} in the worst case."
    worst = f"right on {most.line.accuracy.percent} % in the worst case"
    last = f"{headline.last} {'is' if len(headline.lowest) == 1 else 'are'} the least, with {_percent(least.accuracy)}."
    if len(headline.level) > 1:
        return f"{_some(headline.level)} are level as the most robust at {at}: {worst}; {last}"
    sentence = f"{most.who} is the most robust at {at}: {worst}{before}; {last}"
    if headline.rival:
        sentence += f" Its lead over {headline.rival} may be luck."
    top = max(clean.values(), key=lambda row: row.accuracy, default=most)
    if (
        top.setting != most.setting
        and bare
        and top.accuracy > bare.accuracy
        and top.texts["data"] == most.texts["data"]
    ):
        sentence += f" Without attack {top.who} leads, with {_percent(top.accuracy)}."
    return sentence


def _halves(group: Sequence[Row], clean: dict[int, Row]) -> str:
    """By which radius more than half of what was right is gone."""
    gone: dict[str, list[str]] = defaultdict(list)
    keep = []
    for setting in dict.fromkeys(row.setting for row in group):
        own = sorted((row for row in group if row.setting == setting), key=lambda row: row.radius)
        before = clean.get(setting)
        if before is None or not before.standing:
            continue
        first = next((row for row in own if row.accuracy < before.accuracy / 2), None)
        if first is None:
            keep.append((own[0].who, own[-1].texts["eps"]))
        else:
            gone[first.texts["eps"]].append(own[0].who)
    parts = [f"by {eps} for {_some(gone[eps])}" for eps in sorted(gone, key=size_of)]
    said = [f"More than half of the right answers are gone {', '.join(parts)}"] if parts else []
    if keep:
        most = max((eps for _, eps in keep), key=size_of)
        who = _some([name for name, _ in keep])
        said.append(f"{who} {'keeps' if len(keep) == 1 else 'keep'} at least half at {most}, the largest radius")
    return f"{'; '.join(said)}." if said else ""


def _strongest(group: Sequence[Row], of_threat: Sequence[Row]) -> str:
    """How near each attack alone comes to the worst case."""
    worst = {(row.setting, row.texts["eps"]): row for row in group}
    gaps: dict[str, list[tuple[float, Row]]] = defaultdict(list)
    last: dict[tuple[str, str], Row] = {(row.line.cell.key, row.texts["eps"]): row for row in of_threat}
    for row in last.values():  # of an attack's stages the last
        cell = row.line.cell
        at = worst.get((row.setting, row.texts["eps"]))
        if at and not cell.surrogate and cell.attack not in CONTROLS:
            name = row.texts["attack"].partition(":")[0] if len(cell.stages) > 1 else row.texts["attack"]
            gaps[name].append((row.accuracy - at.accuracy, row))
    everywhere = max(map(len, gaps.values()), default=0)
    gaps = {name: found for name, found in gaps.items() if len(found) == everywhere}
    if len(gaps) < 2:
        return ""
    top = {name: max(found, key=lambda each: each[0]) for name, found in gaps.items()}
    mean = {name: sum(gap for gap, _ in found) / len(found) for name, found in gaps.items()}
    best = min(mean, key=lambda name: (mean[name], top[name][0]))
    weak = max(mean, key=lambda name: (top[name][0], mean[name]))
    alike = [name for name in gaps if top[name][0] <= 0]
    if len(alike) > 1:
        sentence = f"{_some(alike)} each reach the worst case alone, at every radius"
    elif top[best][0] <= 0:
        sentence = f"{best} decides: alone it comes to the worst case at every radius"
    else:
        sentence = f"{best} comes nearest to the worst case alone, within {100 * top[best][0]:.1f} points"
    if weak != best and top[weak][0] > 0:
        gap, row = top[weak]
        sentence += (
            f"; {weak} alone would overstate accuracy by up to {100 * gap:.1f} points ({row.who} at {row.texts['eps']})"
        )
    return f"{sentence}."


def _defenses(group: Sequence[Row], of_threat: Sequence[Row], eps: str) -> list[str]:
    """What stands behind each defense under attacks that know it, and under those that do not."""
    said = []
    bare = {row.texts["model"]: row for row in group if row.texts["defense"] == NONE and row.texts["eps"] == eps}
    for row in group:
        model, defense = row.texts["model"], row.texts["defense"]
        if defense == NONE or row.texts["eps"] != eps:
            continue
        own = [r.line for r in of_threat if r.setting == row.setting and r.texts["eps"] == eps]
        without = [line for line in own if line.attack != not_oblivious(line.attack)]
        knowing = [line for line in own if not line.cell.surrogate]
        parts = [
            f"{_percent(_standing(lines))} {words}"
            for lines, words in (
                (without, "under attacks that do not know it"),
                (knowing, "under those that do" if without else "under attacks that know it"),
            )
            if lines
        ]
        if parts:
            bared = f"; without it {_percent(bare[model].accuracy)}" if model in bare else ""
            said.append(f"Behind {defense} {model} keeps {' and '.join(parts)} at {eps}{bared}.")
    return said[:_MOST_NAMED]


def _standing(lines: Sequence[Line]) -> float:
    """The share that stands under all of these."""
    indices = lines[0].index
    for line in lines[1:]:
        indices = np.intersect1d(indices, line.index)
    kept: list[Bools] = [line.stands[np.searchsorted(line.index, indices)] for line in lines]
    return float(np.logical_and.reduce(kept).mean()) if len(indices) else 0.0


def _shown_only(of_threat: Sequence[Row]) -> str:
    """Who has not been attacked itself."""
    known = {row.setting for row in of_threat if not row.line.cell.surrogate}
    blind = list(dict.fromkeys(row.who for row in of_threat if row.setting not in known))
    if not blind:
        return ""
    makers = sorted({row.line.cell.surrogate for row in of_threat if row.setting not in known})
    return f"{_some(blind)} met only what was made on {_some(makers)}: an upper bound of robustness."


def _against_controls(of_threat: Sequence[Row]) -> str:
    """What the same thing beats without a search, where that comes nearest to the search."""
    gaps = [
        (row.success - value, name, value, row)
        for row in of_threat
        if row.success is not None and not row.line.follows
        for name, value in row.controls
    ]
    if not gaps:
        return ""
    _, name, value, row = min(gaps, key=lambda found: found[0])
    return (
        f"Without a search, the control of {row.texts['attack']} that comes nearest to it ({name}) beats"
        f" {_percent(value)} of what was right, the search {_percent(row.success or 0.0)} ({row.who} at {row.texts['eps']})."
    )


def _some(names: Sequence[str]) -> str:
    """Names in a sentence, the first few."""
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
