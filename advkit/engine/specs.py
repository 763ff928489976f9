"""What is evaluated, as texts: models, data, attacks and defenses that any process on any machine can build again."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from torch import nn

from advkit.backbones import Classifier, load_model
from advkit.catalog import ATTACKS, BACKBONES, DIRECTIONS, LOSSES
from advkit.core.attack import Attack, Ensemble, check_bounded
from advkit.core.threat import BALLS, Ball
from advkit.data import Data, load_data
from advkit.engine.targets import class_number
from advkit.errors import InputError, UnknownName
from advkit.trust import NOTHING, Trust

__all__ = [
    "AttackSpec",
    "DataSpec",
    "ModelSpec",
    "Settings",
    "numbered",
    "recorded",
    "settings_of",
    "usual_ball",
    "with_weights",
]

Settings = tuple[tuple[str, Any], ...]
_TAKEN = frozenset({"spec", "weights", "normalize", "mean", "std", "data", "seed", "device", "trust"})  # of load_model


def _own(what: str, settings: Settings, taken: AbstractSet[str]) -> dict[str, Any]:
    """The settings, none of which is ``taken`` by what is said otherwise."""
    found = dict(settings)
    if wrong := sorted(taken & found.keys()):
        raise InputError(f"{wrong[0]} is no setting of {what}; leave it out of its settings.")
    return found


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Settings as a value that can be compared and hashed."""
    return tuple(sorted((key, tuple(value) if isinstance(value, list) else value) for key, value in given.items()))


@dataclass(frozen=True)
class DataSpec:
    """A data set by name or path, or a ``made`` one, which cannot leave the process if it cannot be pickled."""

    name: str = "signs"
    settings: Settings = ()
    exclude: tuple[str, ...] = ()
    made: Data | None = field(default=None, repr=False)

    def build(self, samples: int | None = None) -> Data:
        """The data, without the classes left out."""
        if self.made is not None:
            data = self.made
        else:
            settings = _own(f"the data {self.name}", self.settings, {"spec", "samples"})  # of load_data
            with redirect_stdout(sys.stderr):  # libraries print that they download; standard output is for the table
                data = load_data(self.name, **settings)
        numbers = [class_number(name, data.classes, len(data.classes), rules=False) for name in self.exclude]
        return (data.without(numbers) if numbers else data).head(samples)


@dataclass(frozen=True)
class ModelSpec:
    """A model by name, file or module, or a ``made`` one; ``name`` is what tables call it.

    ``trust`` is what the caller wrote himself: where that is nothing, as of a model that a file names, no code is imported.
    """

    model: str
    weights: str = "auto"
    normalize: str | None = None
    settings: Settings = ()
    seed: int = 0
    name: str | None = None
    made: nn.Module | None = field(default=None, repr=False)
    trust: Trust = field(default=NOTHING, repr=False, compare=False)

    @classmethod
    def named(cls, text: str, name: str | None = None) -> Self:
        """What the caller asks for by ``NAME`` or ``NAME@WEIGHTS``; tables call it so, or by another ``name``."""
        model, weights = with_weights(text)
        return cls(model, weights or cls.weights, name=name or (text if weights else None), trust=Trust.of(model))

    def build(self, data: Data | None, device: str = "cpu") -> Classifier:
        """The classifier; the data, or what is known of it, says what the spec leaves open."""
        if self.made is not None:
            net = self.made if isinstance(self.made, Classifier) else Classifier(self.made, name=self.model)
            return net.to(device)
        mean = std = None
        normalize = self.normalize
        if normalize is not None and ":" in normalize:
            mean, std = (_numbers(part) for part in normalize.split(":", 1))
            normalize = None
        settings = _own(f"the model {self.model}", self.settings, _TAKEN)
        with redirect_stdout(sys.stderr):
            return load_model(
                self.model,
                weights=self.weights,
                normalize=normalize,
                mean=mean,
                std=std,
                data=data,
                seed=self.seed,
                device=device,
                trust=self.trust,
                **settings,
            )

    def trained_by(self, objective: str) -> ModelSpec:
        """The same model with the shipped weights of a way to train; itself where none is named."""
        if not objective:
            return self
        if self.weights != "auto" or self.made is not None:
            given = "the model itself" if self.made is not None else f"weights {self.weights}"
            raise InputError(
                f"the defense {objective} stands for weights that ship with advkit, and {given} is given too; leave one out."
            )
        return replace(self, weights=objective)


