"""How the results came about: commands, code, models, data, surroundings, every setting."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass

from advkit.results.grid import Grid

__all__ = [
    "Command",
    "Fact",
    "Model",
    "commands",
    "data_sets",
    "environment",
    "hyperparameters",
    "models",
    "study_file",
]

# What stands elsewhere on the page, or is said of models and attacks and not of where they ran.
_ELSEWHERE = frozenset(
    {
        "attack",
        "attack settings",
        "attack stages",
        "classes",
        "command",
        "data",
        "data settings",
        "data source",
        "defense",
        "made",
        "made_up",
        "model seed",
        "model settings",
        "multiply_adds",
        "oblivious",
        "parameters",
        "study",
        "surrogate",
        "surrogate seed",
        "surrogate settings",
        "weights",
    }
)
_ORDER = (
    "advkit",
    "code",
    "git",
    "python",
    "torch",
    "device",
    "gpu",
    "processor",
    "cores",
    "system",
    "precision",
    "seed",
)
_HASH = 12  # letters of it
_MOST_COMMANDS = 6


@dataclass(frozen=True)
class Command:
    """Something to type, and what to know about it."""

    title: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """Something about the run, with each value it had and the cells that had it."""

    name: str
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Model:
    """A network that was attacked, or on which attacks were made."""

    name: str
    weights: str
    digest: str
    parameters: int | None
    multiply_adds: int | None
    settings: str


def commands(grid: Grid) -> list[Command]:
    """What to type to get the code, the numbers, the table and this page again."""
    folder = shlex.quote(str(grid.folder))
    last = grid.study.command if grid.study else ""
    others = dict.fromkeys(str(record.about.get("command") or "") for record in grid.records)
    earlier = [command for command in others if command and command != last][:_MOST_COMMANDS]
    found = [*_code(grid), *(Command("An earlier sweep", command) for command in earlier)]
    if last:
        again = "Into the same folder it finds all finished and prints the table; with another --out it computes anew."
        found.append(Command("The sweep", last, again if last.startswith("advkit ") else ""))
    return [*found, Command("The table", f"advkit table {folder}"), Command("This page", f"advkit report {folder}")]


def _code(grid: Grid) -> list[Command]:
    """Each version that made cells."""
    versions = dict.fromkeys(
        (str(record.about.get("git") or ""), str(record.about.get("advkit") or "")) for record in grid.records
    )
    found = []
    for git, version in list(versions)[:_MOST_COMMANDS]:
        commit, _, changed = git.partition(", ")
        note = "The checkout had changes that no commit holds." if changed else ""
        if commit:
            found.append(Command("The code", f"git checkout {commit}", note))
        elif version:
            found.append(Command("The code", f"pip install advkit=={version}"))
    return found


def study_file(grid: Grid) -> str:
    """The last sweep as a file from which advkit sweep makes an equal one."""
    return str(grid.study.about.get("study") or "") if grid.study else ""


def models(grid: Grid) -> list[Model]:
    """Every network, once."""
    found: dict[tuple[str, str], Model] = {}
    for record in grid.records:
        cell, about = record.cell, record.about
        settings = about.get("model settings")
        named = {"model", "weights", "normalize"}
        shown = (
            {k: v for k, v in settings.items() if k not in named and v is not None}
            if isinstance(settings, dict)
            else {}
        )
        if isinstance(settings, dict) and settings.get("normalize"):
            shown["normalize"] = settings["normalize"]
        found.setdefault(
            (cell.model, cell.model_hash),
            Model(
                cell.model,
                str(about.get("weights") or ""),
                cell.model_hash[:_HASH],
                _whole(about.get("parameters")),
                _whole(about.get("multiply_adds")),
                _said(shown),
            ),
        )
    return list(found.values())


def data_sets(grid: Grid) -> list[tuple[str, str, str]]:
    """Every data set once: its name, the hash of its pictures and labels, and what was asked of it."""
    found: dict[str, tuple[str, str, str]] = {}
    for record in grid.records:
        about = record.about
        source = about.get("data source")
        asked = dict(about.get("data settings") or {})
        if isinstance(source, dict):
            asked |= {key: value for key, value in source.items() if value not in (None, "", [], about.get("data"))}
        digest = record.cell.data_hash
        found.setdefault(digest, (str(about.get("data") or ""), digest[:_HASH], _said(asked)))
    return list(found.values())


def environment(grid: Grid) -> list[Fact]:
    """What every cell says about where it was made, and what the last sweep said of itself."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in grid.records:
        own = {"code": record.cell.code, "seed": record.cell.seed, "precision": record.cell.precision}
        for name, value in {**own, **record.about}.items():
            if name not in _ELSEWHERE and value not in (None, "", {}, []):
                counts[name][_said(value)] += 1
    if grid.study:
        for name, value in grid.study.about.items():
            if name not in _ELSEWHERE and name not in counts and value not in (None, "", {}, []):
                counts[name][_said(value)] += 1
    names = sorted(counts, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return [*(Fact(name.replace("_", " "), tuple(counts[name].most_common())) for name in names), *_made(grid)]


def _made(grid: Grid) -> list[Fact]:
    times = sorted(str(record.about["made"]) for record in grid.records if record.about.get("made"))
    if not times:
        return []
    first, last = (time.replace("T", " ").replace("Z", " UTC") for time in (times[0], times[-1]))
    return [Fact("planned", ((first if first == last else f"{first} to {last}", len(times)),))]


def hyperparameters(grid: Grid) -> list[tuple[str, tuple[tuple[str, int], ...]]]:
    """For each attack, every repr with which it ran, and in how many cells."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for record in grid.records:
        for stage in record.cell.stages:
            found[stage.name].update(dict.fromkeys(stage.attacks, 1))
    return [(name, tuple(counts.items())) for name, counts in found.items()]


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_said(inner) for inner in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)
