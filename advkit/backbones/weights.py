"""Weights put into a network, checked first, and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from advkit.atomic import write_whole
from advkit.backbones.checkpoint import Checkpoint
from advkit.backbones.classifier import Classifier, normalisation
from advkit.backbones.fit import member_of
from advkit.backbones.placing import Spread, placed, spread_of
from advkit.backbones.unfit import check_ready
from advkit.catalog import BACKBONES
from advkit.documents import ordered_header, parse_json
from advkit.errors import ModelError

__all__ = ["Filled", "agreed", "input_count", "mismatch", "output_count", "put_weights", "save_model"]

SOME = (
    " Of data with only some of its classes, name all of the model's, in their order, in the folder's class_names.json."
)
"""The way out where a model knows more classes than the data."""

Given = tuple[str | Sequence[float] | None, str | Sequence[float] | None]
"""Mean and std as a caller gives them."""


class Filled(NamedTuple):
    """What a file gave a network: the name of what was read, and the normalisation that stood beside it."""

    label: str
    spread: Spread | None


def output_count(net: nn.Module, tensors: Mapping[str, Tensor], where: str = "the file") -> int | None:
    """Number of classes that the weights have: the length of what fills the last parameter of ``net``."""
    names = [name for name, _ in net.named_parameters()]
    last = placed(tensors, list(net.state_dict()), where).tensors.get(names[-1]) if names else None
    return None if last is None or last.ndim == 0 else last.shape[0]


def input_count(net: nn.Module, tensors: Mapping[str, Tensor], where: str = "the file") -> int | None:
    """Number of channels that the weights take, where ``net`` begins with a convolution."""
    names = [name for name, parameter in net.named_parameters() if parameter.ndim >= 2][:1]
    first = placed(tensors, list(net.state_dict()), where).tensors.get(names[0]) if names else None
    return None if first is None or first.ndim != 4 else first.shape[1]


def put_weights(net: nn.Module, checkpoint: Checkpoint, name: str) -> Filled:
    """Load the tensors into ``net``, all of them, each cast to its type; says what is wrong where they do not fit."""
    check_ready(net)
    wanted = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
    where = checkpoint.label.removeprefix("file ")
    found = placed(checkpoint.tensors, list(wanted), where)
    extra = {key: value for key, value in found.tensors.items() if key not in wanted}
    spread, names = spread_of({**found.aside, **extra}, where)
    given = {key: value for key, value in found.tensors.items() if key in wanted or key not in names}
    problem = mismatch(net, wanted, given, checkpoint, name)
    if problem:
        raise ModelError(problem)
    given = {key: tensor.to(wanted[key].dtype) for key, tensor in given.items()}
    net.load_state_dict(given, strict=False)  # names were compared above; batch counts may be absent
    chosen = f":{found.prefix.removesuffix('.')}" if found.choice else ""
    return Filled(f"{checkpoint.label}{chosen}{', with its mean and std' if spread else ''}", spread)


def agreed(filled: Filled | None, given: Given, channels: int | None) -> Given:
    """Mean and std as given, or else those of the file. Raises ModelError where both are there and differ."""
    spread = None if filled is None else filled.spread
    if spread is None or given == (None, None):
        return given if spread is None else spread
    own, others = normalisation(*spread, channels), normalisation(*given, channels)
    if own != others and not _near(own, others):
        raise ModelError(
            f"the checkpoint holds a normalisation of its own (mean {_told(own[0])}, std {_told(own[1])}), and mean "
            f"{_told(others[0]) or 0}, std {_told(others[1]) or 1} is asked for; leave the latter out, or take the tensors out "
            "of the file."
        )
    return given


def save_model(
    path: str | Path,
    model: nn.Module,
    *,
    backbone: str,
    classes: Sequence[str],
    channels: int,
    size: int,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    settings: Mapping[str, object] | None = None,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Write weights and all that is needed to build the network again, atomically.

    ``mean``, ``std`` and ``settings`` are a Classifier's own where they are left out.
    ``extra`` joins the metadata: ``data``, ``variant`` and ``recipe`` make the file findable as embedded weights.
    """
    from safetensors.torch import save

    path = Path(path)
    if backbone in BACKBONES:
        backbone = member_of(backbone, size)
    if isinstance(model, Classifier):
        mean = model.mean.flatten().tolist() if mean is None else mean
        std = model.std.flatten().tolist() if std is None else std
        settings = parse_json(model.metadata.get("settings", "{}"), "settings") if settings is None else settings
        model = model.net
    facts = {"backbone": backbone, "channels": str(channels), "size": str(size), **(extra or {})}
    facts |= {
        "classes": json.dumps(list(classes)),
        "mean": json.dumps(list(mean or ())),
        "std": json.dumps(list(std or ())),
    }
    facts |= {"settings": json.dumps(dict(settings or {}), sort_keys=True)}
    # clones: safetensors refuses tensors that share memory
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    write_whole(path, lambda beside: beside.write_bytes(ordered_header(save(tensors, metadata=facts))))
    return path


def _near(one: Spread, other: Spread) -> bool:
    pairs = [pair for mine, theirs in zip(one, other, strict=True) for pair in zip(mine, theirs, strict=False)]
    return len(one[0]) == len(other[0]) and all(abs(a - b) <= 1e-3 for a, b in pairs)


def _told(values: Sequence[float]) -> str:
    return ",".join(f"{value:.4g}" for value in values)


def mismatch(
    net: nn.Module, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], checkpoint: Checkpoint, name: str
) -> str:
    """The sentence that says why the weights do not fit; nothing where they do."""
    where = f"{checkpoint.label.removeprefix('file ')}"
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in wanted]
    if missing or unexpected:
        parts = [f"{_tensors(missing)} missing (first {missing[0]!r})"] if missing else []
        parts += [f"{_tensors(unexpected)} not known (first {unexpected[0]!r})"] if unexpected else []
        return f"{where} does not fit {name}: {', '.join(parts)}. Is it the weights of another backbone?"
    other = [key for key in given if given[key].shape != wanted[key].shape]
    if not other:
        floats = [key for key in given if wanted[key].is_floating_point()]
        kinds = [key for key in floats if not given[key].is_floating_point()]
        return f"{where} does not fit {name}: {kinds[0]!r} is {given[kinds[0]].dtype}." if kinds else ""
    have, want = output_count(net, given, where), output_count(net, wanted)
    if have != want and all(given[key].shape[1:] == wanted[key].shape[1:] for key in other):
        return (
            f"the weights in {where} have {have} classes, {want} are asked for; "
            "give weights made for this data, or weights='random'."
            + (SOME if have is not None and want is not None and have > want else "")
        )
    have, want = input_count(net, given, where), input_count(net, wanted)
    if have != want and have is not None:
        return f"the weights in {where} take pictures of {have} channels, {want} are asked for."
    shapes = f"{tuple(given[other[0]].shape)} instead of {tuple(wanted[other[0]].shape)}"
    return (
        f"{where} does not fit {name}: {other[0]!r} has shape {shapes}. "
        "Is it the weights of another backbone, of other settings, or of another picture size?"
    )


def _tensors(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
