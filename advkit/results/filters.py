"""Which lines of a store are meant: KEY=VALUE and KEY!=VALUE with shell wildcards. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar

from advkit.errors import InputError, UnknownName, nearest
from advkit.results.grid import Grid, Line, made_on
from advkit.results.store import Record

__all__ = ["KEYS", "SETTING", "checked_keys", "filtered", "key_of", "narrowed", "parsed"]

KEYS = ("model", "weights", "defense", "data", "norm", "goal", "seed", "attack", "surrogate", "eps")
SETTING = ("model", "weights", "defense", "data")  # what a line without attack has too
_SHOWN = 8  # values in one sentence
_T = TypeVar("_T")


def checked_keys(text: str) -> tuple[str, ...]:
    """The keys of a text as ``model,defense``."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for key in found:
        if key not in KEYS:
            raise UnknownName("key", key, KEYS)
    return found


def key_of(text: str) -> str:
    """The key of KEY=VALUE or KEY!=VALUE."""
    return text.partition("=")[0].removesuffix("!")


def parsed(texts: Sequence[str], option: str) -> dict[str, list[str]]:
    """KEY=VALUE texts, by key: the values of one key are alternatives."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"{option} is {text!r}; write it as KEY=VALUE with one of {', '.join(KEYS)}.")
        if key not in KEYS:
            raise UnknownName("key", key, KEYS)
        found.setdefault(key, []).append(value)
    return found


def filtered(grid: Grid, texts: Sequence[str]) -> Grid:
    """The lines that match every key. Those without attack stay where their model, weights, defense and data match.

    The worst case is that of the attacks which are left.
    """
    wanted, without = _parted(texts)
    if not texts:
        return grid
    everything = [*grid.lines, *grid.clean]
    for sign, asked in (("=", wanted), ("!=", without)):
        for key, values in asked.items():
            known = dict.fromkeys(name for line in everything for name in _names(line, key))
            known |= dict.fromkeys(name for record in grid.waiting for name in _held(record, key))
            _check(key, sign, values, known)
    lines = tuple(line for line in grid.lines if _fits(line, wanted, _names) and not _dropped(line, without, _names))
    wanted_of, without_of = (
        {key: values for key, values in asked.items() if key in SETTING} for asked in (wanted, without)
    )
    clean = tuple(
        line for line in grid.clean if _fits(line, wanted_of, _names) and not _dropped(line, without_of, _names)
    )
    waiting = tuple(_narrow(grid.waiting, wanted, without))
    if not lines and not ("none" in wanted.get("attack", ()) and clean):
        raise InputError(
            f"no result matches all of {' '.join(f'--filter {text}' for text in texts)}; each alone matches some."
        )
    left = set(map(id, clean))
    answers = tuple((line, said) for line, said in grid.asked if id(line) in left)
    return replace(grid, lines=lines, clean=clean, waiting=waiting, asked=answers)


def narrowed(records: Sequence[Record], texts: Sequence[str]) -> list[Record]:
    """The cells that match every key; of a cell's radii and stages one is enough."""
    wanted, without = _parted(texts)
    for sign, asked in (("=", wanted), ("!=", without)):
        for key, values in asked.items():
            _check(key, sign, values, dict.fromkeys(name for record in records for name in _held(record, key)))
    return _narrow(records, wanted, without)


def _narrow(
    records: Sequence[Record], wanted: Mapping[str, Sequence[str]], without: Mapping[str, Sequence[str]]
) -> list[Record]:
    return [
        record
        for record in records
        if _fits(record, wanted, _held) and not _dropped(record, without, _held_by_name, all)
    ]


def _parted(texts: Sequence[str]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """What is to be, and what is not to be."""
    not_to_be = [text for text in texts if text.partition("=")[0].endswith("!")]
    return (
        parsed([text for text in texts if text not in not_to_be], "--filter"),
        parsed([text.replace("!", "", 1) for text in not_to_be], "--filter"),
    )


def _fits(thing: _T, wanted: Mapping[str, Sequence[str]], names: Callable[[_T, str], Iterable[str]]) -> bool:
    return all(
        any(fnmatchcase(name, value) for name in names(thing, key) for value in values)
        for key, values in wanted.items()
    )


def _dropped(
    thing: _T,
    without: Mapping[str, Sequence[str]],
    names: Callable[[_T, str], Iterable[str]],
    enough: Callable[[Iterable[bool]], bool] = any,
) -> bool:
    """Whether, for some key, any of its names is one to be left out, or all are."""
    return any(
        enough(any(fnmatchcase(name, value) for value in values) for name in names(thing, key))
        for key, values in without.items()
    )


def _check(key: str, sign: str, values: Sequence[str], known: Mapping[str, object]) -> None:
    for value in values:
        if not any(fnmatchcase(name, value) for name in known):
            names = sorted(filter(None, known))
            shown = ", ".join(names[:_SHOWN]) + (f" ... ({len(names)} in all)" if len(names) > _SHOWN else "")
            raise InputError(
                f"--filter {key}{sign}{value} matches no result.{nearest(value, names)} "
                f"Results there are of {key}: {shown}."
            )


def _names(line: Line, key: str) -> tuple[str, ...]:
    """What a line may be called: an attack of several stages by its own name and by those of its stages."""
    match key:
        case "attack":
            return (line.attack, line.cell.attack, line.title)
        case "eps":
            return (line.eps or "",)
        case "surrogate":
            return (line.made_on,)
        case "weights" | "data" | "model" | "defense":
            return (str(getattr(line, key)),)
        case _:
            return (str(getattr(line.cell, key)),)


def _held(record: Record, key: str) -> tuple[str, ...]:
    match key:
        case "attack":
            return (record.cell.attack, *(stage.name for stage in record.cell.stages))
        case "eps":
            return record.cell.radii or ("",)
        case "weights" | "data":
            return (str(record.about.get(key, "")),)
        case "surrogate":
            return (made_on(record),)
        case _:
            return (str(getattr(record.cell, key)),)


def _held_by_name(record: Record, key: str) -> tuple[str, ...]:
    """The same, without the names of an attack's stages."""
    return (record.cell.attack,) if key == "attack" else _held(record, key)
