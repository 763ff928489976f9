"""A grid's lines set out in rows and columns, so that no two fall into one place unasked. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf
from operator import itemgetter

from advkit.errors import InputError, UnknownName, nearest
from advkit.numbers import fraction_of
from advkit.results.baseline import difference
from advkit.results.grid import ITSELF, NONE, WORST, Grid, Line, wholes
from advkit.results.statistics import holm
from advkit.results.values import ACCURACY, Value

__all__ = ["Pivot", "Place", "in_order", "mean_of", "numbered", "pivoted", "settings_of", "size_of"]

Place = tuple[str, ...]
_LEVEL = 0.05
MEANS = {"seed": ("seed",), "weights": ("weights", "weights hash"), "model": ("model", "weights", "weights hash")}
_ROWS, _COLUMNS = ("model", "defense"), ("attack", "eps")
_OF_ATTACK = (
    "norm",
    "goal",
    "seed",
    "precision",
    "settings",
    "surrogate hash",
    "search",
)  # what a line without attack has not
_QUIET = (
    "precision",
    "weights hash",
    "defense hash",
    "surrogate hash",
    "data hash",
    "code",
    "settings",
    "search",
    "cell",
)  # shown only where two lines would fall together
_COMPARED = ("model", "weights", "weights hash", "defense", "defense hash", "code")  # what the best is sought among


@dataclass(frozen=True)
class Pivot:
    """Lines by row and column; ``rows`` and ``columns`` say what the parts of their names are."""

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[Place, Place], tuple[Line, ...]]  # several where a mean over them was asked for
    row_places: tuple[Place, ...]
    column_places: tuple[Place, ...]
    settings: Mapping[str, str]  # the attacks of one name that are told apart by a number: what each is
    value: Value = ACCURACY
    mean: tuple[str, ...] = ()

    @cached_property
    def lines(self) -> dict[tuple[Place, Place], Line]:
        """The first line of each place."""
        return {place: lines[0] for place, lines in self.cells.items()}

    def numbers(self, place: tuple[Place, Place]) -> list[float]:
        """What is known of the value there, of each line."""
        number = self.value.number
        return [found for line in self.cells.get(place, ()) if (found := number(line)) is not None]

    @cached_property
    def best(self) -> frozenset[tuple[Place, Place]]:
        """Where the value is best among what can be compared: complete lines of one attack, radius and data."""
        found: set[tuple[Place, Place]] = set()
        for group in self._rivals:
            highest = max(group.values())
            if min(group.values()) < highest:
                found |= {place for place, value in group.items() if value == highest}
        return frozenset(found)

    @cached_property
    def ties(self) -> frozenset[tuple[Place, Place]]:
        """Where accuracy cannot be told from the best of its rivals: McNemar's exact test, Holm-adjusted."""
        found: set[tuple[Place, Place]] = set()
        for group in self._rivals:
            best = [place for place in group if place in self.best]
            tests = {
                place: test
                for place in group
                if best and place not in best and (test := difference(self.lines[place], self.lines[best[0]]))
            }
            adjusted = zip(tests, holm([test.p for test in tests.values()]), strict=True)
            found |= {place for place, p in adjusted if p >= _LEVEL}
        return frozenset(found)

    @cached_property
    def _rivals(self) -> list[dict[tuple[Place, Place], float]]:
        """What can be compared, each with its value, the highest of which is the best."""
        groups: dict[Place, dict[tuple[Place, Place], float]] = defaultdict(dict)
        for place, lines in self.cells.items():
            numbers = self.numbers(place)
            if self.value.best and numbers and all(line.complete for line in lines) and place not in self.narrow:
                groups[self._question(place)][place] = self.value.best * mean_of(numbers)
        return list(groups.values())

    @cached_property
    def narrow(self) -> frozenset[tuple[Place, Place]]:
        """Worst cases over fewer attacks than others of the same radius and data: these cannot be compared."""
        over: dict[Place, set[str]] = defaultdict(set)
        for place, line in self.lines.items():
            over[self._question(place)].update(line.over)
        return frozenset(
            place for place, line in self.lines.items() if line.over and over[self._question(place)] - line.met
        )

    @property
    def best_of_columns(self) -> bool:
        """Whether the best is sought down each column."""
        return set(self.rows) <= set(_COMPARED)

    def _question(self, place: tuple[Place, Place]) -> Place:
        names = zip((*self.rows, *self.columns), (*place[0], *place[1]), strict=True)
        return tuple(value for key, value in names if key not in _COMPARED)

    def head(self, column: Place) -> tuple[str, str]:
        """The two lines above a column: the first is shared by neighbours."""
        of = dict(zip(self.columns, column, strict=True))
        if of.get("attack") == NONE:
            of["attack"] = "clean"
        first, *others = of.values()
        if not any(others):
            return "", first or "clean"  # no radius: the column without attack
        if of.get("attack") == "clean" and self.columns[0] == "attack":
            return "", " ".join(("clean", *filter(None, others)))
        return first, " ".join(filter(None, others))

    def column(self, name: str) -> Place:
        """The column that a reader calls so: clean, worst, pgd, pgd@8/255. Without radius: the largest there is."""
        known: dict[str, Place] = {}
        plain = {"name": None}
        for place in self.column_places:
            of = {NONE: "clean", WORST: "worst"}
            parts = [of.get(part, part) for part in place if part]
            named = dict(zip(self.columns, place, strict=True))
            attack = of.get(named.get("attack", ""), named.get("attack", ""))
            radius = "@".join(filter(None, (attack, named.get("eps", ""))))
            known |= dict.fromkeys(filter(None, (*parts, radius, "@".join(parts))), place)  # the last is the largest
            plain[attack or parts[0]] = None
        if name not in known:
            raise InputError(
                f"--sort {name} is no column of this table.{nearest(name, ['name', *known])} "
                f"Columns: {', '.join(plain)}, each also with its radius, as in {next(reversed(known))}."
            )
        return known[name]

    def sorted(self, by: str, reverse: bool = False) -> Pivot:
        """Rows by name, or by the value in a column, highest first; rows without it come last."""
        if by == "name":
            return replace(self, row_places=tuple(sorted(self.row_places, key=_natural, reverse=reverse)))
        column = self.column(by)
        known = {row: self.numbers((row, column)) for row in self.row_places}
        values = {row: mean_of(numbers) for row, numbers in known.items() if numbers}
        has = sorted(values, key=lambda row: values[row], reverse=not reverse)
        return replace(self, row_places=(*has, *(row for row in self.row_places if row not in values)))


