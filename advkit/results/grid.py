"""What a store says, line by line: one line for each model, defense, data set, attack and radius. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from advkit.results.asked import Asked
from advkit.results.cell import Bools, Cell, Facts, Numbers, not_oblivious, via
from advkit.results.doubt import Doubt
from advkit.results.statistics import Share, controls_json, share
from advkit.results.store import Record, Store, Study

__all__ = ["ITSELF", "NONE", "UNDEFENDED", "WORST", "Grid", "Line", "load_grid", "made_on", "newest", "wholes"]

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
            **({"surrogate": self.surrogate} if self.surrogate and not self.over else {}),
            "clean": self.clean_accuracy.value,
            "complete": self.complete,
            **controls_json(self.controls),
            **({"made_up": True} if self.made_up else {}),
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
    waiting: tuple[Record, ...] = field(default=(), repr=False)  # cells that the sweep asked for, with nothing done yet
    asked: tuple[tuple[Line, tuple[Asked, ...]], ...] = field(default=(), repr=False)
    """What each model, behind its defense, was asked before it was attacked, beside its line without attack."""

    @cached_property
    def worst(self) -> tuple[Line, ...]:
        """For each setting, threat and radius, the examples that stand under every attack there is at this radius.

        Outdated lines do not count: what they attacked may be another model or defense by now.
        """
        groups: dict[tuple[object, ...], list[Line]] = {}
        for line in wholes(self.lines):
            if not line.outdated:
                key = (line.cell.setting, line.cell.threat, line.cell.precision, line.eps)
                groups.setdefault(key, []).append(line)
        waiting: dict[tuple[object, ...], set[str]] = {}
        for record in self.waiting:
            cell = record.cell
            for eps in cell.radii:
                key = (cell.setting, cell.threat, cell.precision, eps)
                waiting.setdefault(key, set()).add(cell.attack)
        found = (_worst(group, waiting.get(key, ())) for key, group in groups.items())
        return tuple(line for line in found if line.n)

    def to_json(self) -> dict[str, Any]:
        """The stable form of a sweep."""
        return {
            "cells": [line.to_json() for line in self.lines],
            "clean": [line.to_json() for line in self.clean],
            "worst": [line.to_json() for line in self.worst],
            "doubts": [doubt.to_json() for doubt in self.doubts],
        }

    @property
    def doubts(self) -> list[Doubt]:
        """What the models' own answers say against their numbers; the same of several models is said once."""
        said: dict[Asked, list[str]] = {}
        for line, answers in self.asked:
            for each in answers:
                if each.level == "fail":
                    said.setdefault(each, []).append(line.setting)
        return [
            Doubt(each.code, f"{', '.join(dict.fromkeys(settings))}: {each.sentence}", each.advice)
            for each, settings in said.items()
        ]


def made_on(record: Record) -> str:
    """What a cell's attack was made on: a surrogate by name, ``itself``, or ``undefended`` for itself without its defense."""
    if not record.cell.stages:
        return ""
    return str(record.about.get("surrogate") or (UNDEFENDED if record.cell.surrogate else ITSELF))


def lines_of(record: Record, facts: Facts, wanted: int) -> list[Line]:
    """The lines of one cell."""
    return _lines(record, _Shared(), facts, wanted, False)


def load_grid(folder: Path, *, outdated: bool = False, only: Collection[str] | None = None) -> Grid:
    """Read a store. Cells that newer code has made again are left out, unless ``outdated`` ones are asked for.

    ``only`` reads the cells with these keys.

    Raises InputError where the folder is no store.
    """
    store = Store(folder).check()
    study = store.study()
    found = [record for record in store.records() if only is None or record.cell.key in only]
    fresh = newest(found, study)
    current = {record.cell.key for record in fresh}
    kept = found if outdated else fresh
    order = {key: place for place, key in enumerate(study.samples)} if study else {}
    kept = sorted(kept, key=lambda record: order.get(record.cell.key, len(order)))
    lines: list[Line] = []
    clean: list[Line] = []
    asked: list[tuple[Line, tuple[Asked, ...]]] = []
    waiting: list[Record] = []
    shared = _Shared()
    for record in kept:
        wanted = study.samples.get(record.cell.key) if study else None
        facts = store.facts(record.cell, wanted)
        if facts is None:
            waiting += [record] if wanted else []
            continue
        old = record.cell.key not in current
        made = _lines(record, shared, facts, len(facts) if wanted is None else wanted, old)
        (lines if record.cell.stages else clean).extend(made)
        if not record.cell.stages and (answers := store.asked(record.cell)) is not None:
            asked.append((made[0], answers))
    return Grid(
        folder,
        tuple(lines),
        tuple(clean),
        study,
        hidden=len(found) - len(kept),
        records=tuple(kept),
        waiting=tuple(waiting),
        asked=tuple(asked),
    )


def newest(records: Sequence[Record], study: Study | None) -> list[Record]:
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


class _Shared:
    """Keeps one of equal arrays: the cells of a sweep have the same examples, and 10,000 of them fill the memory."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, bytes], Numbers] = {}

    def __call__(self, array: Numbers) -> Numbers:
        """The array held already that equals this one, else this one."""
        return self._held.setdefault((array.dtype.str, array.tobytes()), array)


def _lines(record: Record, shared: _Shared, facts: Facts, wanted: int, outdated: bool) -> list[Line]:
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


def _worst(lines: Sequence[Line], lacking: Iterable[str]) -> Line:
    """The examples that stand under all of these lines, among those that all of them have."""
    first = lines[0]
    if all(line.index is first.index for line in lines):
        index, labels, clean, standing = first.index, first.labels, first.clean, [line.stands for line in lines]
    else:
        index = reduce(np.intersect1d, (line.index for line in lines))
        places = [np.searchsorted(line.index, index) for line in lines]
        labels, clean = first.labels[places[0]], first.clean[places[0]]
        standing = [line.stands[place] for line, place in zip(lines, places, strict=True)]
    return Line(
        record=first.record,
        attack=WORST,
        eps=first.eps,
        index=index,
        labels=labels,
        clean=clean,
        stands=np.logical_and.reduce(standing),
        wanted=max(line.wanted for line in lines),
        forwards=sum(line.forwards for line in lines),
        backwards=sum(line.backwards for line in lines),
        seconds=sum(line.seconds for line in lines),
        over=tuple(sorted({not_oblivious(line.title) for line in lines})),
        lacking=tuple(sorted(lacking)),
    )