@dataclass(frozen=True)
class AttackSpec:
    """An attack by name and settings, or a ``made`` one; its ball is the sweep's. ``label`` is what tables call it."""

    name: str
    settings: Settings = ()
    label: str | None = None
    made: Attack | Ensemble | None = None

    def stages(self, threat: Ball) -> tuple[tuple[str, Attack], ...]:
        """The attack in a ball, stage by stage; an attack of one stage is its own only stage.

        Raises InputError for a ball that bounds nothing where the attack needs one.
        """
        made: Attack | Ensemble
        if self.made is None:
            made = ATTACKS[self.name].create(threat=threat, **dict(self.settings))
        elif isinstance(self.made, Ensemble):
            made = Ensemble(tuple((name, _within(stage, threat)) for name, stage in self.made.stages))
        else:
            made = _within(self.made, threat)
        check_bounded(made)
        if isinstance(made, Attack):
            return ((self.label or self.name, made),)
        return tuple((f"{self.label}/{name}" if self.label else name, stage) for name, stage in made.stages)


def recorded(spec: AttackSpec) -> dict[str, Any]:
    """What a cell records of its attack, so that another can make it again: names and settings, but for the radius."""
    found: dict[str, Any] = {"attack": spec.name, "attack settings": dict(spec.settings)}
    if spec.made is not None:
        stages = spec.made.stages if isinstance(spec.made, Ensemble) else (("", spec.made),)
        found["attack stages"] = [[name, ATTACKS.name_of(stage), _told(stage)] for name, stage in stages]
    return found


def _told(attack: Attack) -> dict[str, Any]:
    """The settings of a value, as names and numbers; what is neither in the words of Python."""
    found: dict[str, Any] = {}
    for each in fields(attack):  # type: ignore[arg-type]
        value = getattr(attack, each.name)
        if not each.init or each.name == "threat":
            continue
        for registry in (LOSSES, DIRECTIONS):
            name = registry.name_of(value)
            if name in registry.names() and registry.create(name) == value:
                value = name
        plain = value is None or isinstance(value, str | int | float | tuple)
        found[each.name] = value if plain else repr(value)
    return found


def with_weights(text: str) -> tuple[str, str | None]:
    """``NAME@WEIGHTS`` as its two parts."""
    # In hf:USER/REPO:FILE@BACKBONE the sign has a meaning of its own.
    name, at, weights = text.rpartition("@") if not text.startswith("hf:") else ("", "", "")
    return (name, weights) if at else (text, None)


def check_model(model: str, settings: Mapping[str, Any]) -> None:
    """Raise InputError for a setting that a backbone of advkit's lacks, before anything is loaded."""
    if model in BACKBONES:
        BACKBONES[BACKBONES[model].facts.get("small", model)].read(settings)


def usual_ball(norm: str) -> type[Ball]:
    """The ball of a norm by name."""
    if norm.lower() not in BALLS:
        raise UnknownName("norm", norm, BALLS)
    return BALLS[norm.lower()]


def numbered(names: Sequence[str]) -> list[str]:
    """Names that differ: the second ``pgd`` becomes ``pgd (2)``."""
    found: list[str] = []
    for name in names:
        label, number = name, 1
        while label in found:
            number += 1
            label = f"{name} ({number})"
        found.append(label)
    return found


def _within(attack: Attack, threat: Ball) -> Attack:
    moved: Attack = replace(attack, threat=threat)  # type: ignore[type-var]
    return moved


def _numbers(text: str) -> list[float]:
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise InputError(f"--normalize holds {text!r}; write numbers with commas, one per channel.") from None