def mean_of(numbers: Sequence[float]) -> float:
    """The mean; of one number that number, to the last bit."""
    return numbers[0] if len(numbers) == 1 else sum(numbers) / len(numbers)


def pivoted(
    grid: Grid,
    rows: Sequence[str] = _ROWS,
    columns: Sequence[str] = _COLUMNS,
    *,
    stages: bool = False,
    value: Value = ACCURACY,
    mean: Sequence[str] = (),
) -> Pivot:
    """Set the lines out. What is in neither rows nor columns and yet differs is added to them, unless it is in ``mean``.

    Of an attack of several stages the last one is shown, by the attack's own name; with ``stages`` each of them.
    """
    for key in mean:
        if key not in MEANS:
            raise UnknownName("key of a mean", key, MEANS)
        if key in (*rows, *columns):
            raise InputError(f"--mean {key}: {key} is in --rows or --columns; leave it out there.")
    twice = [key for key in (*rows, *columns) if [*rows, *columns].count(key) > 1]
    if twice:
        raise InputError(f"{twice[0]} is asked for twice in --rows {','.join(rows)} --columns {','.join(columns)}.")
    if not rows or not columns:
        raise InputError(
            "--rows and --columns each need something, for example --rows model,defense --columns attack,eps."
        )
    attacked = wholes(grid.lines)
    if stages:
        last = {(line.cell.key, line.eps, line.attack): line for line in attacked}
        attacked = [last.get((line.cell.key, line.eps, line.attack), line) for line in grid.lines]
    bare = [*grid.clean, *_clean_of(grid, attacked)] if value.bare else []
    lines = [*bare, *attacked, *(line for line in grid.worst if value.number(line) is not None)]
    numbers = numbered(attacked)
    named = [_named(line, numbers, "surrogate" in (*rows, *columns)) for line in lines]
    blank = dict.fromkeys((each for key in mean for each in (*MEANS[key], "cell")), "")
    named = [names | blank for names in named] if blank else named
    rows, columns = _shown(named, tuple(rows), tuple(columns))
    found = _set_out(lines, named, rows, columns)
    ranks = _ranks(named, in_order=grid.study is not None)
    places = list(found)

    def ordered(side: int, keys: Sequence[str]) -> tuple[Place, ...]:
        return tuple(
            sorted(
                dict.fromkeys(place[side] for place in places),
                key=lambda place: [ranks[key].get(value, -1) for key, value in zip(keys, place, strict=True)],
            )
        )

    settings = {f"{attack} {number}": what for (attack, what), number in numbers.items() if number}
    shown = "settings" in (*rows, *columns)
    return Pivot(
        rows, columns, found, ordered(0, rows), ordered(1, columns), settings if shown else {}, value, tuple(mean)
    )


