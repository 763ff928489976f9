"""Two stores, line by line: what changed, tested on the examples that both have. No torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from advkit.results.baseline import Versus, difference
from advkit.results.grid import Grid, Line
from advkit.results.statistics import Difference, holm
from advkit.results.table import Table
from advkit.results.verdict import counted

__all__ = ["Pair", "compared", "comparison_table"]

_KEYS = ("model", "weights", "defense", "data", "norm", "goal", "seed", "attack", "eps")


@dataclass(frozen=True)
class Pair:
    """A line of the one store and the same line of the other; one of them may be missing."""

    before: Line | None
    after: Line | None
    versus: Versus | None = None  # None where the examples are not the same

    @property
    def line(self) -> Line:
        """The one that is there."""
        found = self.before or self.after
        if found is None:
            raise ValueError("Pair: before and after are both None; one of them is the line.")
        return found

    @property
    def change(self) -> float | None:
        """In accuracy."""
        if self.before is None or self.after is None:
            return None
        return self.after.accuracy.value - self.before.accuracy.value

    @property
    def differs(self) -> bool:
        """Whether any example came out differently, or the line is in one store only."""
        return self.change != 0 or bool(self.versus and (self.versus.found.gained or self.versus.found.lost))

    def to_json(self) -> dict[str, object]:
        """The stable form."""
        of = self.line.to_json()
        found: dict[str, object] = {key: of[key] for key in _KEYS}
        found |= {"before": None if self.before is None else self.before.accuracy.value}
        found |= {"after": None if self.after is None else self.after.accuracy.value, "change": self.change}
        if self.versus:
            d = self.versus.found
            found |= {
                "low": d.low,
                "high": d.high,
                "p": d.p,
                "p_holm": self.versus.p,
                "pairs": d.n,
                "difference": d.value,
            }
        return found


def compared(before: Grid, after: Grid) -> list[Pair]:
    """All lines of both, in the order of the first. They are the same if everything is, else if all that has a name is.

    What has no name may differ: hashes of weights that were trained again, the code. Where the data differ, or no example is
    in both, there is a change but no test.
    """
    ours, theirs = [*before.clean, *before.lines, *before.worst], [*after.clean, *after.lines, *after.worst]
    mates: dict[int, Line] = {}
    for same in (_wholly, _by_name):
        free = _unique(same, (line for line in theirs if id(line) not in {id(mate) for mate in mates.values()}))
        for key, line in _unique(same, (line for line in ours if id(line) not in mates)).items():
            if key in free:
                mates[id(line)] = free[key]
    found: dict[int, Difference] = {}
    for line in ours:
        mate = mates.get(id(line))
        if mate is not None and mate.cell.data_hash == line.cell.data_hash and (made := difference(mate, line)):
            found[id(line)] = made
    adjusted = dict(zip(found, holm([each.p for each in found.values()]), strict=True))
    taken = {id(mate) for mate in mates.values()}
    pairs = [
        Pair(
            line, mates.get(id(line)), Versus(found[id(line)], float(adjusted[id(line)])) if id(line) in found else None
        )
        for line in ours
    ]
    return [*pairs, *(Pair(None, line) for line in theirs if id(line) not in taken)]


def comparison_table(pairs: list[Pair], names: tuple[str, str], *, full: bool, changed: bool = False) -> Table:
    """Accuracy before and after and the change; ``full`` has every number in a column of its own, for programs.

    With ``changed`` only what differs is listed; the caption counts all.
    """
    listed = [pair for pair in pairs if pair.differs or not changed]
    if full:
        made = [pair.to_json() for pair in listed]
        heads = tuple(dict.fromkeys(key for row in made for key in row))
        rows = [tuple("" if row.get(key) is None else str(row[key]) for key in heads) for row in made]
        return Table(heads, tuple(rows), align="".join("l" if head in _KEYS else "r" for head in heads))
    shown = [key for key in _KEYS if key in ("model", "defense", "attack", "eps") or _differs(pairs, key)]
    lines = [
        (
            *(_named(pair.line, key) for key in shown),
            *("-" if line is None else line.accuracy.percent for line in (pair.before, pair.after)),
            _change(pair),
        )
        for pair in listed
    ]
    both = sum(pair.change is not None for pair in pairs)
    tested = sum(pair.versus is not None for pair in pairs)
    same = f" {len(pairs) - len(listed):,} that did not change are not listed." if changed else ""
    caption = (
        f"Accuracy % with its 95 % Wilson interval; change in points with its 95 % paired bootstrap interval. {both:,} lines "
        f"are in both, {sum(pair.after is None for pair in pairs):,} only in {names[0]}, "
        f"{sum(pair.before is None for pair in pairs):,} only in {names[1]}.{same} * p < 0.05, ** p < 0.01, *** p < 0.001 by "
        f"McNemar's exact test on the same examples, Holm-adjusted for {counted(tested, 'test')}."
    )
    if tested < both:
        caption += " Where no interval stands, the examples are not the same, and nothing was tested."
    heads = (*shown, names[0], names[1], "change")
    return Table(heads, tuple(lines), align="l" * len(shown) + "rrr", caption=caption)


def _named(line: Line, key: str) -> str:
    """What the line has there; without attack there is neither norm nor goal nor seed."""
    value = None if not line.cell.stages and key in ("norm", "goal", "seed") else line.to_json()[key]
    return "-" if value in (None, "") else str(value)


def _change(pair: Pair) -> str:
    if pair.change is None:
        return "-"
    if pair.versus is None:
        return f"{100 * pair.change:+.1f}"
    return f"{pair.versus.found.percent} {pair.versus.stars}".rstrip()


def _differs(pairs: Iterable[Pair], key: str) -> bool:
    return len({pair.line.to_json()[key] for pair in pairs if pair.line.cell.stages}) > 1


def _wholly(line: Line) -> tuple[object, ...]:
    return (line.cell.kind, line.attack, line.eps, line.over, bool(line.cell.stages))


def _by_name(line: Line) -> tuple[object, ...]:
    cell = line.cell
    named = (line.model, line.weights, line.defense, line.data, cell.norm, cell.goal, cell.seed, cell.attack)
    return (*(named if not line.over else named[:-1]), line.attack, line.eps, line.over)


def _unique(same: Callable[[Line], tuple[object, ...]], lines: Iterable[Line]) -> dict[tuple[object, ...], Line]:
    """Lines by what makes them the same; those that share it with another are left out."""
    groups: dict[tuple[object, ...], list[Line]] = defaultdict(list)
    for line in lines:
        groups[same(line)].append(line)
    return {key: group[0] for key, group in groups.items() if len(group) == 1}
