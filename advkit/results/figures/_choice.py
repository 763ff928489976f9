"""Which of a store's results a figure is of, in an order and under names that every kind shares."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from advkit.errors import InputError, UnknownName
from advkit.numbers import fraction_of
from advkit.results.cell import not_oblivious
from advkit.results.filters import filtered
from advkit.results.grid import WORST, Grid, Line, wholes

__all__ = ["NORMS", "Chosen", "Series", "choose", "radius", "scenes", "unit"]

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "area": "area", "shade": "shade", "veil": "veil"}
_UNITS = {
    "l0": "pixels",
    "area": "share of the pixels",
    "shade": "share of the lightness",
    "veil": "opacity",
}  # of a radius; of the others, values from 0 to 1
_UNFINISHED = " †"


@dataclass(frozen=True)
class Series:
    """A model behind a defense under one attack, or in the worst case: its lines at ascending radii."""

    name: str  # of what is attacked, and whether all its examples are done
    attack: str
    lines: tuple[Line, ...]

    def at(self, eps: str) -> Line | None:
        """The line at this radius, however it is written."""
        return next((line for line in self.lines if radius(line.eps) == radius(eps)), None)

    @property
    def first(self) -> Line:
        """The line at the smallest radius."""
        return self.lines[0]


@dataclass(frozen=True)
class Chosen:
    """Results on one data set, in one norm and with one goal; what is drawn, and how wide."""

    grid: Grid
    eps: str | None = None
    attack: str | None = None
    width: float | None = None  # inches

    @cached_property
    def names(self) -> dict[tuple[object, ...], str]:
        """What to call each thing that is attacked: as short as tells them apart."""
        return _names(self.grid.lines)

    @cached_property
    def attacks(self) -> tuple[str, ...]:
        """Every attack that was run on the model itself, in the order of the sweep."""
        return tuple(dict.fromkeys(line.title for line in wholes(self.grid.lines) if not line.surrogate))

    @cached_property
    def worst(self) -> tuple[Series, ...]:
        """What stands under all attacks; under one of them, where one was asked for."""
        if self.attack not in (None, WORST):
            return self.under(str(self.attack))
        return self._series((line, WORST) for line in self.grid.worst)

    def under(self, attack: str) -> tuple[Series, ...]:
        """What stands under an attack, or after one stage of it."""
        found = [line for line in wholes(self.grid.lines) if line.title == attack]
        return self._series((line, attack) for line in found or [n for n in self.grid.lines if n.attack == attack])

    def worst_at(self, lines: Sequence[Line]) -> tuple[Series, ...]:
        """What stands under all of these lines."""
        return self._series((line, WORST) for line in replace(self.grid, lines=tuple(lines)).worst)

    def common_eps(self, series: Sequence[Series]) -> str:
        """The radius asked for, else the largest that all of these have."""
        if self.eps is not None:
            if not any(each.at(self.eps) for each in series):
                raise InputError(f"nothing was measured at eps {self.eps}; there is {_listed(_radii(series))}.")
            return self.eps
        shared = [eps for eps in _radii(series) if all(each.at(eps) for each in series)]
        if not shared:
            raise InputError(
                f"no radius is common to all of {_listed([s.name for s in series])}; choose one by --eps, "
                f"or leave some out by --filter."
            )
        return shared[-1]

    def at(self, eps: str, series: Sequence[Series]) -> tuple[tuple[Series, Line], ...]:
        """Those that were measured at this radius, each with its line there; a note names the others."""
        found = tuple((each, line) for each in series if (line := each.at(eps)) is not None)
        left = [each.name for each in series if each.at(eps) is None]
        if left:
            warnings.warn(f"left out, for nothing was measured at eps {eps}: {_listed(left)}", stacklevel=2)
        return found

    def reaching(self, series: Sequence[Series]) -> tuple[Series, ...]:
        """The same up to the radius asked for."""
        if self.eps is None:
            return tuple(series)
        most = radius(self.eps)
        kept = [replace(each, lines=tuple(line for line in each.lines if radius(line.eps) <= most)) for each in series]
        found = tuple(each for each in kept if each.lines)
        if series and not found:
            raise InputError(f"nothing was measured up to eps {self.eps}; there is {_listed(_radii(series))}.")
        return found

    def said(self, lines: Sequence[Line], *more: str) -> str:
        """The small print: data, threat, examples, and what is to be known before the picture is believed."""
        counts = sorted({line.n for line in lines})
        n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
        first = lines[0].cell
        aim = "" if first.goal == "untargeted" else f" (targeted: {first.goal})"
        parts = [lines[0].data, f"{norm(lines[0])}{aim}", f"{n} examples", *more]
        if not all(line.complete for line in lines):
            late = " under every attack" if any(line.lacking for line in lines) else ""
            parts.append(f"† not all examples are done yet{late}")
        if made_up(lines):
            parts.append("MADE-UP RESULTS")
        return "; ".join(part for part in parts if part) + "."

    def met(self) -> str:
        """What the worst case is over."""
        if self.attack not in (None, WORST):
            return f"attack: {self.attack}"
        by: dict[str, set[str]] = {}
        for line in wholes(self.grid.lines):
            by.setdefault(self.names[_key(line)], set()).add(_met(line))
        if len({frozenset(met) for met in by.values()}) > 1:
            return "worst case of the attacks that each met, which are not the same for all"
        moved = dict.fromkeys(line.title for line in wholes(self.grid.lines) if line.surrogate)
        names = [*dict.fromkeys(map(not_oblivious, self.attacks))]
        names += ["transfer"] if names and moved else moved
        return f"worst case of {_listed(names)}" if len(names) > 1 else f"attack: {names[0]}"

    def _series(self, lines: Iterable[tuple[Line, str]]) -> tuple[Series, ...]:
        """Lines of one thing under one attack, together. Where a radius comes again, it is another variant of the attack."""
        found: dict[tuple[object, ...], list[Line]] = {}
        named: dict[tuple[object, ...], str] = {}
        for line, attack in lines:
            variant = 1
            while any(old.eps == line.eps for old in found.get((_key(line), attack, variant), ())):
                variant += 1
            found.setdefault((_key(line), attack, variant), []).append(line)
            named[_key(line), attack, variant] = self.names[_key(line)] + (f" #{variant}" if variant > 1 else "")
        order = {name: place for place, name in enumerate(dict.fromkeys(self.names.values()))}
        series = [
            Series(
                named[key] + ("" if all(line.complete for line in group) else _UNFINISHED),
                str(key[1]),
                tuple(sorted(group, key=lambda line: radius(line.eps))),
            )
            for key, group in found.items()
        ]
        return tuple(sorted(series, key=lambda each: order[self.names[_key(each.first)]]))


def choose(
    grid: Grid,
    *,
    where: Sequence[str] = (),
    eps: str | None = None,
    attack: str | None = None,
    width: float | None = None,
) -> Chosen:
    """The results of a store that a figure is of. Raises InputError where there are none, or ones that do not compare."""
    chosen = narrowed(grid, where=where, eps=eps, attack=attack, width=width)
    varying = scenes(chosen)
    if len(varying) > 1:
        pairs = [dict(scene) for scene in varying]
        key = next(key for key in pairs[0] if len({pair[key] for pair in pairs}) > 1)
        values = list(dict.fromkeys(pair[key] for pair in pairs))
        raise InputError(
            f"a figure is of one {_SCENE[key]}, and the results have {_listed(values)}; choose one by "
            f"--filter {key}={values[0]}."
        )
    return chosen


def narrowed(
    grid: Grid,
    *,
    where: Sequence[str] = (),
    eps: str | None = None,
    attack: str | None = None,
    width: float | None = None,
) -> Chosen:
    """The results that match, of however many data sets, norms and goals."""
    grid = filtered(grid, where)
    if not grid.lines:
        raise InputError(f"{grid.folder} holds no attacked examples of these yet; wait until the sweep has done some.")
    if grid.study is None:  # no sweep gave them an order
        grid = replace(grid, lines=tuple(sorted(grid.lines, key=lambda line: _natural(f"{line.model} {line.defense}"))))
    if eps is not None:
        radius(eps)
    if width is not None and not 2 <= width <= 100:
        raise InputError(f"the width of a figure is {width:g} inches; give 2 to 100, for example 3.4 for a column.")
    known = [
        *dict.fromkeys([*(line.title for line in wholes(grid.lines)), *(line.attack for line in grid.lines)]),
        WORST,
    ]
    if attack is not None and attack not in known:
        raise UnknownName("attack", attack, known)
    return Chosen(grid, eps, attack, width)


_SCENE = {"data": "data set", "norm": "norm", "goal": "goal"}


def scenes(chosen: Chosen) -> list[tuple[tuple[str, str], ...]]:
    """The data sets, norms and goals there are, in the order of the sweep: what one figure is of one of."""
    found = {(("data", line.data), ("norm", line.cell.norm), ("goal", line.cell.goal)): 0 for line in chosen.grid.lines}
    return list(found)


def radius(eps: str | None) -> float:
    """A radius as a number. Raises InputError where the text is none."""
    text = str(eps).strip()
    try:
        if text.endswith("px"):
            return float(fraction_of(text[:-2]) / 255)
        if text.endswith("%"):
            return float(fraction_of(text[:-1]) / 100)
        return float("inf") if text == "inf" else float(fraction_of(text))
    except (ValueError, ArithmeticError):
        raise InputError(
            f"eps is {text!r}; write a fraction (8/255), a number of grey levels (8px) or a decimal."
        ) from None


def norm(line: Line) -> str:
    """The norm, for the eye."""
    return NORMS.get(line.cell.norm, line.cell.norm)


def unit(line: Line) -> str:
    """The norm and in what its radius is measured, for an axis."""
    return f"{norm(line)}, {_UNITS.get(line.cell.norm, 'values from 0 to 1')}"


def made_up(lines: Iterable[Line]) -> bool:
    """Whether anything here was not measured."""
    return any(line.made_up for line in lines)


def _met(line: Line) -> str:
    return "transfer" if line.surrogate else not_oblivious(line.title)


def _natural(text: str) -> list[tuple[int, str]]:
    """net-2 before net-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _key(line: Line) -> tuple[object, ...]:
    return (*line.cell.setting, *line.cell.threat, line.cell.precision)