def in_order(grid: Grid, pivot: Pivot) -> Grid:
    """The grid with its lines in the order of a pivot's rows."""
    ranks: dict[tuple[str, ...], int] = {}
    at = {row: rank for rank, row in enumerate(pivot.row_places)}
    for (row, _), line in pivot.lines.items():
        ranks[line.cell.setting] = min(at[row], ranks.get(line.cell.setting, at[row]))

    def ordered(lines: Iterable[Line]) -> tuple[Line, ...]:
        return tuple(sorted(lines, key=lambda line: ranks.get(line.cell.setting, len(at))))

    return replace(grid, lines=ordered(grid.lines), clean=ordered(grid.clean))


def size_of(eps: str) -> float:
    """A radius as a number."""
    try:
        return float(fraction_of(eps))
    except (ValueError, ArithmeticError):
        return inf


def _clean_of(grid: Grid, attacked: Iterable[Line]) -> list[Line]:
    """Accuracy without attack from the attacked lines, where the cell without attack is not there."""
    has = {line.cell.setting for line in grid.clean}
    first = {line.cell.setting: line for line in reversed(list(attacked)) if line.cell.setting not in has}
    return [
        replace(line, attack=NONE, eps=None, stands=line.clean, prediction=None, distance=None, over=(), follows="")
        for line in first.values()
    ]


def numbered(lines: Iterable[Line]) -> dict[tuple[str, str], str]:
    """Attacks of one name and several settings get numbers; what is alone has none."""
    kinds: dict[str, dict[str, None]] = defaultdict(dict)
    for line in lines:
        kinds[line.cell.attack].setdefault(settings_of(line))
    return {
        (attack, what): f"#{number}" if len(found) > 1 else ""
        for attack, found in kinds.items()
        for number, what in enumerate(found, 1)
    }


def settings_of(line: Line) -> str:
    """Every hyper-parameter, without the radius: that of one attack is not the setting of another."""
    place = line.cell.radii.index(line.eps) if line.eps else 0
    of = "; ".join(stage.attacks[place] for stage in line.cell.stages)
    return of.replace(f"eps={line.eps}", "eps").replace(f"({line.eps})", "(eps)")


def _named(line: Line, numbers: Mapping[tuple[str, str], str], apart: bool) -> dict[str, str]:
    """What each key is of a line; ``apart`` says that what attacks were made on has a place of its own."""
    cell = line.cell
    of_attack = line.attack != NONE
    return {
        "model": line.model,
        "weights": line.weights,
        "weights hash": cell.model_hash[:8],
        "defense": line.defense,
        "defense hash": cell.defense_hash[:8],
        "surrogate hash": cell.surrogate_hash[:8] if of_attack and not line.over else "",
        "search": _search(line) if of_attack and not line.over else "",
        "cell": cell.key[:8],
        "data": line.data,
        "data hash": cell.data_hash[:8],
        "attack": line.method if apart else line.title,
        "surrogate": line.made_on,
        "eps": line.eps or "",
        "norm": cell.norm if of_attack else "",
        "goal": cell.goal if of_attack else "",
        "seed": str(cell.seed) if of_attack else "",
        "precision": cell.precision if of_attack else "",
        "settings": numbers.get((cell.attack, settings_of(line)), "") if of_attack and not line.over else "",
        "code": f"{cell.code[:8]}{' (outdated)' if line.outdated else ''}",
    }


def _search(line: Line) -> str:
    """Whether one search was made for all radii, or one at each."""
    return "nested" if any(stage.nested for stage in line.cell.stages) else "independent"


