"""A recipe file: a training as TOML, checked key by key; and an objective from its text, with a radius.

[train]       what is trained by which objective: model, data, defense, eps ...
[model]       settings of the model         [data]   settings of the data set
[recipe]      the fields of Recipe
[published]   the numbers that it should reach, and where they stand: clean, robust, by, source
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from advkit.core.defense import Objective
from advkit.core.threat import BALLS, Ball
from advkit.documents import DocumentError, read_toml
from advkit.engine.defend import build_objective
from advkit.engine.toml import toml_value
from advkit.engine.training.recipe import Recipe
from advkit.errors import InputError, UnknownName, nearest
from advkit.registry import Entry

__all__ = ["RecipeFile", "aimed", "read_recipe", "recipe_of"]

_TRAIN: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "weights": (str,),
    "normalize": (str,),
    "data": (str,),
    "defense": (str,),
    "eps": (str, int, float),
    "norm": (str,),
    "samples": (int,),
    "held_out": (str,),
    "variant": (str,),
}
_PUBLISHED: dict[str, tuple[type, ...]] = {
    "clean": (int, float),
    "robust": (int, float),
    "by": (str,),
    "source": (str,),
}
_TABLES = ("train", "model", "data", "recipe", "published")
_WORDS = {str: "a text", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class RecipeFile:
    """The tables of a recipe file."""

    train: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)

    @property
    def promised(self) -> str:
        """What it should reach, as a sentence; empty where it does not say."""
        said = self.published
        parts = [f"{said['clean']} % without attack"] if "clean" in said else []
        parts += [f"{said['robust']} % under {said.get('by', 'attack')}"] if "robust" in said else []
        where = f" ({said['source']})" if "source" in said else ""
        return f"{' and '.join(parts)}{where}" if parts else ""


def read_recipe(path: Path) -> RecipeFile:
    """Raises InputError, with file, table and key, for what cannot be used."""
    try:
        tables = read_toml(path)
    except DocumentError as error:
        raise InputError(f"{path}, a recipe, cannot be read: {error.why}; those of advkit are in recipes/.") from None
    for name, table in tables.items():
        if name not in _TABLES:
            home = next(
                (f" It belongs under [{n}]." for n, keys in _HOMES.items() if name in keys), nearest(name, _TABLES)
            )
            raise InputError(f"{path}: there is no key {name!r} here.{home} Known: {', '.join(_TABLES)}.")
        if not isinstance(table, dict):
            raise InputError(f"{path}: {name} is {toml_value(table)}; write a table, [{name}].")
    for name, allowed in (("train", _TRAIN), ("published", _PUBLISHED)):
        for key, value in tables.get(name, {}).items():
            if key.replace("-", "_") not in allowed:
                known = ", ".join(allowed)
                raise InputError(f"{path}: [{name}] has no key {key!r}.{nearest(key, allowed)} Known: {known}.")
            kinds = allowed[key.replace("-", "_")]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise InputError(f"{path}: {key} is {toml_value(value)}; give {' or '.join(_WORDS[k] for k in kinds)}.")
    found = {name: {key.replace("-", "_"): value for key, value in table.items()} for name, table in tables.items()}
    try:
        recipe_of(found.get("recipe", {}))
    except InputError as error:
        raise InputError(f"{path}: [recipe]: {error}") from error
    return RecipeFile(**found)


def recipe_of(settings: Mapping[str, object]) -> Recipe:
    """The recipe of these settings, numbers or texts. Raises InputError, with the nearest name, for one that it lacks."""
    return Entry("recipe", Recipe, __name__).create(**settings)


_HOMES = {"train": tuple(_TRAIN), "recipe": tuple(f.name for f in fields(Recipe)), "published": tuple(_PUBLISHED)}


def aimed(text: str, settings: Mapping[str, str], eps: str | float | None, norm: str | None = None) -> Objective:
    """The objective that a text and settings describe, in a ball of this radius and norm (its own where None).

    Raises InputError.
    """
    if "threat" in settings:
        raise InputError("the threat is set by --norm and --eps, for example --norm l2 --eps 0.5.")
    if norm is not None and norm.lower() not in BALLS:
        raise UnknownName("norm", norm, BALLS)
    if norm is not None and eps is None:
        raise InputError(f"--norm {norm} is given without a radius; give --eps too, for example --norm l2 --eps 0.5.")
    objective = build_objective(text, **settings)
    if eps is None:
        return objective
    changed = _within(objective, eps, norm)
    if changed is None:
        name = text.partition(":")[0]
        raise InputError(f"--eps reaches nothing: {name} trains on pictures as they are. Try --defense pgd-at.")
    return changed


def _within(objective: Objective, eps: str | float, norm: str | None) -> Objective | None:
    """The objective with another ball, its own or that of the one inside; None where neither has one."""
    if not is_dataclass(objective) or isinstance(objective, type):
        return None
    for known in fields(objective):
        value = getattr(objective, known.name)
        if isinstance(value, Ball):
            ball: Any = type(value) if norm is None else BALLS[norm.lower()]
            return replace(objective, **{known.name: ball(eps)})
        if isinstance(value, Objective) and (inner := _within(value, eps, norm)) is not None:
            return replace(objective, **{known.name: inner})
    return None
