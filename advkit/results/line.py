"""What a cell of a store says, line by line: one for each stage of its attack and each radius. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np

from advkit.results.cell import Bools, Cell, Facts, Numbers, not_oblivious, via
from advkit.results.row_json import controls_json, row_json
from advkit.results.statistics import Share, share
from advkit.results.store import Record

__all__ = ["ITSELF", "NONE", "UNDEFENDED", "WORST", "Line", "Shared", "lines_of", "made_on", "wholes"]

WORST = "worst case"
NONE = "none"
ITSELF, UNDEFENDED = "itself", "undefended"


@dataclass(frozen=True)
class Line:
    """A model behind a defense under one attack at one radius: which examples stand, and what it took.

    The line without attack has no radius; the ``worst case`` at a radius has no passes of its own.
    """

    record: Record
    attack: str
    eps: str | None
    index: Numbers  # (n,) places in the data
    labels: Numbers  # (n,)
    clean: Bools  # (n,) right without attack
    stands: Bools  # (n,) right under the attack
    wanted: int  # examples that the sweep asked for
    follows: str = ""  # the stage whose survivors this one met
    prediction: Numbers | None = None  # (n,) under the attack
    distance: Numbers | None = None  # (n,) NaN where the attack did not succeed
    forwards: int = 0
    backwards: int = 0
    seconds: float = 0.0
    over: tuple[str, ...] = ()  # a worst case: the attacks it is taken over
    lacking: tuple[str, ...] = ()  # a worst case: those that the sweep asked for, and of which nothing is done yet
    outdated: bool = False  # newer code, or a newer run, has made the same again
    beaten: Mapping[str, Bools] = field(default_factory=dict)  # by control, (n,)

    @property
    def cell(self) -> Cell:
        """Where the line comes from; for a worst case, one of the cells."""
        return self.record.cell

    @property
    def model(self) -> str:
        """The model's name."""
        return self.cell.model

    @property
    def weights(self) -> str:
        """Where its weights came from, in words."""
        return str(self.record.about.get("weights", ""))

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.record.about.get("data", ""))

    @property
    def defense(self) -> str:
        """What stands in front of the model."""
        return self.cell.defense

    @property
    def setting(self) -> str:
        """The model and what stands in front of it, in words."""
        return self.model if self.defense == NONE else f"{self.model} behind {self.defense}"

    @property
    def title(self) -> str:
        """The attack's name: of one of several stages the last has that of the whole, another one its own behind it."""
        if self.over or self.attack == NONE:
            return self.attack
        last = self.attack == self.cell.stages[-1].name
        return self.cell.attack if last else f"{self.cell.attack}: {self.attack}"

    @property
    def surrogate(self) -> str:
        """The model that the pictures were made on, where that is another; empty where it is the model without its defense."""
        return str(self.record.about.get("surrogate") or "")

    @property
    def question(self) -> tuple[object, ...]:
        """What the whole attack, with all its stages, is asked at this radius; the radii beside it may be others."""
        cell = self.cell
        place = cell.radii.index(self.eps) if self.eps else 0
        asked = tuple((stage.name, stage.attacks[place], stage.nested) for stage in cell.stages)
        where = (cell.setting, cell.threat, cell.precision, cell.surrogate, cell.surrogate_hash)
        return (*where, cell.attack, self.eps, asked)

    @property
    def made_on(self) -> str:
        """What the attack was made on: a surrogate by name, ``itself``, or ``undefended`` for itself without its defense."""
        return "" if self.over or self.attack == NONE else made_on(self.record)

    @property
    def method(self) -> str:
        """The attack's name, whatever the pictures were made on."""
        behind = via("", self.surrogate) if self.surrogate else ""
        return not_oblivious(self.title.replace(behind, "") if behind else self.title)

    @property
    def met(self) -> frozenset[str]:
        """Of a worst case the attacks that it is over; a model's own attack counts for what others were shown of it."""
        shown = {name.partition(" via ")[0] for name in self.over if " via " in name}
        return frozenset(self.over) | {via(name, self.model) for name in self.over if name in shown}

    @property
    def made_up(self) -> bool:
        """Whether it was not measured: a script made it, to try tables on."""
        return bool(self.record.about.get("made_up"))

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes, where known."""
        return tuple(self.record.about.get("classes", ()))

    @property
    def n(self) -> int:
        """Examples."""
        return len(self.index)

    @property
    def complete(self) -> bool:
        """Whether all examples that the sweep asked for are done, of a worst case under every attack."""
        return self.n >= self.wanted and not self.lacking

    @cached_property
    def accuracy(self) -> Share:
        """Right under the attack, of all."""
        return share(int(self.stands.sum()), self.n)

    @cached_property
    def clean_accuracy(self) -> Share:
        """Right without attack, of all."""
        return share(int(self.clean.sum()), self.n)

    @property
    def success(self) -> float:
        """Of the examples that are right without attack, the share that the attack, or a stage before it, changed."""
        right = int(self.clean.sum())
        if not right:
            return 0.0
        if self.follows or self.distance is None:
            return (right - int((self.stands & self.clean).sum())) / right
        return int(np.isfinite(self.distance).sum()) / right

    @property
    def median_distance(self) -> float | None:
        """Of the successes."""
        found = np.empty(0) if self.distance is None else self.distance[np.isfinite(self.distance)]
        return float(np.partition(found, (len(found) - 1) // 2)[(len(found) - 1) // 2]) if len(found) else None

    @property
    def controls(self) -> tuple[tuple[str, Share], ...]:
        """Success of each control, of the examples that are right without attack."""
        right = int(self.clean.sum())
        return tuple((name, share(int(found.sum()), right)) for name, found in self.beaten.items()) if right else ()

    def to_json(self) -> dict[str, Any]:
        """The stable form: the fields of a row of ``advkit attack``, and what the row is of."""
        return {
            "model": self.model,
            "weights": self.weights,
            "defense": self.defense,
            "data": self.data,
            "n": self.n,
            "norm": self.cell.norm,
            "goal": self.cell.goal,
            "seed": self.cell.seed,
            **row_json(self),
            **({"surrogate": self.surrogate} if self.surrogate and not self.over else {}),
            "clean": self.clean_accuracy.value,
            "complete": self.complete,
            **controls_json(self.controls),
            **({"made_up": True} if self.made_up else {}),
        }


def made_on(record: Record) -> str:
    """What a cell's attack was made on: a surrogate by name, ``itself``, or ``undefended`` for itself without its defense."""
    if not record.cell.stages:
        return ""
    return str(record.about.get("surrogate") or (UNDEFENDED if record.cell.surrogate else ITSELF))


