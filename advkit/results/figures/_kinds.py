"""The registry of kinds, and from a store to a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from advkit.errors import InputError
from advkit.registry import Registry
from advkit.results.figures._choice import Chosen, choose, narrowed, scenes
from advkit.results.figures._paper import check_suffix, paper, save
from advkit.results.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "build", "draw", "draw_all"]

KINDS: Registry[Figure] = Registry("figure", "advkit.results.figures")


def build(
    grid: Grid,
    kind: str,
    *,
    where: Sequence[str] = (),
    eps: str | None = None,
    attack: str | None = None,
    width: float | None = None,
) -> Figure:
    """The figure of one kind, to be changed or shown; ``draw`` writes it."""
    make = KINDS[kind].factory
    chosen = choose(grid, where=where, eps=eps, attack=attack, width=width)
    with paper():
        return make(chosen)


def draw(
    grid: Grid,
    kind: str,
    path: Path,
    *,
    where: Sequence[str] = (),
    eps: str | None = None,
    attack: str | None = None,
    width: float | None = None,
    dpi: int = 300,
) -> None:
    """Draw one kind of figure into a .png, .svg or .pdf; the same store gives the same bytes."""
    check_suffix(path)
    save(build(grid, kind, where=where, eps=eps, attack=attack, width=width), path, dpi)


def draw_all(
    grid: Grid,
    folder: Path,
    *,
    where: Sequence[str] = (),
    eps: str | None = None,
    attack: str | None = None,
    width: float | None = None,
    dpi: int = 300,
    suffix: str = ".png",
) -> dict[str, Path | str]:
    """Draw every kind, for each data set, norm and goal: by the kind's name the file, or the reason why there is none."""
    chosen = narrowed(grid, where=where, eps=eps, attack=attack, width=width)
    every = scenes(chosen)
    done: dict[str, Path | str] = {}
    for scene in every:
        varying = [value for place, (_, value) in enumerate(scene) if len({other[place] for other in every}) > 1]
        for kind in KINDS.names():
            name = _file_name("-".join((kind, *varying)))
            try:
                with paper():
                    figure = KINDS[kind].factory(_only(chosen, scene))
            except InputError as error:
                done[name] = str(error)
                continue
            done[name] = folder / f"{name}{suffix}"
            save(figure, folder / f"{name}{suffix}", dpi)
    return done


def _only(chosen: Chosen, scene: tuple[tuple[str, str], ...]) -> Chosen:
    data, norm, goal = (value for _, value in scene)
    kept = [line for line in chosen.grid.lines if (line.data, line.cell.norm, line.cell.goal) == (data, norm, goal)]
    return replace(chosen, grid=replace(chosen.grid, lines=tuple(kept)))


def _file_name(text: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in text)
