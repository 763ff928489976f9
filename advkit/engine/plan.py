"""From what is asked for to cells and tasks: a sweep's plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from advkit.backbones import Classifier, describe
from advkit.core.attack import Attack
from advkit.core.fitted import Fitted
from advkit.core.modes import borrowed, reseeded
from advkit.core.units import Eps
from advkit.data import Data
from advkit.engine.checks import check_channels, check_classes, check_weights
from advkit.engine.defend import Against, defend, read_defense
from advkit.engine.fitting import check_fit
from advkit.engine.own import defense_hash, defined_by
from advkit.engine.passes import Passes, automatic_batch, batch_for
from advkit.engine.precision import Precision, PrecisionName
from advkit.engine.provenance import circumstances, code_version
from advkit.engine.recipe import lasting
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, numbered, usual_ball
from advkit.engine.tasks import Task
from advkit.errors import AdvkitError, DataError, InputError, ModelError
from advkit.results.cell import Cell, Stage, oblivious, via
from advkit.results.store import Record, Span, Store

__all__ = ["Plan", "Planned", "Sweep", "make_plan"]

_SHARD = 128

_TRIAL = 16  # pictures, at most, of the pass that is timed


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


@dataclass(frozen=True)
class Planned:
    """A cell to be filled: what is known of it, a task that stands for all of its tasks, and what it may cost."""

    record: Record
    task: Task
    passes: int  # forward and backward passes of one example each, about
    seconds: float  # the same in the time of this machine, one worker

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.record.cell


@dataclass(frozen=True)
class Plan:
    """Cells in the order in which they are done: those without attack first."""

    sweep: Sweep
    cells: tuple[Planned, ...]
    samples: int
    shard: int

    def left(self, store: Store) -> list[Task]:
        """The tasks that are not done."""
        return [
            replace(planned.task, store=str(store.folder), span=span)
            for planned in self.cells
            for span in self._cut(store.missing(planned.cell, self.samples))
        ]

    def _cut(self, spans: Sequence[Span]) -> Iterator[Span]:
        """Stretches in pieces of one shard each, which begin at multiples of its size."""
        for begin, end in spans:
            while begin < end:
                edge = min(end, begin - begin % self.shard + self.shard)
                yield (begin, edge)
                begin = edge


def make_plan(wanted: Sweep, told: Callable[[str], None] = lambda text: None) -> Plan:
    """Load every model once, try it and time a pass, and name the cells. ``told`` gets what is being looked at."""
    if not (wanted.models and wanted.attacks and wanted.radii and wanted.defenses):
        raise InputError("a sweep needs at least one model, one attack, one radius and one defense (none is one).")
    if wanted.surrogates and (wanted.transfer or wanted.against != "both"):
        other = "transfer" if wanted.transfer else wanted.against
        raise InputError(f"{other} and surrogates each say which models attacks are made on; give one of them.")
    radii = _ascending(wanted.radii)
    told(f"data {wanted.data.name}")
    data = wanted.data.build()
    samples = len(data.head(wanted.samples))
    data_hash = data.fingerprint()
    ball = usual_ball(wanted.norm)
    found: list[Planned] = []
    names = numbered([spec.name or spec.model for spec in wanted.models])
    labels = numbered([spec.label or spec.name for spec in wanted.attacks])
    attacks = [
        replace(spec, label=label if label != spec.name else spec.label)
        for spec, label in zip(wanted.attacks, labels, strict=True)
    ]
    stages = [[spec.stages(ball(radius)) for radius in radii] for spec in attacks]
    for fitted in [stage for at in stages for each in at for _, stage in each if isinstance(stage, Fitted)]:
        check_fit(fitted, data.head(samples), wanted.seed)  # refused here, and not by the first task
    asked = list(dict.fromkeys(wanted.defenses))
    # What a defense costs without attack shows only beside the model without it.
    defenses = {text: read_defense(text) for text in (asked if "none" in asked else ["none", *asked])}
    own = [defined_by(wrapper) for defense in defenses.values() for wrapper in defense.wrappers]
    code = code_version([*(type(stage) for at in stages for each in at for _, stage in each), *own])
    surrogates: list[_Other] = []
    others = [_Other.of(spec, told, wanted, data) for spec in wanted.surrogates]
    for name, spec in zip(names, wanted.models, strict=True):
        bare = _Candidate.of(name, spec, "", told, wanted, data)
        surrogates.append(_Other(name, bare.hash, spec))
        for another in others:
            another.check(name, bare.net, data, wanted)
        for text, defense in defenses.items():
            model = _Candidate.of(name, spec, defense.trained, told, wanted, data) if defense.trained else bare
            each = _seconds_per_pass(defend(model.net, defense.wrappers), data, wanted)
            held = defense_hash(defense.wrappers)
            clean = Cell(name, model.hash, data_hash, defense=text, code=code, defense_hash=held)
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
            )
            found.append(Planned(Record(clean, model.about), task, samples, samples * each / 3))
            for attack, label, at in zip(attacks, labels, stages, strict=True) if text in asked else ():
                facts = {**model.about, "attack": attack.name, "attack settings": dict(attack.settings)}
                adaptive = [
                    Planned(Record(cell, facts), replace(task, cell=cell, attack=attack), passes, passes / 2 * each)
                    for cell, passes in _cells(clean, label, at, radii, wanted, samples)
                ]
                if others:
                    found += [each for planned in adaptive for each in _via(planned, others)]
                    continue
                if text == "none" or wanted.against != "oblivious":
                    found += adaptive
                if text != "none" and wanted.against != "adaptive":
                    found += [each for planned in adaptive for each in _oblivious(planned, name, bare)]
    if wanted.transfer:
        if len(surrogates) < 2:
            raise InputError("a transfer attack is made on one model and shown to another; give at least two models.")
        found += [each for planned in tuple(found) if not planned.cell.surrogate for each in _via(planned, surrogates)]
    if others and not any(planned.cell.surrogate for planned in found):
        raise InputError(
            "every surrogate is the very model that is attacked, with the same weights; name another model."
        )
    found.sort(key=lambda planned: bool(planned.cell.stages))  # stable: without attack first
    return Plan(wanted, tuple(found), samples, wanted.shard or max(_SHARD, _batch(wanted, data)))


@dataclass(frozen=True)
class _Candidate:
    """A model, loaded and looked at."""

    spec: ModelSpec
    net: Classifier
    hash: str
    about: dict[str, Any]

    @classmethod
    def of(
        cls, name: str, spec: ModelSpec, trained: str, told: Callable[[str], None], wanted: Sweep, data: Data
    ) -> _Candidate:
        """The model with the weights of a way to train, or with its own."""
        told(f"model {name}{f', {trained}' if trained else ''}")
        spec = spec.trained_by(trained)
        net = spec.build(data, wanted.device)
        check_weights(net)
        return cls(spec, net, net.fingerprint(), _about(wanted, spec, net, data))


@dataclass(frozen=True)
class _Other:
    """A model that attacks are made on."""

    name: str
    hash: str
    spec: ModelSpec
    classes: int = 0

    @classmethod
    def of(cls, spec: ModelSpec, told: Callable[[str], None], wanted: Sweep, data: Data) -> _Other:
        """A surrogate, loaded and tried."""
        name = spec.name or spec.model
        try:
            found = _Candidate.of(name, spec, "", told, wanted, data)
            _seconds_per_pass(found.net, data, wanted)
        except (DataError, ModelError) as error:
            raise ModelError(f"the surrogate {name}: {error}") from None
        return cls(name, found.hash, spec, _classes(found.net, data, wanted))

    def check(self, model: str, net: nn.Module, data: Data, wanted: Sweep) -> None:
        """Raises ModelError where the model tells another number of classes apart."""
        count = _classes(net, data, wanted)
        if count != self.classes:
            raise ModelError(
                f"the surrogate {self.name} has {self.classes} classes and the model {model} {count}; "
                "a surrogate must tell the same classes apart."
            )


def _classes(net: nn.Module, data: Data, wanted: Sweep) -> int:
    with borrowed(net), reseeded(wanted.seed, torch.device(wanted.device)):
        return int(Passes(net, Precision.own(net), 1).judge(data.pictures([0]).to(wanted.device)).shape[1])


def _cells(
    bare: Cell,
    label: str,
    at: Sequence[Sequence[tuple[str, Attack]]],
    radii: Sequence[str],
    wanted: Sweep,
    samples: int,
) -> Iterator[tuple[Cell, int]]:
    """The cells of one attack on one model: one for all radii where a search is nested, else one for each."""
    first = at[0]
    once = [attack.nested or attack.minimal for _, attack in first]
    nested = [not wanted.independent and len(radii) > 1 and search for search in once]
    groups = [range(len(radii))] if any(nested) else [range(r, r + 1) for r in range(len(radii))]
    for group in groups:
        stages = tuple(
            Stage(name, tuple(repr(at[r][s][1]) for r in group), nested[s]) for s, (name, _) in enumerate(first)
        )
        cell = replace(
            bare,
            attack=label,
            stages=stages,
            norm=wanted.norm.lower(),
            radii=tuple(radii[r] for r in group),
            goal=wanted.goal,
            seed=wanted.seed,
            precision=wanted.precision,
        )
        passes = 0
        for s, (_, attack) in enumerate(first):
            branches = max(1, attack.restarts) * max(1, attack.targets) * max(1, attack.probes)
            if isinstance(attack, Fitted):
                passes += len(group) * (2 * attack.steps * attack.batch + attack.pictures + samples * branches)
                continue
            rounds = 2 if nested[s] else len(group)  # one search that fails, and short ones that do not
            passes += samples * rounds * (branches * max(1, at[group[-1]][s][1].steps) * 2 + 1)
        yield cell, passes


def _oblivious(planned: Planned, name: str, bare: _Candidate) -> Iterator[Planned]:
    """An attack on the model without its defense, at every radius afresh, replayed on the model with it."""
    for cell, passes, seconds in _moved(planned, oblivious("{}"), name, bare.hash):
        task = replace(planned.task, cell=cell, surrogate=bare.spec)
        yield Planned(Record(cell, {**planned.record.about, "oblivious": True}), task, passes, seconds)


def _moved(planned: Planned, title: str, surrogate: str, surrogate_hash: str) -> Iterator[tuple[Cell, int, float]]:
    """A cell's attack made on another model, one cell for each radius, with its passes and seconds.

    ``title`` makes its name of the attack's: "{} via vgg".
    """
    cell = planned.cell
    for r, radius in enumerate(cell.radii):
        moved = replace(
            cell,
            attack=title.format(cell.attack),
            stages=tuple(Stage(title.format(stage.name), (stage.attacks[r],)) for stage in cell.stages),
            radii=(radius,),
            surrogate=surrogate,
            surrogate_hash=surrogate_hash,
        )
        passes = planned.passes // len(cell.radii)
        yield moved, passes, planned.seconds * passes / max(1, planned.passes)


def _via(planned: Planned, others: Sequence[_Other]) -> Iterator[Planned]:
    """An attack made on each other model, at every radius afresh, and shown to the model behind its defense."""
    cell = planned.cell
    for other in others:
        # With weights of a way to train a model has another hash, and is not another model.
        if other.name == cell.model or other.hash == cell.model_hash:
            continue
        for moved, passes, seconds in _moved(planned, via("{}", other.name), other.name, other.hash):
            record = Record(moved, {**planned.record.about, "surrogate": other.name})
            yield Planned(record, replace(planned.task, cell=moved, surrogate=other.spec), passes, seconds)


def _seconds_per_pass(model: nn.Module, data: Data, wanted: Sweep) -> float:
    """A forward and a backward pass of one example, timed; a model that does not fit the data is an error here."""
    count = min(_TRIAL, len(data), batch_for(model, data.pictures([0])[0]))
    x = data.pictures(range(count)).to(wanted.device)
    with borrowed(model), reseeded(wanted.seed, torch.device(wanted.device)):
        passes = Passes(model, Precision.own(model), len(x))
        try:
            logits = passes.judge(x)
        except RuntimeError:
            check_channels(model, data)
            raise
        check_classes(data, logits.shape[1])
        began = time.perf_counter()
        points = x.clone().requires_grad_()
        with suppress(RuntimeError):  # a model without a gradient is for attacks that need none
            model(points).amax(1).sum().backward()
        if x.is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / len(x)


def _about(wanted: Sweep, spec: ModelSpec, net: Classifier, data: Data) -> dict[str, Any]:
    """What is recorded of a model's cells, besides what names them."""
    found: dict[str, Any] = {
        "weights": net.weights,
        "data": data.name,
        "classes": list(data.classes if data.named else (net.classes or ())),
        "model settings": {
            "model": spec.model,
            "weights": spec.weights,
            "normalize": spec.normalize,
            **dict(spec.settings),
        },
        "data settings": dict(wanted.data.settings),
        "data source": {"name": lasting(wanted.data.name), "exclude": list(wanted.data.exclude)},
        "device": wanted.device,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": wanted.command,
        "parameters": None,
        "multiply_adds": None,
        **circumstances(),
    }
    with suppress(AdvkitError, RuntimeError):  # a network that cannot be watched has no count
        told = describe(net, *data.shape)
        found |= {"parameters": told.parameters, "multiply_adds": told.multiply_adds}
    return found


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
