"""From what is asked for to cells and tasks: a sweep's plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from advkit.backbones import Classifier
from advkit.core.attack import Attack
from advkit.core.external import External
from advkit.core.fitted import Fitted
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.candidate import Candidate, check_goal, pace_of
from advkit.engine.defend import Against, Defense, defend, read_defense
from advkit.engine.estimate import Cost, Effort, Kind, Odds, Outlook, Pace, effort_of, threads_of, try_out
from advkit.engine.external import company
from advkit.engine.fits import attack_hash
from advkit.engine.fitting import check_fit
from advkit.engine.own import defense_hash, defined_by
from advkit.engine.passes import automatic_batch
from advkit.engine.precision import PrecisionName
from advkit.engine.provenance import code_version, parts_of
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, numbered, recorded, usual_ball
from advkit.engine.tasks import Task
from advkit.errors import InputError
from advkit.results.cell import Cell, Stage, oblivious, via
from advkit.results.store import Record, Span, Store
from advkit.trust import NOTHING, Trust

T = TypeVar("T")

__all__ = ["Left", "Plan", "Planned", "Sweep", "make_plan"]

_SHARD = 128


@dataclass(frozen=True)
class Sweep:
    """What is asked for. Everything in it is text or number, or made by the caller."""

    models: tuple[ModelSpec, ...]
    attacks: tuple[AttackSpec, ...]
    radii: tuple[str, ...]
    data: DataSpec = field(default_factory=DataSpec)
    norm: str = "linf"
    defenses: tuple[str, ...] = ("none",)
    samples: int | None = 200
    goal: str = "untargeted"
    seed: int = 0
    independent: bool = False  # attack at every radius afresh
    transfer: bool = False  # also show each model what was made on each other one
    surrogates: tuple[ModelSpec, ...] = ()  # attacks are made on these, and shown to each model
    against: Against = "both"  # what a defense is attacked by
    precision: PrecisionName = "auto"
    shard: int | None = None  # examples of a task
    batch_size: int | None = None
    device: str = "cpu"
    keep_pictures: int = 16
    command: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    trust: Trust = field(default=NOTHING, repr=False, compare=False)  # what the caller wrote himself, for defenses


@dataclass(frozen=True)
class Planned:
    """A cell to be filled: what is known of it, a task that stands for all of its tasks, and what it may cost."""

    record: Record
    task: Task
    outlook: Outlook
    odds: Odds
    samples: int
    together: int = 1  # neighbours in the data that must be of one task

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.record.cell

    @cached_property
    def likely(self) -> Cost:
        """What it is likely to take, by one worker."""
        return self.outlook.likely(self.samples, self.odds)

    @cached_property
    def most(self) -> Cost:
        """What it takes where every example takes every step at every radius."""
        return self.outlook.most(self.samples, self.odds)


@dataclass(frozen=True)
class Left:
    """What is left of a cell: how many examples are done, and what the others may cost."""

    planned: Planned
    done: int
    likely: Cost
    most: Cost


@dataclass(frozen=True)
class Plan:
    """Cells in the order in which they are done: those without attack first."""

    sweep: Sweep
    cells: tuple[Planned, ...]
    samples: int
    shard: int
    radii: tuple[str, ...]  # ascending, each once
    remark: str = ""  # on the data

    def left(self, store: Store, *, afresh: bool = False) -> list[Task]:
        """The tasks that are not done; all of them ``afresh``, whatever the store holds."""
        return [
            replace(planned.task, store=str(store.folder), span=span)
            for planned in self.cells
            for span in self._cut(self._missing(store, planned.cell, afresh), planned.together)
        ]

    def costs(self, store: Store, *, afresh: bool = False) -> list[Left]:
        """What is left of each cell. Of one that was begun, an example is taken to cost what those that are done did."""
        found = []
        for planned in self.cells:
            left = sum(end - begin for begin, end in self._missing(store, planned.cell, afresh))
            done, share = self.samples - left, left / self.samples
            likely = planned.likely * share
            facts = store.facts(planned.cell, self.samples) if done and left and planned.cell.stages else None
            if facts is not None and planned.likely.passes:
                seen = float(facts.forwards.sum() + facts.backwards.sum()) / len(facts) * self.samples
                likely = likely * (seen / planned.likely.passes)
            found.append(Left(planned, done, likely, planned.most * share))
        return found

    def _missing(self, store: Store, cell: Cell, afresh: bool) -> list[Span]:
        return [(0, self.samples)] if afresh else store.missing(cell, self.samples)

    def _cut(self, spans: Sequence[Span], together: int) -> Iterator[Span]:
        """Stretches in pieces of one shard each, which begin at multiples of its size; who stays together is not parted."""
        shard = -(-self.shard // together) * together
        for begin, end in spans:
            while begin < end:
                edge = min(end, begin - begin % shard + shard)
                yield (begin, edge)
                begin = edge


def make_plan(
    wanted: Sweep, told: Callable[[str], None] = lambda text: None, *, tried: bool = False, threads: int | None = None
) -> Plan:
    """Load every model once, try it and time a pass, and name the cells. ``told`` gets what is being looked at.

    ``tried``: also attack a few pictures of each for a second, so that ``likely`` knows how many stand. Passes are timed with
    so many ``threads`` as a worker has; None: with all.
    """
    if not (wanted.models and wanted.attacks and wanted.radii and wanted.defenses):
        raise InputError("a sweep needs at least one model, one attack, one radius and one defense (none is one).")
    if wanted.surrogates and (wanted.transfer or wanted.against != "both"):
        other = "transfer" if wanted.transfer else wanted.against
        raise InputError(f"{other} and surrogates each say which models attacks are made on; give one of them.")
    told(f"data {wanted.data.name}")
    data = wanted.data.build()
    with threads_of(threads):
        return _Planner(wanted, data, told, tried).plan()


class _Planner:
    """Goes through models, defenses and attacks, and collects the cells."""

    def __init__(self, wanted: Sweep, data: Data, told: Callable[[str], None], tried: bool) -> None:
        self.wanted, self.data, self.told, self.tried = wanted, data, told, tried
        self.radii = _ascending(wanted.radii)
        self.scored = data.head(wanted.samples)
        self.samples = len(self.scored)
        self.data_hash = data.fingerprint()
        self.shard = wanted.shard or max(_SHARD, _batch(wanted, data))
        asked = _once(wanted.attacks)
        labels = numbered([spec.label or spec.name for spec in asked])
        self.attacks = [
            replace(spec, label=label if label != spec.name else spec.label)
            for spec, label in zip(asked, labels, strict=True)
        ]
        ball = usual_ball(wanted.norm)
        self.stages = [[spec.stages(ball(radius)) for radius in self.radii] for spec in self.attacks]
        attacks = [stage for at in self.stages for each in at for _, stage in each]
        for fitted in attacks:
            if isinstance(fitted, Fitted):
                check_fit(fitted, self.scored, wanted.seed)  # refused here, and not by the first task
        self.asked = list(dict.fromkeys(wanted.defenses))
        # What a defense costs without attack shows only beside the model without it.
        texts = self.asked if "none" in self.asked else ["none", *self.asked]
        self.defenses = {text: read_defense(text, wanted.trust) for text in texts}
        own = [defined_by(wrapper) for defense in self.defenses.values() for wrapper in defense.wrappers]
        self.named = {
            label: attack_hash(stage for each in at for _, stage in each)
            for label, at in zip(labels, self.stages, strict=True)
        }
        self.parts = [*map(type, attacks), *own]  # what else decides numbers, besides the model's own code
        self.labels = labels
        self.found: list[Planned] = []
        self._made: set[tuple[str, str, str]] = set()

    def plan(self) -> Plan:
        """All cells, those without attack first."""
        wanted = self.wanted
        specs = _once(wanted.models)
        names = numbered([spec.name or spec.model for spec in specs])
        others = [Candidate.surrogate(spec, self.told, wanted, self.data) for spec in _once(wanted.surrogates)]
        bares = []
        for name, spec in zip(names, specs, strict=True):
            bare, net = Candidate.of(name, spec, "", self.told, wanted, self.data)
            bares.append(bare)
            check_goal(wanted.goal, self.scored, net, bare.pace.classes)
            for other in others:
                bare.check_surrogate(other)
            for text, defense in self.defenses.items():
                self._defended(bare, net, text, defense, others)
        if wanted.transfer:
            if len(bares) < 2:
                raise InputError(
                    "a transfer attack is made on one model and shown to another; give at least two models."
                )
            own = [planned for planned in self.found if not planned.cell.surrogate]
            self.found += [each for planned in own for each in self._via(planned, bares)]
        if others and not any(planned.cell.surrogate for planned in self.found):
            raise InputError(
                "every surrogate is the very model that is attacked, with the same weights; name another model."
            )
        self.found.sort(key=lambda planned: bool(planned.cell.stages))  # stable: without attack first
        return Plan(wanted, tuple(self.found), self.samples, self.shard, tuple(self.radii), self.data.remark)

    def _defended(
        self, bare: Candidate, bare_net: Classifier, text: str, defense: Defense, others: Sequence[Candidate]
    ) -> None:
        """The cells of a model behind one defense."""
        wanted, data = self.wanted, self.data
        model, net = bare, bare_net
        if defense.trained:
            model, net = Candidate.of(bare.name, bare.spec, defense.trained, self.told, wanted, data)
        guarded = defend(net, defense.wrappers)
        pace = pace_of(guarded, data, wanted) if defense.wrappers else model.pace
        odds = self._tried(guarded, pace, f"{bare.name}{'' if text == 'none' else f' behind {text}'}")
        held = defense_hash(defense.wrappers)
        code = code_version([*self.parts, *parts_of(net)])
        clean = Cell(bare.name, model.hash, self.data_hash, defense=text, code=code, defense_hash=held)
        task = Task(
            store="",
            cell=clean,
            span=(0, 0),
            model=model.spec,
            data=wanted.data,
            precision=wanted.precision,
            batch_size=wanted.batch_size,
            device=wanted.device,
            keep_pictures=wanted.keep_pictures,
            trust=wanted.trust,
        )
        self.found.append(
            Planned(Record(clean, model.about), task, Outlook((), (), pace, self.shard), odds, self.samples)
        )
        for attack, label, at in zip(self.attacks, self.labels, self.stages, strict=True) if text in self.asked else ():
            facts = {**model.about, **recorded(attack)}
            adaptive = [
                Planned(
                    Record(cell, facts),
                    replace(task, cell=cell, attack=attack),
                    outlook,
                    odds,
                    self.samples,
                    self._together([stage for each in at for _, stage in each]),
                )
                for cell, outlook in self._cells(clean, label, at, pace)
            ]
            if others:
                self.found += [each for planned in adaptive for each in self._via(planned, others)]
                continue
            if text == "none" or wanted.against != "oblivious":
                self.found += adaptive
            if text != "none" and wanted.against != "adaptive":
                self.found += [each for planned in adaptive for each in self._oblivious(planned, bare)]

    def _tried(self, net: nn.Module, pace: Pace, title: str) -> Odds:
        """Who stands, where that is asked for."""
        if not self.tried:
            return Odds()
        wanted = self.wanted
        self.told(f"attacks on {title}")
        return try_out(
            net,
            self.scored,
            usual_ball(wanted.norm),
            self.radii,
            pace,
            target=None if wanted.goal == "untargeted" else wanted.goal,
            names=self.data.classes if self.data.named else (),
            seed=wanted.seed,
        )

    def _cells(
        self, bare: Cell, label: str, at: Sequence[Sequence[tuple[str, Attack]]], pace: Pace
    ) -> Iterator[tuple[Cell, Outlook]]:
        """The cells of one attack on one model: one for all radii where a search is nested, else one for each."""
        wanted, first = self.wanted, at[0]
        nested = [
            not wanted.independent and len(self.radii) > 1 and (attack.nested or attack.minimal) for _, attack in first
        ]
        everything = range(len(self.radii))
        groups = [everything] if any(nested) else [range(r, r + 1) for r in everything]
        for group in groups:
            stages = tuple(
                Stage(name, tuple(repr(at[r][s][1]) for r in group), nested[s]) for s, (name, _) in enumerate(first)
            )
            cell = replace(
                bare,
                attack=label,
                stages=stages,
                norm=wanted.norm.lower(),
                radii=tuple(self.radii[r] for r in group),
                goal=wanted.goal,
                seed=wanted.seed,
                precision=wanted.precision,
                attack_hash=self.named[label],
            )
            efforts = tuple(
                self._effort(attack, pace, _kind(attack, nested[s], len(group), len(first)))
                for s, (_, attack) in enumerate(at[group[-1]])
            )
            yield cell, Outlook(efforts, cell.radii, pace, self.shard)

    def _together(self, attacks: Sequence[Attack]) -> int:
        """Neighbours that attacks must be given together: those of other libraries mind who shares their batch."""
        if not any(isinstance(attack, External) for attack in attacks):
            return 1
        return company(self.data.pictures([0])[0].numel(), torch.device(self.wanted.device))

    def _effort(self, attack: Attack, pace: Pace, kind: Kind) -> Effort:
        return effort_of(attack, self.data.pictures([0]), pace.classes, kind)

    def _oblivious(self, planned: Planned, bare: Candidate) -> Iterator[Planned]:
        """An attack on the model without its defense, at every radius afresh, replayed on the model with it."""
        for cell, outlook in self._moved(planned, oblivious("{}"), bare.name, bare):
            task = replace(planned.task, cell=cell, surrogate=bare.spec)
            about = {**planned.record.about, "oblivious": True, **_maker(bare)}
            record = Record(cell, about)
            yield replace(planned, record=record, task=task, outlook=outlook)

    def _via(self, planned: Planned, others: Sequence[Candidate]) -> Iterator[Planned]:
        """An attack made on each other model, at every radius afresh, and shown to the model behind its defense."""
        cell = planned.cell
        for other in others:
            # With weights of a way to train a model has another hash, and is not another model.
            if other.name == cell.model or other.hash == cell.model_hash:
                continue
            for moved, outlook in self._moved(planned, via("{}", other.name), other.name, other):
                record = Record(moved, {**planned.record.about, "surrogate": other.name, **_maker(other)})
                task = replace(planned.task, cell=moved, surrogate=other.spec)
                yield replace(planned, record=record, task=task, outlook=outlook)

    def _moved(self, planned: Planned, title: str, surrogate: str, maker: Candidate) -> Iterator[tuple[Cell, Outlook]]:
        """A cell's attack made on another model, one cell for each radius.

        ``title`` makes its name of the attack's: "{} via vgg".
        """
        cell = planned.cell
        at = dict(zip(self.labels, self.stages, strict=True)).get(cell.attack, [])
        for r, radius in enumerate(cell.radii):
            moved = replace(
                cell,
                attack=title.format(cell.attack),
                stages=tuple(Stage(title.format(stage.name), (stage.attacks[r],)) for stage in cell.stages),
                radii=(radius,),
                surrogate=surrogate,
                surrogate_hash=maker.hash,
                surrogate_code=maker.code,
            )
            attacks = [attack for _, attack in at[self.radii.index(radius)]]
            efforts = tuple(self._effort(attack, maker.pace, "all") for attack in attacks)
            # What is made on one model for several is made once, if nothing else comes between.
            made = (maker.hash, moved.attack, radius)
            known = made in self._made and not self.wanted.transfer
            self._made.add(made)
            yield moved, Outlook(efforts, moved.radii, maker.pace, self.shard, planned.outlook.pace, known)


def _kind(attack: Attack, nested: bool, radii: int, stages: int) -> Kind:
    """How a stage meets the radii of its cell."""
    if attack.minimal and (stages == 1 or (nested and radii > 1)):
        return "nearest"
    return "ladder" if nested and radii > 1 else "apart"


def _maker(other: Candidate) -> dict[str, Any]:
    """What is recorded of the model that an attack was made on."""
    return {"surrogate settings": other.about["model settings"], "surrogate seed": other.about["model seed"]}


def _once(asked: Sequence[T]) -> list[T]:
    """What is asked for, each thing once."""
    return [one for place, one in enumerate(asked) if one not in asked[:place]]


def _ascending(radii: Sequence[str]) -> list[str]:
    """Radii in order, each once, as they were written first."""
    found: dict[float, str] = {}
    for text in radii:
        eps = Eps(text)
        found.setdefault(float(eps), eps.exact)
    return [found[value] for value in sorted(found)]


def _batch(wanted: Sweep, data: Data) -> int:
    if wanted.batch_size is not None:
        return wanted.batch_size
    return automatic_batch(data.pictures([0])[0].numel(), torch.device(wanted.device))
