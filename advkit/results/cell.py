"""What a sweep stores: cells, and the facts of their examples. No torch, so that a table of a large store is there at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from advkit.hashes import sha256

__all__ = [
    "Bools",
    "Cell",
    "Facts",
    "Numbers",
    "Picture",
    "Stage",
    "UnknownFields",
    "not_oblivious",
    "oblivious",
    "via",
]

Bools = npt.NDArray[np.bool_]
Numbers = npt.NDArray[Any]


_OBLIVIOUS = " (oblivious)"
_CONTROL = "control "  # begins the name of an array that holds what a control beat


def oblivious(attack: str) -> str:
    """The name of an attack made on a model without its defense and replayed on the model with it."""
    return attack + _OBLIVIOUS


def not_oblivious(attack: str) -> str:
    """The name of the attack itself."""
    return attack.removesuffix(_OBLIVIOUS)


def via(attack: str, surrogate: str) -> str:
    """The name of an attack made on another model and shown to the one that is evaluated."""
    return f"{attack} via {surrogate}"


class UnknownFields(ValueError):
    """A cell of a newer advkit, which names what this one does not know."""


@dataclass(frozen=True)
class Stage:
    """One attack at each radius of a cell: its name and its repr, which holds every hyper-parameter."""

    name: str
    attacks: tuple[str, ...]  # one for each radius
    nested: bool = False  # one search over all radii, not one at each


@dataclass(frozen=True)
class Cell:
    """One model behind one defense, one data set, one attack at its radii: the unit of a sweep and of its store.

    An attack of several stages has several; the cell without attack has none, and no radii.
    """

    model: str
    model_hash: str
    data_hash: str
    attack: str = "none"
    stages: tuple[Stage, ...] = ()
    norm: str = ""
    radii: tuple[str, ...] = ()  # exact texts, ascending
    defense: str = "none"
    goal: str = "untargeted"
    seed: int = 0
    precision: str = "auto"
    surrogate: str = ""  # the model on which the adversarial pictures were made, where that is another
    surrogate_hash: str = ""
    code: str = ""  # what of advkit's own code decides the numbers
    defense_hash: str = ""  # of the weights that the defense holds, where it holds some
    attack_hash: str = ""  # of the files and data that the attack's settings name, where they name some
    surrogate_code: str = ""  # what of the surrogate's code decides the numbers
    unknown: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """Fields that the advkit which wrote the cell did not know: they are no part of its key."""

    @cached_property
    def key(self) -> str:
        """The name of the cell's folder: a hash of all that decides its numbers."""
        return sha256(json.dumps(self.to_json(), sort_keys=True))[:20]

    @cached_property
    def kind(self) -> tuple[object, ...]:
        """What the cell is of, whatever code made it."""
        return tuple(getattr(self, name) for name in _FIELDS if name not in ("code", "surrogate_code"))

    @property
    def title(self) -> str:
        """For progress and errors: the attack and what it is on."""
        behind = "" if self.defense == "none" else f" behind {self.defense}"
        return f"{self.attack} on {self.model}{behind}"

    @property
    def setting(self) -> tuple[str, ...]:
        """Model, weights, defense, data: what is attacked."""
        return (self.model, self.model_hash, self.defense, self.defense_hash, self.data_hash)

    @property
    def threat(self) -> tuple[str, str, int]:
        """Norm, goal and seed: attacks are compared, and their worst case taken, only where these are the same."""
        return (self.norm, self.goal, self.seed)

    @property
    def clean(self) -> Cell:
        """The cell without attack that belongs to this one."""
        return Cell(
            self.model,
            self.model_hash,
            self.data_hash,
            defense=self.defense,
            defense_hash=self.defense_hash,
            code=self.code,
            unknown=self.unknown,
        )

    def to_json(self) -> dict[str, Any]:
        """All that names the cell, for cell.json."""
        # dataclasses.asdict copies deeply, which takes ten times as long.
        found = {name: getattr(self, name) for name in _FIELDS if name not in self.unknown}
        for name in _LATER:
            if not found.get(name):  # so that cells of before it have the key that they had
                found.pop(name, None)
        found["stages"] = [{"name": s.name, "attacks": s.attacks, "nested": s.nested} for s in self.stages]
        return found

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """The cell of a cell.json. Raises UnknownFields for one of a newer advkit."""
        if newer := set(found).difference(_FIELDS):
            raise UnknownFields(", ".join(sorted(newer)))
        stages = tuple(Stage(s["name"], tuple(s["attacks"]), s["nested"]) for s in found["stages"])
        unknown = tuple(name for name in _FIELDS if name not in found and name not in _LATER)
        return cls(**{**found, "stages": stages, "radii": tuple(found["radii"]), "unknown": unknown})