class Shared:
    """Keeps one of equal arrays: the cells of a sweep have the same examples, and 10,000 of them fill the memory."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, bytes], Numbers] = {}

    def __call__(self, array: Numbers) -> Numbers:
        """The array held already that equals this one, else this one."""
        return self._held.setdefault((array.dtype.str, array.tobytes()), array)


def lines_of(
    record: Record, facts: Facts, wanted: int, *, shared: Shared | None = None, outdated: bool = False
) -> list[Line]:
    """The lines of one cell, their arrays kept once by ``shared``."""
    shared = shared or Shared()
    cell = record.cell
    index, labels, correct = shared(facts.index), shared(facts.labels), shared(facts.correct)
    if not cell.stages:
        return [
            Line(
                record=record,
                attack=NONE,
                eps=None,
                index=index,
                labels=labels,
                clean=correct,
                stands=correct,
                wanted=wanted,
                prediction=facts.clean.copy(),
                forwards=len(index),
                seconds=float(facts.seconds.sum()),
                outdated=outdated,
            )
        ]
    beaten = np.where(facts.attacked & facts.success, facts.distance, np.nan)
    prediction = facts.prediction.copy()  # a view would hold the whole file in memory
    return [
        Line(
            record=record,
            attack=stage.name,
            eps=eps,
            index=index,
            labels=labels,
            clean=correct,
            stands=facts.stands[s, r],
            wanted=wanted,
            follows=cell.stages[s - 1].name if s else "",
            prediction=prediction[s, r],
            distance=beaten[s, r],
            forwards=int(facts.forwards[s, r].sum()),
            backwards=int(facts.backwards[s, r].sum()),
            seconds=float(facts.seconds[s, r]),
            outdated=outdated,
            beaten={name: found[r].copy() for name, found in facts.controls.items()},
        )
        for r, eps in enumerate(cell.radii)
        for s, stage in enumerate(cell.stages)
    ]


def wholes(lines: Iterable[Line]) -> list[Line]:
    """Each attack once at each radius: of several stages the last line, with the passes, time and distances of all."""
    groups: dict[tuple[str, str | None], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.cell.key, line.eps), []).append(line)
    return [_whole(group) if len(group) > 1 else group[0] for group in groups.values()]


def _whole(stages: Sequence[Line]) -> Line:
    known = [stage.distance for stage in stages if stage.distance is not None]
    return replace(
        stages[-1],
        # Each stage met what those before it left standing: at most one of them beat an example.
        distance=reduce(lambda one, other: np.where(np.isnan(one), other, one), known) if known else None,
        forwards=sum(stage.forwards for stage in stages),
        backwards=sum(stage.backwards for stage in stages),
        seconds=sum(stage.seconds for stage in stages),
    )
