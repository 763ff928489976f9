"""Each line against the same line of a baseline, on the same examples. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from advkit.errors import InputError, nearest
from advkit.results.filters import KEYS, SETTING, parsed
from advkit.results.grid import Grid, Line
from advkit.results.statistics import Difference, holm, paired, stars

__all__ = ["Versus", "against", "difference", "selector"]

_CHOSEN = tuple(key for key in KEYS if key not in ("data", "eps"))  # other examples, or another question


@dataclass(frozen=True)
class Versus:
    """A line's difference to its baseline, and its p-value among all tests of the table (Holm)."""

    found: Difference
    p: float

    @property
    def stars(self) -> str:
        """Of the adjusted p-value."""
        return stars(self.p)


def difference(line: Line, base: Line) -> Difference | None:
    """On the examples that both have; None where they have none in common."""
    stands, other = line.stands, base.stands
    if line.index is not base.index:
        _, here, there = np.intersect1d(line.index, base.index, assume_unique=True, return_indices=True)
        stands, other = stands[here], other[there]
    if not len(stands):
        return None
    return paired(len(stands), int((stands & ~other).sum()), int((other & ~stands).sum()))


def selector(texts: Sequence[str], grid: Grid) -> dict[str, str]:
    """What a baseline is: KEY=VALUE, several with commas or repeated; or a model, or MODEL/DEFENSE, by name.

    Raises InputError where nothing in the store is it.
    """
    split = [part for text in texts for part in re.split(rf",(?=(?:{'|'.join(KEYS)})=)", text)]
    known = {f"{line.model}/{line.defense}": line for line in (*grid.lines, *grid.clean)}
    models = dict.fromkeys(line.model for line in known.values())
    chosen: dict[str, str] = {}
    for text in split:
        if text in models:
            chosen["model"] = text
        elif text in known:
            chosen |= {"model": known[text].model, "defense": known[text].defense}
        elif "=" not in text:
            raise InputError(
                f"--baseline {text} is neither a model of the store nor a MODEL/DEFENSE.{nearest(text, [*models, *known])} "
                f"Models: {', '.join(list(models)[:8])}; or choose by KEY=VALUE, for example defense=none."
            )
        else:
            ((key, (value,)),) = parsed([text], "--baseline").items()
            if key not in _CHOSEN:
                raise InputError(f"--baseline {text}: a baseline is chosen by {', '.join(_CHOSEN)}, not by {key}.")
            chosen[key] = value
    if "attack" in chosen:
        chosen["attack"] = _title(chosen["attack"], grid)
    for key, value in chosen.items():
        values = dict.fromkeys(_value(line, key) for line in (*grid.lines, *grid.clean))
        if value not in values:
            shown = ", ".join(list(filter(None, values))[:8])
            raise InputError(
                f"--baseline {key}={value} is not in the store.{nearest(value, filter(None, values))} "
                f"Results there are of {key}: {shown}."
            )
    return chosen


def against(lines: Iterable[Line], grid: Grid, chosen: Mapping[str, str]) -> dict[int, Versus]:
    """The difference of each line, by its id, to its baseline: the line that is the same but for what was chosen."""
    bases: dict[tuple[object, ...], Line] = {}
    for line in (*grid.lines, *grid.clean, *grid.worst):
        if not line.outdated and _is_base(line, chosen):
            key = _same(line, chosen)
            if key in bases and bases[key].cell.setting != line.cell.setting:
                raise InputError(
                    f"--baseline {','.join(f'{k}={v}' for k, v in chosen.items())} is several models: {_said(bases[key])} "
                    f"and {_said(line)}; say which, for example with weights=..."
                )
            bases[key] = line
    found: dict[int, Difference] = {}
    for line in lines:
        base = None if _is_base(line, chosen) else bases.get(_same(line, chosen))
        if base is not None and (made := difference(line, base)) is not None:
            found[id(line)] = made
    adjusted = holm([each.p for each in found.values()])
    return {key: Versus(each, float(p)) for (key, each), p in zip(found.items(), adjusted, strict=True)}


def _title(attack: str, grid: Grid) -> str:
    """The attack's name; of a stage that is called so, with that of the whole before it."""
    titles = dict.fromkeys(line.title for line in (*grid.lines, *grid.clean))
    stages = [title for title in titles if title.endswith(f": {attack}")]
    if attack in titles or not stages:
        return attack
    if len(stages) > 1:
        raise InputError(f"--baseline attack={attack} is a stage of several attacks; say which: {', '.join(stages)}.")
    return stages[0]


def _value(line: Line, key: str) -> str:
    if key in ("model", "weights", "defense"):
        return str(getattr(line, key))
    if key == "attack":
        return line.title
    return line.made_on if key == "surrogate" else str(getattr(line.cell, key))


def _is_base(line: Line, chosen: Mapping[str, str]) -> bool:
    """Whether the line is what was chosen; without attack there is no norm, goal or seed to be chosen by."""
    asked = chosen if line.cell.stages else {key: chosen[key] for key in chosen if key in SETTING}
    return all(_value(line, key) == value for key, value in asked.items())


def _same(line: Line, chosen: Mapping[str, str]) -> tuple[object, ...]:
    cell = line.cell
    has = {key: _value(line, key) for key in _CHOSEN}
    if "surrogate" in chosen:  # the same attack, whatever it was made on
        has["attack"] = line.method
    if "model" in chosen:  # another model has other weights
        del has["weights"]
    stage = next((s for s in cell.stages if s.name == line.attack), None)
    settings = stage.attacks[cell.radii.index(line.eps)] if stage and line.eps and "attack" not in chosen else ""
    kept = tuple(value for key, value in has.items() if key not in chosen)
    # A worst case is compared with one over the same attacks, a stage with the same stage of the same attack.
    within = line.met or (frozenset() if {"attack", "surrogate"} & set(chosen) else frozenset((cell.attack,)))
    return (*kept, bool(cell.stages), bool(line.over), within, line.eps, cell.data_hash, cell.precision, settings)


def _said(line: Line) -> str:
    return f"{line.model} ({line.weights or line.cell.model_hash[:8]})"