_FIELDS = tuple(f.name for f in fields(Cell) if f.name != "unknown")
_LATER = ("attack_hash", "surrogate_code")  # named in cell.json only where they say something


@dataclass(frozen=True)
class Facts:
    """The facts of n examples of a cell with S stages and R radii.

    Facts of an example that was not ``attacked`` mean nothing. In a nested search an example was ``tested`` at some radii;
    its facts at the others follow from those.
    """

    index: Numbers  # (n,) places in the data, ascending
    labels: Numbers  # (n,)
    clean: Numbers  # (n,) predictions without attack
    attacked: Bools  # (S, R, n), as all below
    success: Bools
    prediction: Numbers
    distance: Numbers
    steps: Numbers
    forwards: Numbers
    backwards: Numbers
    tested: Bools
    seconds: Numbers = field(default_factory=lambda: np.zeros((0, 0)))  # (S, R): time spent, of all examples together
    controls: Mapping[str, Bools] = field(
        default_factory=dict
    )  # by name, (R, n): what each control beat; of one stage only

    def __len__(self) -> int:
        return len(self.index)

    @property
    def correct(self) -> Bools:
        """(n,) right without attack."""
        right: Bools = self.clean == self.labels
        return right

    @cached_property
    def stands(self) -> Bools:
        """(S, R, n): right without attack, and right still after this stage and those before it."""
        standing: Bools = self.attacked & (self.prediction == self.labels)
        return standing

    def per_example(self) -> dict[str, Numbers]:
        """Every array whose last axis is the example, by name."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("seconds", "controls")}
        # Numbered, for a file gives its arrays back in the order of their names.
        return arrays | {f"{_CONTROL}{n} {name}": beaten for n, (name, beaten) in enumerate(self.controls.items())}

    @classmethod
    def of(cls, arrays: Mapping[str, Numbers], seconds: Numbers) -> Self:
        """The facts of arrays as ``per_example`` names them."""
        numbered = sorted(name for name in arrays if name.startswith(_CONTROL))
        controls = {name.split(" ", 2)[2]: arrays[name] for name in numbered}
        plain = {name: array for name, array in arrays.items() if not name.startswith(_CONTROL)}
        return cls(**plain, seconds=seconds, controls=controls)

    def take(self, rows: Numbers) -> Facts:
        """Some of the examples; the time is that of all."""
        return Facts.of({name: array[..., rows] for name, array in self.per_example().items()}, self.seconds)

    @classmethod
    def joined(cls, parts: Iterable[Facts]) -> Facts:
        """The facts of several shards, each example once, in the order of the data."""
        parts = list(parts)
        if len(parts) == 1:
            return parts[0]
        found = [part.per_example() for part in parts]
        shared = [name for name in found[0] if all(name in each for each in found)]
        arrays = {name: np.concatenate([each[name] for each in found], axis=-1) for name in shared}
        seconds = np.sum([part.seconds for part in parts], axis=0)
        _, rows = np.unique(arrays["index"], return_index=True)
        return cls.of(arrays, seconds).take(rows)


@dataclass(frozen=True)
class Picture:
    """An example that was beaten, for the eye: pictures (C, H, W) in 8 bits, rounded towards the clean one."""

    index: int
    label: int
    prediction: int
    stage: str
    eps: str  # the smallest radius at which it was found beaten
    distance: float
    x: npt.NDArray[np.uint8]
    x_adv: npt.NDArray[np.uint8]
