"""Weights put into a network, checked first, and written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from advkit.atomic import write_whole
from advkit.backbones.checkpoint import Checkpoint
from advkit.backbones.classifier import Classifier
from advkit.backbones.fit import member_of
from advkit.catalog import BACKBONES
from advkit.documents import ordered_header, parse_json
from advkit.errors import ModelError

__all__ = ["input_count", "output_count", "put_weights", "save_model"]

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


def output_count(net: nn.Module, tensors: Mapping[str, Tensor]) -> int | None:
    """Number of classes that the weights have: the length of what fills the last parameter of ``net``."""
    names = [name for name, _ in net.named_parameters()]
    last = _strip(tensors, names).get(names[-1]) if names else None
    return None if last is None or last.ndim == 0 else last.shape[0]


def input_count(net: nn.Module, tensors: Mapping[str, Tensor]) -> int | None:
    """Number of channels that the weights take, where ``net`` begins with a convolution."""
    names = [name for name, parameter in net.named_parameters() if parameter.ndim >= 2][:1]
    first = _strip(tensors, names).get(names[0]) if names else None
    return None if first is None or first.ndim != 4 else first.shape[1]


def put_weights(net: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Load the tensors into ``net``, all of them, each cast to its type; says what is wrong where they do not fit."""
    wanted = {key: value for key, value in net.state_dict().items() if isinstance(value, Tensor)}
    given = _strip(checkpoint.tensors, list(wanted))
    problem = _mismatch(net, wanted, given, checkpoint, name)
    if problem:
        raise ModelError(problem)
    given = {key: tensor.to(wanted[key].dtype) for key, tensor in given.items()}
    net.load_state_dict(given, strict=False)  # names were compared above; batch counts may be absent


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


def _strip(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> dict[str, Tensor]:
    """The same tensors without the prefix that a wrapper (DataParallel, compile ...) put before every name."""
    given = dict(tensors)
    changed = True
    while changed:
        changed = False
        for prefix in _PREFIXES:
            if all(key.startswith(prefix) for key in given) and not all(key.startswith(prefix) for key in wanted):
                given = {key.removeprefix(prefix): value for key, value in given.items()}
                changed = bool(given)
    return given


def _mismatch(
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
    have, want = output_count(net, given), output_count(net, wanted)
    if have != want and all(given[key].shape[1:] == wanted[key].shape[1:] for key in other):
        return (
            f"the weights in {where} have {have} classes, {want} are asked for; "
            "give weights made for this data, or weights='random'."
        )
    have, want = input_count(net, given), input_count(net, wanted)
    if have != want and have is not None:
        return f"the weights in {where} take pictures of {have} channels, {want} are asked for."
    shapes = f"{tuple(given[other[0]].shape)} instead of {tuple(wanted[other[0]].shape)}"
    return (
        f"{where} does not fit {name}: {other[0]!r} has shape {shapes}. "
        "Is it the weights of another backbone, of other settings, or of another picture size?"
    )


def _tensors(names: Sequence[str]) -> str:
    return "1 tensor is" if len(names) == 1 else f"{len(names)} tensors are"
