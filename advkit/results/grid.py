"""What a store says, line by line: one line for each model, defense, data set, attack and radius. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from advkit.results.cell import Bools, Cell, Facts, Numbers
from advkit.results.statistics import Share, share
from advkit.results.store import Record, Store, Study

__all__ = ["WORST", "Grid", "Line", "load_grid"]

WORST = "worst case"
NONE = "none"


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
    def classes(self) -> Sequence[str]:
        """The names of the classes, where known."""
        return tuple(self.record.about.get("classes", ()))

    @property
    def n(self) -> int:
        """Examples."""
        return len(self.index)

    @property
    def complete(self) -> bool:
        """Whether all examples that the sweep asked for are done."""
        return self.n >= self.wanted

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
            "attack": self.attack,
            "eps": self.eps,
            "accuracy": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "success": self.success,
            "median_distance": self.median_distance,
            "forwards": self.forwards,
            "backwards": self.backwards,
            "seconds": round(self.seconds, 3),
            "clean": self.clean_accuracy.value,
            "complete": self.complete,
        }


@dataclass(frozen=True)
class Grid:
    """All lines of a store: without attack, under each attack, and in the worst case."""

    folder: Path
    lines: tuple[Line, ...]  # under an attack
    clean: tuple[Line, ...]  # without
    study: Study | None = None
    hidden: int = 0  # cells that a newer version of the code, or a newer run, has replaced
    records: tuple[Record, ...] = field(default=(), repr=False)

    @cached_property
    def worst(self) -> tuple[Line, ...]:
        """For each setting, threat and radius, the examples that stand under every attack there is at this radius."""
        groups: dict[tuple[object, ...], dict[str, Line]] = {}
        for line in self.lines:  # of an attack's stages the last one counts, which is the last line
            key = (line.cell.setting, line.cell.threat, line.cell.precision, line.eps)
            groups.setdefault(key, {})[line.cell.key] = line
        return tuple(_worst(list(group.values())) for group in groups.values())

    def to_json(self) -> dict[str, Any]:
        """The stable form of a sweep."""
        return {
            "cells": [line.to_json() for line in self.lines],
            "clean": [line.to_json() for line in self.clean],
            "worst": [line.to_json() for line in self.worst],
        }


def load_grid(folder: Path, *, outdated: bool = False) -> Grid:
    """Read a store. Cells that newer code has made again are left out, unless ``outdated`` ones are asked for.

    Raises InputError where the folder is no store.
    """
    store = Store(folder).check()
    study = store.study()
    found = store.records()
    kept = found if outdated else _newest(found, study)
    order = {key: place for place, key in enumerate(study.samples)} if study else {}
    kept = sorted(kept, key=lambda record: order.get(record.cell.key, len(order)))
    lines: list[Line] = []
    clean: list[Line] = []
    for record in kept:
        wanted = study.samples.get(record.cell.key) if study else None
        facts = store.facts(record.cell, wanted)
        if facts is None:
            continue
        (lines if record.cell.stages else clean).extend(_lines(record, facts, len(facts) if wanted is None else wanted))
    return Grid(folder, tuple(lines), tuple(clean), study, len(found) - len(kept), tuple(kept))


def _newest(records: Sequence[Record], study: Study | None) -> list[Record]:
    """Of the cells that differ in code alone, the one that the last sweep asked for, else the one made last."""
    wanted = study.samples if study else {}
    best: dict[tuple[object, ...], Record] = {}
    for record in records:
        old = best.get(record.cell.kind)
        if old is None or _age(record, wanted) > _age(old, wanted):
            best[record.cell.kind] = record
    return list(best.values())


def _age(record: Record, wanted: Iterable[str]) -> tuple[bool, str]:
    return (record.cell.key in wanted, str(record.about.get("made", "")))


def _lines(record: Record, facts: Facts, wanted: int) -> list[Line]:
    cell, correct = record.cell, facts.correct
    if not cell.stages:
        return [
            Line(
                record,
                NONE,
                None,
                facts.index,
                facts.labels,
                correct,
                correct,
                wanted,
                prediction=facts.clean,
                forwards=int(facts.forwards.sum()),
                seconds=float(facts.seconds.sum()),
            )
        ]
    return [
        Line(
            record=record,
            attack=stage.name,
            eps=eps,
            index=facts.index,
            labels=facts.labels,
            clean=correct,
            stands=facts.stands[s, r],
            wanted=wanted,
            follows=cell.stages[s - 1].name if s else "",
            prediction=facts.prediction[s, r],
            distance=np.where(facts.attacked[s, r] & facts.success[s, r], facts.distance[s, r], np.nan),
            forwards=int(facts.forwards[s, r].sum()),
            backwards=int(facts.backwards[s, r].sum()),
            seconds=float(facts.seconds[s, r]),
        )
        for r, eps in enumerate(cell.radii)
        for s, stage in enumerate(cell.stages)
    ]


def _worst(lines: Sequence[Line]) -> Line:
    """The examples that stand under all of these lines, among those that all of them have."""
    index = reduce(np.intersect1d, (line.index for line in lines))
    first = lines[0]
    places = [np.searchsorted(line.index, index) for line in lines]
    return Line(
        record=first.record,
        attack=WORST,
        eps=first.eps,
        index=index,
        labels=first.labels[places[0]],
        clean=first.clean[places[0]],
        stands=np.all([line.stands[place] for line, place in zip(lines, places, strict=True)], axis=0),
        wanted=max(line.wanted for line in lines),
        forwards=sum(line.forwards for line in lines),
        backwards=sum(line.backwards for line in lines),
        seconds=sum(line.seconds for line in lines),
    )
