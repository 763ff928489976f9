"""One attack of a table, or one stage of several, on the examples that it meets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from advkit.catalog import ATTACKS
from advkit.core.attack import Attack, Ensemble
from advkit.core.fitted import Applied, Fitted
from advkit.core.goal import Goal
from advkit.core.threat import Ball
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.carry import Carry
from advkit.engine.controls import run_controls
from advkit.engine.examples import Finished, Progress, Source
from advkit.engine.fitting import fit_for
from advkit.engine.passes import Passes
from advkit.engine.run import Run
from advkit.engine.search import Found, search
from advkit.engine.transfer import transfer
from advkit.errors import InputError
from advkit.results.outcome import Control, Evaluation, Outcome

__all__ = ["Attacks", "Observer", "Stage", "replayed", "run_minimal", "run_stage", "stages_of", "unbounded"]

Attacks = str | Attack | Ensemble | Sequence[str | Attack | Ensemble] | Mapping[str, Attack | Ensemble]


def _nobody(name: str) -> AbstractContextManager[Progress | None]:
    return nullcontext(None)


@dataclass(frozen=True)
class Observer:
    """What an evaluation tells while it runs; the defaults listen to nothing."""

    stage: Callable[[str], AbstractContextManager[Progress | None]] = _nobody
    """Opens the progress of one attack (``pgd@8/255``), or of the pass without attack (``clean``)."""
    finished: Callable[[str, Finished], None] = lambda name, finished: None
    """Gets each attack's examples (``pgd@8/255``) as they are finished; ``example`` is the example's place in the data."""
    fitted: Callable[[str, Applied], None] = lambda name, applied: None
    """Gets what was fitted for an attack (``patch@0.05``), before it is shown."""
    row: Callable[[Evaluation], None] = lambda result: None
    """Gets the evaluation so far after each attack."""


@dataclass(frozen=True)
class Stage:
    """An attack of the table by its name there, and the one whose survivors it meets."""

    name: str
    attack: Attack
    follows: str = ""
    replayed: bool = False  # made on another model
    alone: bool = True  # not a stage of several, which have no controls
    carry: Carry | None = None  # between the stages of one ensemble

    @property
    def minimal(self) -> bool:
        """Whether one run for the nearest pictures serves all radii: a stage on survivors stops at a success instead."""
        return self.attack.minimal and self.alone and not self.follows and not self.replayed


def run_stage(
    plan: Stage,
    result: Evaluation,
    passes: Passes,
    surrogate: Passes | None,
    data: Data,
    goal: Goal,
    keep: Literal["first", "best"],
    observer: Observer,
) -> Outcome:
    """One attack on the examples that the model gets right, or on those that stand after the attack it follows."""
    attacked = result.correct
    if plan.follows:
        attacked = result.outcome(plan.follows, plan.attack.threat).stands(result.labels)
    chosen = (attacked & (not plan.attack.threat.is_point)).nonzero().squeeze(1)
    found = Found.nothing(1, result.clean)
    title = f"{plan.name}@{plan.attack.threat.eps.exact}"
    began = time.perf_counter()
    if isinstance(plan.attack, Fitted) and len(chosen):
        made_on = surrogate if plan.replayed and surrogate is not None else passes
        rule = None if result.goal == "untargeted" else result.goal
        with observer.stage(f"{title}, fit") as progress:
            fitted = fit_for(plan.attack, made_on, data, result.classes, rule, result.seed, progress)
        observer.fitted(title, fitted)
        plan = replace(plan, attack=fitted)

    def collect(finished: Finished) -> None:
        where = chosen[finished.example.cpu()]
        found.put(0, where, finished)
        finished = finished._replace(example=where)
        observer.finished(title, finished)
        if plan.carry is not None:
            plan.carry.add(finished)

    if plan.replayed and surrogate is not None and len(chosen):
        source = Source(lambda indices: data.pictures(list(indices)), goal)
        with observer.stage(title) as progress:
            found = transfer(
                [plan.attack],
                surrogate,
                passes,
                source,
                attacked[None],
                result.clean,
                seed=result.seed,
                sink=lambda finished: observer.finished(title, finished),
                progress=progress,
            )
    elif len(chosen):
        source = Source(lambda indices: data.pictures(chosen[list(indices)].tolist()), goal.take(chosen), place=chosen)
        if plan.carry is not None and plan.attack.resumes:
            plan.carry.keep(chosen)
            source = plan.carry.into(source, chosen)
        run = Run(plan.attack, passes, source, seed=result.seed, keep=keep)
        with observer.stage(title) as progress:
            run.go(collect, progress)
        found.forwards[0, chosen], found.backwards[0, chosen] = run.forwards.cpu(), run.backwards.cpu()
    seconds = time.perf_counter() - began
    controls: dict[str, Tensor] = {}
    if plan.alone and bool(result.correct.any()):
        everyone = Source(lambda indices: data.pictures(list(indices)), goal)
        controls = run_controls(plan.attack, passes, everyone, result.clean, result.labels, result.seed)
    return replace(
        _outcome(plan, attacked, found, 0, seconds),
        follows=plan.follows,
        controls=tuple(Control(kind, beaten) for kind, beaten in controls.items()),
        tells="nothing" if plan.replayed else plan.attack.tells,
        surrogate="" if result.surrogate is None else result.surrogate.model,
    )


def unbounded(plan: Stage) -> Attack:
    """The attack of a plan whatever its radius."""
    free: Attack = replace(plan.attack, threat=replace(plan.attack.threat, eps=Eps("inf")))  # type: ignore[type-var]
    return free


def run_minimal(
    family: Sequence[Stage], result: Evaluation, passes: Passes, data: Data, goal: Goal, observer: Observer
) -> dict[Attack, Outcome]:
    """A minimal-norm attack at all of its radii from one run; its passes are counted at the largest."""
    plans = sorted(family, key=lambda plan: plan.attack.threat.eps)
    titles = [f"{plan.name}@{plan.attack.threat.eps.exact}" for plan in plans]
    began = time.perf_counter()

    def collect(finished: Finished) -> None:
        for radius in sorted(set(finished.rung.tolist())):
            here = finished.rung == radius
            observer.finished(titles[radius], Finished(*(column[here.to(column.device)] for column in finished)))

    with observer.stage(titles[-1]) as progress:
        found = search(
            [plan.attack for plan in plans],
            passes,
            Source(lambda indices: data.pictures(list(indices)), goal),
            result.correct.repeat(len(plans), 1),
            result.clean,
            result.labels,
            seed=result.seed,
            nested=True,
            keep="best",
            sink=collect,
            progress=progress,
        )
    seconds = time.perf_counter() - began
    passed = (found.forwards + found.backwards).sum(1).double()
    shares = (passed / passed.sum().clamp_min(1) * seconds).tolist()
    return {
        plan.attack: _outcome(plan, result.correct, found, radius, shares[radius]) for radius, plan in enumerate(plans)
    }


def _outcome(plan: Stage, attacked: Tensor, found: Found, radius: int, seconds: float) -> Outcome:
    return Outcome(
        name=plan.name,
        attack=repr(plan.attack),
        threat=plan.attack.threat,
        attacked=attacked,
        success=found.success[radius],
        prediction=found.prediction[radius],
        distance=found.distance[radius],
        steps=found.steps[radius],
        forwards=found.forwards[radius],
        backwards=found.backwards[radius],
        seconds=seconds,
        tells=plan.attack.tells,
    )


def stages_of(attacks: Attacks, survivors: bool) -> list[Stage]:
    """Attacks in the order in which they run; names are made different where two attacks share one in the same ball."""
    if isinstance(attacks, str | Attack | Ensemble):
        attacks = [attacks]
    if not isinstance(attacks, Iterable):
        raise InputError(
            f"the attacks were given as {type(attacks).__name__}; give a value such as PGD(), a name, or several of these."
        )
    named = attacks.items() if isinstance(attacks, Mapping) else ((None, attack) for attack in attacks)
    plans: list[Stage] = []
    taken: set[tuple[str, Ball]] = set()
    for name, attack in named:
        value = ATTACKS.create(attack) if isinstance(attack, str) else attack
        if not isinstance(value, Attack | Ensemble):
            raise InputError(f"an attack was given as {type(value).__name__}; give a value such as PGD(), or a name.")
        if isinstance(value, Ensemble):
            stages = [(f"{name}/{stage}" if name else stage, part) for stage, part in value.stages]
        else:
            stages = [(name or ATTACKS.name_of(value), value)]
        former = ""
        carry = Carry() if any(part.resumes for _, part in stages[1:]) else None
        for stage, part in stages:
            label = _unlike(stage, part.threat, taken)
            if survivors and not former:
                former = next((p.name for p in reversed(plans) if p.attack.threat == part.threat), "")
            plans.append(Stage(label, part, former, alone=len(stages) == 1, carry=carry))
            former = label
    if not plans:
        raise InputError("no attack was given; name at least one, or leave it out for the default, standard.")
    if len({plan.attack.threat.norm for plan in plans}) > 1:
        raise InputError(
            "the attacks work in different norms; a table compares attacks in one. Evaluate each norm apart."
        )
    return plans


def replayed(plan: Stage, titled: Callable[[str], str]) -> Stage:
    """The same made on another model, as ``titled`` calls it."""
    return replace(plan, replayed=True, name=titled(plan.name), follows=titled(plan.follows) if plan.follows else "")


def _unlike(name: str, ball: Ball, taken: set[tuple[str, Ball]]) -> str:
    label, number = name, 1
    while (label, ball) in taken:
        number += 1
        label = f"{name} ({number})"
    taken.add((label, ball))
    return label