def _shown(
    named: Sequence[Mapping[str, str]], rows: tuple[str, ...], columns: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rows and columns with what has to be added to tell all lines apart."""

    def differs(key: str) -> bool:
        if key == "weights":
            # Models that differ in name tell their weights apart, and so do ways to train them, which are defenses.
            apart = [mate for mate in ("model", "defense") if mate in (*rows, *columns)]
            known = [tuple(names[mate] for mate in apart) for names in named]
            return len({(*each, names["weights"]) for each, names in zip(known, named, strict=True)}) > len(set(known))
        return len({names[key] for names in named if key not in _OF_ATTACK or names["attack"] != NONE}) > 1

    def beside(key: str, mate: str) -> None:
        nonlocal rows, columns
        if mate in rows:
            place = rows.index(mate) + 1
            rows = (*rows[:place], key, *rows[place:])
        else:
            place = columns.index(mate) + 1
            columns = (*columns[:place], key, *columns[place:])

    for key in ("eps", "attack"):
        if key not in (*rows, *columns):
            columns = (key, *columns)
    for key in ("model", "defense", "weights", "data", "seed"):
        if key not in (*rows, *columns) and differs(key):
            place = rows.index("model") + 1 if key == "weights" and "model" in rows else len(rows)
            rows = (*rows[:place], key, *rows[place:])
    for key in ("goal", "norm"):
        if key not in (*rows, *columns) and differs(key):
            beside(key, "attack")
    for key in _QUIET:
        if _fall_together(named, (*rows, *columns), key):
            if key in ("settings", "precision", "surrogate hash", "search"):
                beside(key, "attack")
            else:
                rows = (*rows, key)
    return rows, columns


def _fall_together(named: Sequence[Mapping[str, str]], shown: Sequence[str], key: str) -> bool:
    """Whether lines that differ in this key, as far as they have it, would stand in one place."""
    place_of, first = itemgetter(*shown), dict[object, str]()
    return any(
        first.setdefault(place_of(names), names[key]) != names[key]
        for names in named
        if key not in _OF_ATTACK or names["attack"] != NONE
    )


def _set_out(
    lines: Sequence[Line], named: Sequence[Mapping[str, str]], rows: Sequence[str], columns: Sequence[str]
) -> dict[tuple[Place, Place], tuple[Line, ...]]:
    """Lines by place. A line without attack stands wherever others differ only in what it has not, as the seed or radius."""
    found: dict[tuple[Place, Place], list[Line]] = defaultdict(list)
    side = int("attack" in rows)  # the other one says that there is no attack; along this one the line is repeated
    keys = (rows, columns)[side]
    kept = [place for place, key in enumerate(keys) if key not in (*_OF_ATTACK, "surrogate", "eps")]
    at: dict[Place, dict[Place, None]] = defaultdict(dict)
    placed = [(tuple(names[key] for key in rows), tuple(names[key] for key in columns)) for names in named]
    for line, place in zip(lines, placed, strict=True):
        if line.attack != NONE:
            at[tuple(place[side][each] for each in kept)][place[side]] = None
            found[place].append(line)
    for line, place in zip(lines, placed, strict=True):
        if line.attack == NONE:
            closed = tuple(place[side][each] for each in kept)
            for each in at.get(closed, (place[side],)) if len(kept) < len(keys) else (place[side],):
                found[(place[0], each) if side else (each, place[1])].append(line)
    return {place: tuple(group) for place, group in found.items()}


def _ranks(named: Sequence[Mapping[str, str]], in_order: bool) -> dict[str, dict[str, int]]:
    """The order of each key's values: as in the study, else by name. Radii ascend; clean is first, the worst case last."""
    ranks = {}
    for key in named[0] if named else ():
        values = list(dict.fromkeys(names[key] for names in named))
        if key == "eps":
            values.sort(key=lambda eps: (eps != "", size_of(eps) if eps else 0.0, eps))
        elif not in_order or key in _OF_ATTACK:  # the stages of one attack stay in their order
            values.sort(key=lambda value: _natural((value.partition(": ")[0] if key == "attack" else value,)))
        if key == "attack":
            values.sort(key=lambda value: (value == WORST) - (value == NONE))
        if key == "surrogate":
            values.sort(key=lambda value: (value not in ("", ITSELF)) - (value == ""))
        ranks[key] = {value: rank for rank, value in enumerate(values)}
    return ranks


def _natural(place: Place) -> list[tuple[int, float, str]]:
    """By name, with numbers in their own order: jpeg:9 before jpeg:75."""
    import re

    return [
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part.lower())
        for text in place
        for part in (*re.split(r"(\d+)", text), "")
    ]
