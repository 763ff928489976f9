"""What the report shows, as plain values: rows, rankings, facts. The template and the script only lay them out."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from advkit.results.grid import NONE, WORST, Grid, Line
from advkit.results.verdicts import size_of

__all__ = [
    "Fact",
    "Matrix",
    "Row",
    "commands",
    "environment",
    "headline",
    "hyperparameters",
    "matrices",
    "row_columns",
    "rows",
]

_ALWAYS = ("model", "defense", "attack", "eps")
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
    "distance": "Distance",
    "passes": "Passes",
    "seconds": "Time",
    "n": "Examples",
}
_MOST_MATRICES, _MOST_SETTINGS, _MOST_RADII = 6, 30, 12
_NOT_ENVIRONMENT = frozenset({"classes", "made_up", "weights", "data"})
_ORDER = ("advkit", "code", "git", "python", "torch", "machine", "device", "precision", "seed")


@dataclass(frozen=True)
class Row:
    """A line of the big table; texts are shown as they are, numbers are formatted by the page."""

    kind: str  # clean, attack or worst
    setting: int  # lines of one setting and threat make curves
    texts: dict[str, str]
    standing: int
    n: int
    wanted: int
    low: float
    high: float
    radius: float
    success: float | None
    distance: float | None
    passes: int
    seconds: float
    best: bool = False

    @property
    def accuracy(self) -> float:
        """Right under the attack, of all."""
        return self.standing / self.n


@dataclass(frozen=True)
class Cellule:
    """One number of a matrix."""

    row: Row | None
    best: bool

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
    attacks: int


@dataclass(frozen=True)
class Fact:
    """Something about the run, with each value it had and the cells that had it."""

    name: str
    values: tuple[tuple[str, int], ...]


def texts_of(line: Line) -> dict[str, str]:
    """Every name that a line has."""
    cell = line.cell
    return {
        "model": line.model,
        "weights": line.weights,
        "defense": line.defense,
        "data": line.data,
        "norm": cell.norm or "-",
        "goal": cell.goal,
        "seed": str(cell.seed),
        "precision": cell.precision,
        "attack": f"+ {line.attack}" if line.follows else line.attack,
        "eps": line.eps or "",
    }


def rows(grid: Grid) -> list[Row]:
    """All lines, setting by setting: without attack, under each attack, in the worst case."""
    groups: dict[tuple[str, ...], list[tuple[str, Line]]] = defaultdict(list)
    for kind, lines in (("clean", grid.clean), ("attack", grid.lines), ("worst", grid.worst)):
        for line in lines:
            groups[line.cell.setting].append((kind, line))
    best = _best(grid)
    return [
        _row(kind, line, number, id(line) in best)
        for number, group in enumerate(groups.values())
        for kind, line in group
    ]


def _row(kind: str, line: Line, setting: int, best: bool) -> Row:
    distance = line.median_distance
    return Row(
        kind=kind,
        setting=setting,
        texts=texts_of(line),
        standing=int(line.stands.sum()),
        n=line.n,
        wanted=line.wanted,
        low=round(line.accuracy.low, 6),  # as the script gets it, so that both show the same
        high=round(line.accuracy.high, 6),
        radius=size_of(line.eps),
        success=round(line.success, 6) if kind == "attack" else None,
        distance=distance if distance is not None and isfinite(distance) else None,
        passes=line.forwards + line.backwards,
        seconds=round(line.seconds, 3),
        best=best,
    )


def _best(grid: Grid) -> set[int]:
    """The lines with the highest accuracy under the same attack, where there is something to compare."""
    groups: dict[object, list[Line]] = defaultdict(list)
    for line in (*grid.clean, *grid.lines, *grid.worst):
        cell = line.cell
        groups[cell.data_hash, cell.threat, cell.precision, line.attack, line.follows, line.eps].append(line)
    found: set[int] = set()
    for lines in groups.values():
        top = max(line.accuracy.value for line in lines)
        winners = [line for line in lines if line.accuracy.value == top]
        if len(winners) < len(lines):
            found.update(map(id, winners))
    return found


def row_columns(found: Sequence[Row]) -> list[tuple[str, str]]:
    """The columns of the big table, name and title: what is the same everywhere is left out."""
    differ = [name for name in _WHERE_THEY_DIFFER if len({row.texts[name] for row in found if row.kind != "clean"}) > 1]
    models = {row.texts["model"] for row in found}
    if len({(row.texts["model"], row.texts["weights"]) for row in found}) == len(models) and "weights" in differ:
        differ.remove("weights")  # models that differ in name tell their weights apart
    names = ["model", *differ, *_ALWAYS[1:], "accuracy", "success", "distance", "passes", "seconds", "n"]
    return [(name, _TITLES[name]) for name in names]


def setting_name(texts: dict[str, str], among: Iterable[str] = ()) -> str:
    """A model and what stands in front of it, in words."""
    weights = f" ({texts['weights']})" if "weights" in among else ""
    return texts["model"] + weights + ("" if texts["defense"] == "none" else f" + {texts['defense']}")


def matrices(found: Sequence[Row], columns: Sequence[str]) -> list[Matrix]:
    """For each data set and threat, the worst case of each setting at each radius."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in found:
        if row.kind == "worst":
            groups[tuple(row.texts[name] for name in ("data", "norm", "goal", "seed", "precision"))].append(row)
    clean = {(row.setting, row.texts["data"]): row for row in found if row.kind == "clean"}
    return [_matrix(key, group, clean, found, columns) for key, group in list(groups.items())[:_MOST_MATRICES]]


