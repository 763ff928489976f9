"""All inputs, by kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from fuzzing import arrays, facade, options, right, stored, weights, written
from fuzzing.case import Case

__all__ = ["KINDS", "catalogue"]

_MAKERS: dict[str, Callable[..., Iterator[Case]]] = {
    "numbers": options.numbers,
    "paths": options.paths,
    "names": options.names,
    "settings": options.settings,
    "keys": stored.keys,
    "documents": stored.documents,
    "damage": stored.damage,
    "planted": stored.planted,
    "written": written.written,
    "arrays": arrays.arrays,
    "weights": weights.weights,
    "models": facade.models,
    "facade": facade.facade,
    "tuned": facade.tuned,
    "publics": facade.publics,
    "right": right.right,
    "process": right.process,
}
_DRAW = {"keys", "damage"}
KINDS = tuple(_MAKERS)


def catalogue(seed: int, kinds: Iterable[str]) -> list[Case]:
    """The inputs of these kinds; those that are drawn, from the seed."""
    return [
        case
        for kind in kinds
        for case in (_MAKERS[kind](random.Random(f"{seed} {kind}")) if kind in _DRAW else _MAKERS[kind]())
    ]
