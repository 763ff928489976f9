"""A stretch of a cell's examples: an attack, stage by stage, at every radius; what comes out is the facts of a shard."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.goal import Goal
from advkit.data import Data
from advkit.engine.carry import Carry
from advkit.engine.controls import run_controls
from advkit.engine.examples import Finished, Progress, Source
from advkit.engine.passes import Passes
from advkit.engine.search import Found, search
from advkit.engine.transfer import Made, transfer
from advkit.results.cell import Bools, Facts, Numbers, Picture
from advkit.results.files import to_8_bits

__all__ = ["Part", "attack_span", "clean_span"]

Stages = Sequence[tuple[str, Sequence[Attack], bool]]
"""For each stage its name, the attack at each radius, and whether one search is to serve all radii."""

Watch = Callable[[str], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class Part:
    """n examples of a data set, in its order: their places in it, labels, answers without attack and goal."""

    data: Data
    index: Tensor
    labels: Tensor
    clean: Tensor
    goal: Goal


def clean_span(part: Part) -> Facts:
    """The facts without attack."""
    count = len(part.index)
    none = np.zeros((0, 0, count))
    index, labels, clean = (tensor.numpy() for tensor in (part.index, part.labels, part.clean))
    return Facts(index, labels, clean, none > 0, none > 0, none, none, none, none, none, none > 0)


def attack_span(
    passes: Passes,
    part: Part,
    stages: Stages,
    *,
    seed: int,
    keep_pictures: int,
    watch: Watch,
    surrogate: Passes | None = None,
    made: Made | None = None,
) -> tuple[Facts, list[Picture]]:
    """Every stage on what the ones before it left standing, at each radius.

    With a ``surrogate``, the attack is made on that model, and ``passes`` only judge what it ends with; ``made`` holds what
    was made on it before.
    Of the data's first ``keep_pictures`` examples, each that is beaten is kept at the smallest radius at which it was.
    """
    found: list[Found] = []
    standing = (part.clean == part.labels).repeat(len(stages[0][1]), 1)
    met: list[Tensor] = []
    seconds = np.zeros((len(stages), len(stages[0][1])))
    gallery = _Gallery(part, keep_pictures)
    source = Source(lambda indices: part.data.pictures(part.index[list(indices)].tolist()), part.goal, place=part.index)
    carry = Carry() if any(attacks[0].resumes for _, attacks, _ in stages[1:]) else None
    for number, (name, attacks, nested) in enumerate(stages):
        began = time.perf_counter()
        begins = source
        if carry is not None and number and attacks[0].resumes:
            begins = carry.into(source, torch.arange(len(part.index)))
        with watch(name) as progress:
            sink = _both(partial(gallery.add, name), carry)
            if surrogate is not None:
                result = transfer(
                    attacks,
                    surrogate,
                    passes,
                    source,
                    standing,
                    part.clean,
                    seed=seed,
                    sink=sink,
                    progress=progress,
                    made=made,
                    index=part.index,
                )
            else:
                result = search(
                    attacks,
                    passes,
                    begins,
                    standing,
                    part.clean,
                    part.labels,
                    seed=seed,
                    nested=nested,
                    # Of a minimal-norm attack alone the distances are asked for; as a stage it may end at a success.
                    keep="best" if attacks[0].minimal and len(stages) == 1 else "first",
                    sink=sink,
                    progress=progress,
                )
        # Radii share the passes, so a radius's time is its share of them.
        passed = (result.forwards + result.backwards).sum(1).double().numpy()
        seconds[number] = (time.perf_counter() - began) * passed / max(1.0, passed.sum())
        found.append(result)
        met.append(standing)
        standing = standing & (result.prediction == part.labels)
        if carry is not None:
            carry.keep(standing.any(0).nonzero().squeeze(1))

    def stacked(name: str) -> Numbers:
        values: Numbers = torch.stack([getattr(each, name) for each in found]).numpy()
        return values

    facts = Facts(
        index=part.index.numpy(),
        labels=part.labels.numpy(),
        clean=part.clean.numpy(),
        attacked=torch.stack(met).numpy(),
        success=stacked("success"),
        prediction=stacked("prediction"),
        distance=stacked("distance"),
        steps=stacked("steps"),
        forwards=stacked("forwards"),
        backwards=stacked("backwards"),
        tested=stacked("tested"),
        seconds=seconds,
        controls=_controls(passes, part, source, stages, seed),
    )
    return facts, gallery.pictures(stages)


def _both(sink: Callable[[Finished], None], carry: Carry | None) -> Callable[[Finished], None]:
    """A sink that also hands on what stands, where a later stage asks for it."""

    def take(finished: Finished) -> None:
        sink(finished)
        if carry is not None:
            carry.add(finished)

    return take


def _controls(passes: Passes, part: Part, source: Source, stages: Stages, seed: int) -> dict[str, Bools]:
    """Of an attack of one stage, what its controls beat at each radius, (R, n) by name."""
    if len(stages) > 1:
        return {}
    at = [run_controls(attack, passes, source, part.clean, part.labels, seed) for attack in stages[0][1]]
    return {name: torch.stack([found[name] for found in at]).numpy() for name in at[0]}


class _Gallery:
    """Of each of the first few examples of the data, the picture that beat it at the smallest radius."""

    def __init__(self, part: Part, most: int) -> None:
        self.part, self.most = part, most
        self._best: dict[int, tuple[int, str, int, float, Tensor]] = {}

    def add(self, stage: str, done: Finished) -> None:
        """Look through what a run has finished."""
        wanted = done.success.cpu() & (self.part.index[done.example] < self.most)
        for row in wanted.nonzero().squeeze(1).tolist():
            place, rung = int(done.example[row]), int(done.rung[row])
            if place not in self._best or rung < self._best[place][0]:
                prediction, distance = int(done.prediction[row]), float(done.distance[row])
                self._best[place] = (rung, stage, prediction, distance, done.x_adv[row].detach().cpu().clone())

    def pictures(self, stages: Stages) -> list[Picture]:
        """What was kept, rounded to 8 bits towards the clean picture; pictures of one or three channels only."""
        radii = [attack.threat.eps.exact for attack in stages[0][1]]
        found = []
        for place, (rung, stage, prediction, distance, x_adv) in sorted(self._best.items()):
            index = int(self.part.index[place])
            x = self.part.data.pictures([index])[0]
            if x.ndim != 3 or len(x) not in (1, 3):
                continue
            levels = to_8_bits(x_adv, x)
            found.append(
                Picture(
                    index=index,
                    label=int(self.part.labels[place]),
                    prediction=prediction,
                    stage=stage,
                    eps=radii[rung],
                    distance=distance,
                    x=(x * 255).round().to(torch.uint8).numpy(),
                    x_adv=levels.numpy(),
                )
            )
        return found
