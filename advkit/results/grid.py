"""What a store says, line by line: without attack, under each attack, and in the worst case. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from advkit.results.asked import Asked
from advkit.results.cell import not_oblivious
from advkit.results.doubt import Doubt
from advkit.results.line import ITSELF, NONE, UNDEFENDED, WORST, Line, Shared, lines_of, made_on, wholes
from advkit.results.reading import Reading
from advkit.results.store import Record, Study
from advkit.results.verdict import FAIL

if TYPE_CHECKING:
    import pandas

__all__ = [
    "ITSELF",
    "NONE",
    "UNDEFENDED",
    "WORST",
    "Grid",
    "Line",
    "lines_of",
    "load_grid",
    "made_on",
    "newest",
    "wholes",
]


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
    uncovered: int = 0  # cells of before there were checksums over whole files

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

    def to_pandas(self, *, examples: bool = False) -> pandas.DataFrame:
        """A data frame: a row for each line, or with ``examples`` for each example under each attack; needs advkit[pandas]."""
        from advkit.results.export import to_pandas

        return to_pandas(self, examples=examples)

    def to_json(self) -> dict[str, Any]:
        """The stable form of a sweep."""
        return {
            "cells": [line.to_json() for line in self.lines],
            "clean": [line.to_json() for line in self.clean],
            "worst": [line.to_json() for line in self.worst],
            "doubts": [doubt.to_json() for doubt in self.doubts],
            "not_covered": self.uncovered,
        }

    @property
    def doubts(self) -> list[Doubt]:
        """What the models' own answers say against their numbers; the same of several models is said once."""
        said: dict[Asked, list[str]] = {}
        for line, answers in self.asked:
            for each in answers:
                if each.level == FAIL:
                    said.setdefault(each, []).append(line.setting)
        return [
            Doubt(each.code, f"{', '.join(dict.fromkeys(settings))}: {each.sentence}", each.advice)
            for each, settings in said.items()
        ]


def load_grid(
    folder: Path, *, outdated: bool = False, only: Collection[str] | None = None, of_study: bool = True
) -> Grid:
    """Read a store. Cells that newer code has made again are left out, unless ``outdated`` ones are asked for.

    ``only`` reads the cells with these keys; not ``of_study`` reads all as if no sweep had asked for some of them.

    Raises InputError where the folder is no store, StoreError where a cell does not hold.
    """
    reading = Reading(folder)
    study = reading.study() if of_study else None
    found = [record for record in reading.records(study) if only is None or record.cell.key in only]
    fresh = newest(found, study)
    current = {record.cell.key for record in fresh}
    kept = found if outdated else fresh
    order = {key: place for place, key in enumerate(study.samples)} if study else {}
    kept = sorted(kept, key=lambda record: order.get(record.cell.key, len(order)))
    lines: list[Line] = []
    clean: list[Line] = []
    asked: list[tuple[Line, tuple[Asked, ...]]] = []
    waiting: list[Record] = []
    shared, uncovered = Shared(), 0
    for record in kept:
        wanted = study.samples.get(record.cell.key) if study else None
        read = reading.facts(record.cell, wanted)
        if read is None:
            waiting += [record] if wanted else []
            continue
        facts, old = read.facts, record.cell.key not in current
        uncovered += not read.covered
        count = len(facts) if wanted is None else wanted
        made = lines_of(record, facts, count, shared=shared, outdated=old)
        (lines if record.cell.stages else clean).extend(made)
        if not record.cell.stages and read.asked is not None:
            asked.append((made[0], read.asked))
    once = lines if outdated else _once(lines, study)
    twice = {line.cell.key for line in lines} - {line.cell.key for line in once}
    return Grid(
        folder,
        tuple(once),
        tuple(clean),
        study,
        hidden=len(found) - len(kept) + len(twice),
        records=tuple(kept),
        waiting=tuple(waiting),
        asked=tuple(asked),
        uncovered=uncovered,
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


def _once(lines: Sequence[Line], study: Study | None) -> list[Line]:
    """Of an attack that two sweeps made at one radius, with others beside it, one: the last sweep's, the longer, the newer."""
    wanted = study.samples if study else {}
    best: dict[tuple[object, ...], Line] = {}

    def rank(line: Line) -> tuple[bool, int, str]:
        in_study, made = _age(line.record, wanted)
        return in_study, line.n, made

    questions = [line.question for line in lines]
    for line, question in zip(lines, questions, strict=True):
        old = best.setdefault(question, line)
        if old.record is not line.record and rank(line) > rank(old):
            best[question] = line
    return [line for line, asked in zip(lines, questions, strict=True) if best[asked].record is line.record]


def _age(record: Record, wanted: Iterable[str]) -> tuple[bool, str]:
    return (record.cell.key in wanted, str(record.about.get("made", "")))


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
