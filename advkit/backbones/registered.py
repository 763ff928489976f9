"""A backbone of the registry, built for the data and filled with weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import torch

from advkit.backbones.checkpoint import Checkpoint, embedded, read_weights, with_tensors
from advkit.backbones.classifier import Classifier, normalisation
from advkit.backbones.fit import member_of
from advkit.backbones.sources import check_count
from advkit.backbones.weights import agreed, input_count, mismatch, output_count, put_weights
from advkit.backbones.wish import Wish, drawn
from advkit.catalog import BACKBONES
from advkit.errors import ModelError

__all__ = ["from_registry"]


def from_registry(
    spec: str,
    wish: Wish,
    mean: str | Sequence[float] | None,
    std: str | Sequence[float] | None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """A backbone of the registry, built for the data and filled with the weights asked for."""
    if wish.sides is not None and wish.sides[0] != wish.sides[1]:
        raise ModelError(
            f"the pictures of {wish.data} are {wish.sides[0]} x {wish.sides[1]} and {spec} is built for square ones: resize "
            "them (size, --size), or give a network of your own."
        )
    name = member_of(spec, wish.size or 32)
    BACKBONES[name].read(wish.settings)  # a setting that it lacks is told before weights are looked for
    if checkpoint is None and wish.weights != "random":
        checkpoint = _chosen(name, wish)
    if checkpoint is not None:
        name = member_of(spec, wish.size or checkpoint.size or 32)
        wish = _completed(wish, name, checkpoint)
    if wish.classes is None or wish.classes < 2:
        raise ModelError(
            f"{name}: classes is {wish.classes}; say how many classes there are, at least 2, or give data."
        )
    channels, size = wish.channels or 3, wish.size or 32
    entry = BACKBONES[name]
    with drawn(wish.seed):
        net = entry.create(classes=wish.classes, channels=channels, size=size, **wish.settings)
    filled = None
    if checkpoint is not None:
        filled = put_weights(net, checkpoint, name)
        mean, std = agreed(filled, (mean, std), channels)
        if mean is None and std is None:
            mean, std = checkpoint.mean, checkpoint.std
    means, stds = normalisation(mean, std, channels)
    facts = {"backbone": name, "settings": json.dumps(dict(wish.settings), sort_keys=True, default=str)}
    return Classifier(
        net,
        name=name,
        weights=filled.label if filled else f"random (seed {wish.seed})",
        classes=checkpoint.classes if checkpoint else None,
        num_classes=wish.classes,
        mean=means,
        std=stds,
        metadata={**(checkpoint.metadata if checkpoint else {}), **facts, "channels": str(channels), "size": str(size)},
    )


def _chosen(name: str, wish: Wish) -> Checkpoint:
    """The weights that the wish names: a file, embedded:NAME, a variant, or auto."""
    if wish.weight_file is not None:
        return read_weights(wish.weight_file, wish.weight_key)
    shipped = [checkpoint for checkpoint in embedded() if checkpoint.backbone == name]
    if wish.weights.startswith("embedded:"):
        fitting = [c for c in shipped if c.path.stem == wish.weights.removeprefix("embedded:")]
    else:
        variant = "standard" if wish.weights == "auto" else wish.weights
        fitting = [
            checkpoint
            for checkpoint in shipped
            if variant in (checkpoint.metadata.get("variant", "standard"), checkpoint.metadata.get("defense"))
            and _made_for(checkpoint, wish)
            and all(str(checkpoint.settings.get(key)) == str(value) for key, value in wish.settings.items())
        ]
    if len(fitting) == 1:
        return with_tensors(fitting[0])
    known = ", ".join(f"embedded:{checkpoint.path.stem}" for checkpoint in shipped) or "none"
    data = f" and the data {wish.data}" if wish.data else ""
    asked = "" if wish.weights == "auto" else f" {wish.weights!r}"
    raise ModelError(
        f"advkit ships {'no' if not fitting else 'more than one set of'} weights{asked} for {name}{data}. "
        f"Give weights=FILE, or weights=random for an untrained network; shipped for {name}: {known}."
    )


def _made_for(checkpoint: Checkpoint, wish: Wish) -> bool:
    """Trained on the data asked for, or on other pictures of exactly its classes."""
    return wish.data in (None, checkpoint.metadata.get("data")) or (
        wish.names is not None and wish.names == checkpoint.classes
    )


def _completed(wish: Wish, name: str, checkpoint: Checkpoint) -> Wish:
    """The wish, with what it leaves open taken from the checkpoint; says so where the two disagree."""
    where = checkpoint.path.name
    backbone = checkpoint.backbone or name
    if backbone in BACKBONES:
        backbone = member_of(backbone, checkpoint.size or 32)
    if backbone != name:
        raise ModelError(f"{where} holds weights of {checkpoint.backbone}, not of {name}.")
    if checkpoint.channels is not None and wish.channels not in (None, checkpoint.channels):
        raise ModelError(
            f"the weights in {where} take pictures of {checkpoint.channels} channels, {wish.channels} are asked for."
        )
    names = checkpoint.classes
    settings = {**checkpoint.settings, **wish.settings}
    classes = wish.classes or (len(names) if names else None)
    channels = wish.channels or checkpoint.channels
    size = wish.size or checkpoint.size
    if classes is None or channels is None:
        with torch.device("meta"):
            bare = BACKBONES.create(name, classes=2, channels=channels or 3, size=size or 32, **settings)
        classes = classes or output_count(bare, checkpoint.tensors, where)
        channels = channels or input_count(bare, checkpoint.tensors, where)
        if classes is None or channels is None:  # they are not of this network: the sentence says in which tensors
            problem = mismatch(bare, bare.state_dict(), checkpoint.tensors, checkpoint, name)
            raise ModelError(problem or f"{where} does not say how many classes or channels {name} has; give data.")
    if names is not None:
        check_count(f"the model in {where}", len(names), classes)
    return replace(wish, classes=classes, channels=channels, size=size, settings=settings)