def _names(lines: Iterable[Line]) -> dict[tuple[object, ...], str]:
    firsts = {_key(line): line for line in lines}
    weights: dict[tuple[str, str], set[str]] = {}  # a way to train is a defense, and tells weights apart by itself
    for line in firsts.values():
        weights.setdefault((line.model, line.defense), set()).add(line.weights)
    seeds = len({line.cell.seed for line in firsts.values()}) > 1
    precisions = len({line.cell.precision for line in firsts.values()}) > 1
    names = {
        key: line.model
        + (f" ({line.weights})" if len(weights[line.model, line.defense]) > 1 else "")
        + (f" + {line.defense}" if line.defense != "none" else "")
        + (f", seed {line.cell.seed}" if seeds else "")
        + (f", {line.cell.precision}" if precisions else "")
        for key, line in firsts.items()
    }
    for which in ("model_hash", "data_hash"):  # what else tells them apart
        taken = list(names.values())
        hashes = {key: str(getattr(firsts[key].cell, which))[:6] for key in names}
        if len(set(hashes.values())) > 1:
            names = {key: name if taken.count(name) == 1 else f"{name} {hashes[key]}" for key, name in names.items()}
    return names


def _radii(series: Iterable[Series]) -> list[str]:
    return sorted({str(line.eps) for each in series for line in each.lines}, key=radius)


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
