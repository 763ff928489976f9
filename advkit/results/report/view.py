"""The lines of a store as the page shows them: plain values, with every name that they have in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite

from advkit.results.grid import NONE, WORST, Grid, Line
from advkit.results.pivot import numbered, settings_of
from advkit.results.verdicts import size_of

__all__ = [
    "Row",
    "attack_texts",
    "clean_of",
    "comparable",
    "names_of",
    "row_columns",
    "rows",
    "threat_of",
    "threats",
]

_WHERE_THEY_DIFFER = ("weights", "data", "norm", "goal", "seed", "precision")
_TITLES = {
    "model": "Model",
    "weights": "Weights",
    "defense": "Defense",
    "data": "Data",
    "norm": "Norm",
    "goal": "Goal",
    "seed": "Seed",
    "precision": "Precision",
    "attack": "Attack",
    "eps": "Radius",
    "accuracy": "Accuracy, %",
    "success": "Success, %",
    "controls": "Controls, %",
    "distance": "Distance",
    "passes": "Passes",
    "seconds": "Time",
    "n": "Examples",
}


@dataclass(frozen=True)
class Row:
    """A line of the big table; texts are shown as they are, numbers are formatted by the page."""

    kind: str  # clean, attack or worst
    setting: int  # lines of one setting and threat make curves
    who: str  # the setting in words, which no other has
    texts: dict[str, str]
    standing: int
    n: int
    wanted: int
    low: float
    high: float
    radius: float
    success: float | None
    controls: tuple[tuple[str, float], ...]  # success of each
    distance: float | None
    passes: int
    seconds: float | None
    best: bool = False
    line: Line = field(repr=False, compare=False, kw_only=True)

    @property
    def accuracy(self) -> float:
        """Right under the attack, of all."""
        return self.standing / self.n


def rows(grid: Grid) -> list[Row]:
    """All lines, setting by setting: without attack, under each attack, in the worst case."""
    groups: dict[tuple[str, ...], list[tuple[str, Line]]] = defaultdict(list)
    for kind, lines in (("clean", grid.clean), ("attack", grid.lines), ("worst", grid.worst)):
        for line in lines:
            groups[line.cell.setting].append((kind, line))
    best, attacks = _best(grid), attack_texts(grid)
    names = _setting_names([group[0][1] for group in groups.values()])
    return [
        _row(
            kind, line, number, names[number], attacks.get((line.cell.key, line.attack), line.attack), id(line) in best
        )
        for number, group in enumerate(groups.values())
        for kind, line in group
    ]


def attack_texts(grid: Grid) -> dict[tuple[str, str], str]:
    """For each cell and stage what it is called: a stage by its attack too, one of several settings by its number."""
    numbers = numbered(grid.lines)
    found = {}
    for line in grid.lines:
        cell = line.cell
        number = numbers[cell.attack, settings_of(line)]
        if len(cell.stages) > 1:
            whole = f"{cell.attack} {number}".strip()
            text = f"{whole}: {'+ ' if line.follows else ''}{line.attack}"
        else:
            text = f"{line.attack} {number}".strip()
        found[cell.key, line.attack] = text
    return found


def _row(kind: str, line: Line, setting: int, who: str, attack: str, best: bool) -> Row:
    distance = line.median_distance
    cell = line.cell
    return Row(
        kind=kind,
        setting=setting,
        who=who,
        texts={
            "model": line.model,
            "weights": line.weights,
            "defense": line.defense,
            "data": line.data,
            "norm": cell.norm or "-",
            "goal": cell.goal,
            "seed": str(cell.seed),
            "precision": cell.precision,
            "attack": line.attack if kind == "worst" else attack,
            "eps": line.eps or "",
        },
        standing=int(line.stands.sum()),
        n=line.n,
        wanted=line.wanted,
        low=round(line.accuracy.low, 6),  # as the script gets it, so that both show the same
        high=round(line.accuracy.high, 6),
        radius=size_of(line.eps),
        success=round(line.success, 6) if kind == "attack" else None,
        controls=tuple((name, round(found.value, 6)) for name, found in line.controls),
        distance=distance if distance is not None and isfinite(distance) else None,
        passes=line.forwards + line.backwards,
        seconds=None if kind == "clean" and not line.seconds else round(line.seconds, 3),  # which nobody took
        best=best,
        line=line,
    )


def _setting_names(firsts: Sequence[Line]) -> list[str]:
    """What each setting is called, from a line of each: by its weights and by a number only where it must be."""
    weights: dict[str, set[str]] = defaultdict(set)
    data = {line.data for line in firsts}
    for line in firsts:
        weights[line.model].add(line.weights)
    found = []
    for line in firsts:
        name = line.model + (f" ({line.weights})" if len(weights[line.model]) > 1 else "")
        name += "" if line.defense == NONE else f" + {line.defense}"
        found.append(name + (f" on {line.data}" if len(data) > 1 else ""))
    taken: Counter[str] = Counter()
    for place, name in enumerate(found):
        taken[name] += 1
        found[place] = name if taken[name] == 1 else f"{name} ({taken[name]})"
    return found


def _best(grid: Grid) -> set[int]:
    """The lines with the highest accuracy under the same attack, where there is something to compare."""
    groups: dict[object, list[Line]] = defaultdict(list)
    for line in (*grid.clean, *grid.lines, *grid.worst):
        cell = line.cell
        settings = settings_of(line) if cell.stages and not line.over else ""
        groups[cell.data_hash, cell.threat, cell.precision, line.attack, line.follows, settings, line.eps].append(line)
    found: set[int] = set()
    for group in groups.values():
        lines = comparable(group)
        top = max((line.accuracy.value for line in lines), default=0.0)
        winners = [line for line in lines if line.accuracy.value == top]
        if len(winners) < len(lines):
            found.update(map(id, winners))
    return found


def comparable(lines: Sequence[Line]) -> list[Line]:
    """Those that have all their examples and, as worst cases, have met as many attacks as any of the others."""
    most = max((len(line.over) for line in lines), default=0)
    return [line for line in lines if line.complete and len(line.over) == most]


def row_columns(found: Sequence[Row]) -> list[tuple[str, str]]:
    """The columns of the big table, name and title: what is the same everywhere is left out."""
    differ = [name for name in _WHERE_THEY_DIFFER if len({row.texts[name] for row in found if row.kind != "clean"}) > 1]
    models = {row.texts["model"] for row in found}
    if len({(row.texts["model"], row.texts["weights"]) for row in found}) == len(models) and "weights" in differ:
        differ.remove("weights")  # models that differ in name tell their weights apart
    names = [
        "model",
        *differ,
        *(["defense"] if any(row.texts["defense"] != NONE for row in found) else []),
        "attack",
        "eps",
        "accuracy",
        "success",
        *(["controls"] if any(row.controls for row in found) else []),
        "distance",
        "passes",
        "seconds",
        "n",
    ]
    return [(name, _TITLES[name]) for name in names]


def threat_of(row: Row) -> tuple[str, ...]:
    """Rows are compared where this is the same."""
    return tuple(row.texts[name] for name in ("data", "norm", "goal", "seed", "precision"))


def threats(found: Iterable[Row]) -> dict[tuple[str, ...], list[Row]]:
    """The worst cases of each data set and threat."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in found:
        if row.kind == "worst":
            groups[threat_of(row)].append(row)
    return groups


def clean_of(found: Iterable[Row]) -> dict[int, Row]:
    """The row without attack of each setting."""
    return {row.setting: row for row in found if row.kind == "clean"}


def names_of(found: Sequence[Row], name: str) -> list[str]:
    """Every value that a column has, none and the worst case last, radii by size."""
    values = {row.texts[name] for row in found} - {""}
    if name == "eps":
        return sorted(values, key=size_of)
    return sorted(
        values,
        key=lambda value: ((NONE, WORST).index(value) + 1 if name == "attack" and value in (NONE, WORST) else 0, value),
    )
