"""The models of a sweep, each loaded once, looked at and timed before anything is computed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn

from advkit.backbones import Classifier, describe
from advkit.core.modes import borrowed, reseeded
from advkit.data import Data
from advkit.engine.checks import check_classes, check_weights
from advkit.engine.estimate import Pace, time_passes
from advkit.engine.passes import Passes, batch_for, least_rows
from advkit.engine.precision import Precision
from advkit.engine.provenance import circumstances, code_version, parts_of
from advkit.engine.recipe import lasting
from advkit.engine.specs import ModelSpec
from advkit.engine.targets import RULES, class_number
from advkit.errors import AdvkitError, DataError, InputError, ModelError

if TYPE_CHECKING:
    from advkit.engine.plan import Sweep

__all__ = ["Candidate", "check_goal", "pace_of"]

_TRIAL = 16  # pictures, at most, of the pass that is timed


@dataclass(frozen=True)
class Candidate:
    """What is known of a model with its weights, once it was loaded and asked; a plan need not hold all models at once."""

    name: str
    spec: ModelSpec
    hash: str
    code: str  # what of its code decides its answers
    pace: Pace
    about: dict[str, Any]

    @classmethod
    def of(
        cls, name: str, spec: ModelSpec, trained: str, told: Callable[[str], None], wanted: Sweep, data: Data
    ) -> tuple[Self, Classifier]:
        """The model with the weights of a way to train, or with its own. Raises ModelError or DataError."""
        told(f"model {name}{f', {trained}' if trained else ''}")
        spec = spec.trained_by(trained)
        net = spec.build(data, wanted.device)
        check_weights(net)
        pace = pace_of(net, data, wanted)
        code = code_version(parts_of(net))
        return cls(name, spec, net.fingerprint(), code, pace, _about(wanted, spec, net, data)), net

    @classmethod
    def surrogate(cls, spec: ModelSpec, told: Callable[[str], None], wanted: Sweep, data: Data) -> Self:
        """A model that attacks are made on; what is wrong with it is told with its name."""
        name = spec.name or spec.model
        try:
            return cls.of(name, spec, "", told, wanted, data)[0]
        except (DataError, ModelError) as error:
            raise ModelError(f"the surrogate {name}: {error}") from None

    def check_surrogate(self, other: Candidate) -> None:
        """Raises ModelError where another model, that attacks are made on, tells another number of classes apart."""
        if other.pace.classes != self.pace.classes:
            raise ModelError(
                f"the surrogate {other.name} has {other.pace.classes} classes and the model {self.name} {self.pace.classes}; "
                "a surrogate must tell the same classes apart."
            )


def check_goal(goal: str, data: Data, net: Classifier, classes: int) -> None:
    """Refuse a target that is no class here, or one that examples have already: an attack would have nothing to do."""
    if goal in ("untargeted", *RULES):
        return
    number = class_number(goal, data.classes if data.named else (net.classes or ()), classes)
    same = int((data.labels == number).sum())
    if same:
        raise InputError(
            f"the target {goal} is the label of {same} of the {len(data):,} examples, where an attack has nothing to do; "
            f"choose another target, or leave that class out (exclude {goal})."
        )


def pace_of(model: nn.Module, data: Data, wanted: Sweep) -> Pace:
    """How fast a model answers; one that does not fit the data is an error here."""
    size = wanted.batch_size or batch_for(model, data.pictures([0])[0])
    x = data.pictures(range(min(_TRIAL, len(data), size))).to(wanted.device)
    with borrowed(model), reseeded(wanted.seed, torch.device(wanted.device)):
        logits = Passes(model, Precision.own(model), len(x)).judge(x)
        check_classes(data, logits.shape[1])
        return time_passes(model, x, size, least_rows(size), logits.shape[1])


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
        "model seed": spec.seed,
        "data settings": dict(wanted.data.settings),
        "data source": {"name": lasting(wanted.data.name), "exclude": list(wanted.data.exclude)},
        "device": wanted.device,
        "batch size": wanted.batch_size,
        "shard": wanted.shard,
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
