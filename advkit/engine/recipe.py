"""What ``advkit attack --save`` was run with, as texts and numbers: the same model and pictures on another day."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from advkit.backbones import Classifier
from advkit.data import Data
from advkit.data.picture import Picture
from advkit.engine.defend import defend, read_defense
from advkit.engine.specs import DataSpec, ModelSpec, settings_of
from advkit.paths import expanded
from advkit.private import kept_path
from advkit.trust import NOTHING, Trust

__all__ = ["Bench", "Photos", "Recipe", "lasting", "lasting_model", "picture_hashes"]

_PART = 256  # pictures in memory at a time


@dataclass(frozen=True)
class Photos:
    """Picture files of one class, brought to a size; ``label`` None is what the model says."""

    paths: tuple[str, ...]
    size: int
    label: int | None = None


@dataclass(frozen=True)
class Bench:
    """A model as it was attacked, the same without its defense, and the pictures."""

    net: Classifier
    model: nn.Module  # behind its defense
    bare: nn.Module  # without it; the model itself where there is none
    data: Data


@dataclass(frozen=True)
class Recipe:
    """Model, defense and pictures with the hashes of what they were, and what the attacks were built from.

    ``hashes`` has one for each picture.
    """

    model: ModelSpec
    data: DataSpec | Photos
    samples: int
    defense: str
    model_hash: str
    hashes: tuple[str, ...]
    search: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All of it, for evaluation.json."""
        data: dict[str, object]
        if isinstance(self.data, Photos):
            data = {"pictures": list(self.data.paths), "size": self.data.size, "label": self.data.label}
        else:
            data = {"name": self.data.name, "settings": dict(self.data.settings), "exclude": list(self.data.exclude)}
        model = self.model
        return {
            "command": list(self.command),
            "model": {
                "model": model.model,
                "weights": model.weights,
                "normalize": model.normalize,
                "settings": dict(model.settings),
                "seed": model.seed,
                "name": model.name,
            },
            "model_hash": self.model_hash,
            "data": data,
            "hashes": list(self.hashes),
            "samples": self.samples,
            "defense": self.defense,
            "search": dict(self.search),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Recipe:
        """The same. Raises KeyError or TypeError where something is missing."""
        model, data = found["model"], found["data"]
        pictures: DataSpec | Photos
        if "pictures" in data:
            pictures = Photos(tuple(data["pictures"]), data["size"], data["label"])
        else:
            pictures = DataSpec(data["name"], settings_of(data["settings"]), tuple(data["exclude"]))
        return cls(
            model=ModelSpec(
                model["model"],
                model["weights"],
                model["normalize"],
                settings_of(model["settings"]),
                model["seed"],
                model["name"],
            ),
            data=pictures,
            samples=found["samples"],
            defense=found["defense"],
            model_hash=found["model_hash"],
            hashes=tuple(found["hashes"]),
            search=found["search"],
            command=tuple(found["command"]),
        )

    def build(self, device: str, trust: Trust = NOTHING) -> Bench:
        """Load everything; of code only what the caller wrote himself. Raises InputError where that is not possible."""
        guard = read_defense(self.defense, trust)
        spec = replace(self.model, trust=trust)
        known: Data | None = None
        pictures: Data
        if isinstance(self.data, Photos):
            pictures = Picture(list(self.data.paths), size=self.data.size, label=self.data.label)
        else:
            known = self.data.build()
            pictures = known.head(self.samples)
        bare = net = spec.build(known, device)
        if guard.trained and spec.weights == "auto":
            net = spec.trained_by(guard.trained).build(known, device)
        return Bench(net, defend(net, guard.wrappers), bare, pictures)


def lasting(text: str) -> str:
    """The name of a model, weights or data as it can be used from any folder: files by their path from the root or the home."""
    name, colon, rest = text.partition(":")
    path = expanded(name)
    return f"{kept_path(Path(os.path.realpath(path)))}{colon}{rest}" if name and path.exists() else text


def lasting_model(spec: ModelSpec) -> ModelSpec:
    """The same model, its files by their full paths."""
    return replace(spec, model=lasting(spec.model), weights=lasting(spec.weights))


def picture_hashes(data: Data) -> tuple[str, ...]:
    """The beginning of a hash of each picture's pixels."""
    found: list[str] = []
    for begin in range(0, len(data), _PART):
        for x in data.pictures(range(begin, min(begin + _PART, len(data)))):
            found.append(hashlib.blake2b(x.contiguous().numpy().tobytes(), digest_size=8).hexdigest())
    return tuple(found)