def _matrix(
    key: tuple[str, ...],
    group: Sequence[Row],
    clean: dict[tuple[int, str], Row],
    found: Sequence[Row],
    columns: Sequence[str],
) -> Matrix:
    radii = sorted({(row.radius, row.texts["eps"]) for row in group})
    shown = (
        radii
        if len(radii) <= _MOST_RADII
        else [radii[round(i * (len(radii) - 1) / (_MOST_RADII - 1))] for i in range(_MOST_RADII)]
    )
    by_place = {(row.setting, row.texts["eps"]): row for row in group}
    settings = dict.fromkeys(row.setting for row in group)
    judged = deciding(group)

    def rank(setting: int) -> tuple[float, float]:
        at = by_place.get((setting, judged))
        every = [row.accuracy for row in group if row.setting == setting]
        return (at.accuracy if at else -1.0, sum(every) / len(every))

    order = sorted(settings, key=rank, reverse=True)
    table = {
        setting: [clean.get((setting, key[0])), *(by_place.get((setting, eps)) for _, eps in shown)]
        for setting in order
    }
    tops = [max((row.accuracy for row in column if row), default=0.0) for column in zip(*table.values(), strict=True)]
    several = len(order) > 1
    names = {row.setting: setting_name(row.texts, columns) for row in group}
    lines = tuple(
        (
            names[setting],
            tuple(
                Cellule(row, several and row is not None and row.accuracy == top)
                for row, top in zip(table[setting], tops, strict=True)
            ),
        )
        for setting in order[:_MOST_SETTINGS]
    )
    attacks = {row.texts["attack"] for row in found if row.kind == "attack" and threat_of(row) == key}
    words = [
        key[0],
        key[1],
        *([key[2]] if key[2] != "untargeted" else []),
        *(["seed " + key[3]] if "seed" in columns else []),
    ]
    return Matrix(", ".join(words), tuple(eps for _, eps in shown), lines, len(order), len(radii), len(attacks))


def threat_of(row: Row) -> tuple[str, ...]:
    """Rows are compared where this is the same."""
    return tuple(row.texts[name] for name in ("data", "norm", "goal", "seed", "precision"))


def deciding(group: Sequence[Row]) -> str:
    """The largest radius that all settings have and at which they differ; else the largest that all have."""
    settings = {row.setting for row in group}
    at: dict[str, list[Row]] = defaultdict(list)
    for row in group:
        at[row.texts["eps"]].append(row)
    shared = [eps for eps, line in at.items() if len(line) == len(settings)] or list(at)
    telling = [eps for eps in shared if len({row.accuracy for row in at[eps]}) > 1]
    return max(telling or shared, key=size_of)


def headline(found: Sequence[Row], columns: Sequence[str]) -> list[dict[str, Any]]:
    """For each data set and threat: where it is decided, the most and the least robust setting, and the second."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in found:
        if row.kind == "worst":
            groups[threat_of(row)].append(row)
    said = []
    for key, group in list(groups.items())[:_MOST_MATRICES]:
        eps = deciding(group)
        ranked = sorted((row for row in group if row.texts["eps"] == eps), key=lambda row: row.accuracy, reverse=True)
        said.append(
            {
                "threat": f"{key[0]}, {key[1]}",
                "eps": eps,
                "most": (setting_name(ranked[0].texts, columns), ranked[0]),
                "least": (setting_name(ranked[-1].texts, columns), ranked[-1]),
                "second": (setting_name(ranked[1].texts, columns), ranked[1]) if len(ranked) > 2 else None,
                "alone": len(ranked) == 1,
                "tie": len(ranked) > 1 and ranked[1].high >= ranked[0].low,
            }
        )
    return said


def commands(grid: Grid) -> list[tuple[str, str]]:
    """What to type to get the numbers, the table and this page again."""
    folder = shlex.quote(str(grid.folder))
    study = [("The sweep", grid.study.command)] if grid.study and grid.study.command else []
    return [*study, ("The table", f"advkit table {folder}"), ("This page", f"advkit report {folder}")]


def environment(grid: Grid) -> list[Fact]:
    """What every cell says about how it was made, and what the last sweep said of itself."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in grid.records:
        own = {"code": record.cell.code, "seed": record.cell.seed, "precision": record.cell.precision}
        for name, value in {**own, **record.about}.items():
            if name not in _NOT_ENVIRONMENT and value not in (None, "", {}, []):
                counts[name][_said(value)] += 1
    if grid.study:
        for name, value in grid.study.about.items():
            if name not in _NOT_ENVIRONMENT and name not in counts and value not in (None, "", {}, []):
                counts[name][_said(value)] += 1
    names = sorted(counts, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return [Fact(name.replace("_", " "), tuple(counts[name].most_common())) for name in names]


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)


def hyperparameters(grid: Grid) -> list[tuple[str, tuple[tuple[str, int], ...]]]:
    """For each attack, every repr with which it ran, and in how many cells."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record in grid.records:
        for stage in record.cell.stages:
            found[stage.name].update(dict.fromkeys(stage.attacks, 1))
    return [(name, tuple(counts.items())) for name, counts in found.items()]


def names_of(found: Sequence[Row], name: str) -> list[str]:
    """Every value that a column has, none and the worst case last, radii by size."""
    values = {row.texts[name] for row in found} - {""}
    if name == "eps":
        return sorted(values, key=size_of)
    return sorted(
        values,
        key=lambda value: ((NONE, WORST).index(value) + 1 if name == "attack" and value in (NONE, WORST) else 0, value),
    )
