"""Weight files: read without running code, checked against the network, written whole or not at all."""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from advkit.backbones.classifier import Classifier
from advkit.errors import ModelError

__all__ = [
    "Checkpoint",
    "embedded",
    "input_count",
    "is_torchscript",
    "output_count",
    "put_weights",
    "read_weights",
    "save_model",
    "with_tensors",
]

T = TypeVar("T")

EMBEDDED = Path(__file__).parent.parent / "weights"

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weight file, and what the file says of the network they belong to."""

    label: str
    path: Path
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def backbone(self) -> str | None:
        """Registry name of the architecture."""
        return self.metadata.get("backbone")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes."""
        names = self._json("classes", list)
        return None if names is None else tuple(map(str, names))

    @property
    def channels(self) -> int | None:
        """Channels of the pictures."""
        return self._json("channels", int)

    @property
    def size(self) -> int | None:
        """Side of the pictures in pixels."""
        return self._json("size", int)

    @property
    def mean(self) -> Sequence[float] | None:
        """Mean of each channel, subtracted from the picture."""
        return self._json("mean", list)

    @property
    def std(self) -> Sequence[float] | None:
        """Standard deviation of each channel."""
        return self._json("std", list)

    @property
    def settings(self) -> dict[str, object]:
        """Settings of the backbone other than classes, channels and size."""
        return self._json("settings", dict) or {}

    def _json(self, key: str, kind: type[T]) -> T | None:
        text = self.metadata.get(key)
        try:
            value = None if text is None else json.loads(text)
        except ValueError:
            value = text
        if value is not None and not isinstance(value, kind):
            raise ModelError(
                f"{self.path.name}: its metadata {key!r} is {text!r}, not a JSON {kind.__name__}; "
                "write the file with advkit.backbones.save_model."
            )
        return value


def embedded(folder: Path | None = None) -> list[Checkpoint]:
    """The weights that the package ships, known by their headers; their tensors are not read."""
    found = []
    for path in sorted((folder or EMBEDDED).glob("*.safetensors")):
        facts = _safetensors_header(path)
        label = f"embedded {facts.get('data', path.stem)}-{facts.get('variant', 'standard')}"
        found.append(Checkpoint(label, path, metadata=facts))
    return found


def read_weights(path: str | Path) -> Checkpoint:
    """Read a .safetensors, .pt or .pth file; tensors only, stored 16-bit numbers and all."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weight file {path}; give the path of a .safetensors, .pt or .pth file.")
    if path.suffix == ".safetensors":
        metadata = _safetensors_header(path)
        from safetensors.torch import load_file

        tensors = load_file(path)
    else:
        metadata, tensors = {}, _unwrap(path, _read_pickle(path))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{path.name}: the tensor {name!r} holds NaN or infinity; the file is damaged or diverged."
            )
    return Checkpoint(f"file {path.name}", path, tensors, metadata)


def with_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint with its tensors read."""
    return replace(read_weights(checkpoint.path), label=checkpoint.label)


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(name.endswith("constants.pkl") for name in names) and any("/code/" in name for name in names)


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
    """Write weights and all that is needed to build the network again, atomically; mean and std default to the model's.

    ``extra`` joins the metadata: ``data``, ``variant`` and ``recipe`` make the file findable as embedded weights.
    """
    from safetensors.torch import save_file

    path = Path(path)
    if isinstance(model, Classifier):
        mean = model.mean.flatten().tolist() if mean is None else mean
        std = model.std.flatten().tolist() if std is None else std
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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata=facts)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path


def _safetensors_header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is not a readable .safetensors file ({error}); it may be cut short.") from error


def _read_pickle(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and "eights_only" not in str(error):
            raise ModelError(f"{path.name} is not a readable weight file ({_first_line(error)}).") from error
        what = f" (it names {named[1]})" if named else ""
        raise ModelError(
            f"{path.name} holds code{what}, which would run while the file is read; it was not loaded. "
            "Save the weights alone: torch.save(model.state_dict(), ...), or a .safetensors file."
        ) from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ModelError(f"{path.name} is not a readable weight file ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _unwrap(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict inside the containers that training scripts write."""
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = (
        {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise ModelError(
            f"{path.name} holds a {type(content).__name__} without tensors; "
            f"give a state dict, bare or under one of: {', '.join(_CONTAINERS)}."
        )
    return tensors


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
        parts = [f"{len(missing)} tensors are missing (first {missing[0]!r})"] if missing else []
        parts += [f"{len(unexpected)} are not known (first {unexpected[0]!r})"] if unexpected else []
        return f"{where} does not fit {name}: {', '.join(parts)}. Is it the weights of another backbone?"
    other = [key for key in given if given[key].shape != wanted[key].shape]
    if not other:
        kinds = [key for key in given if given[key].is_floating_point() != wanted[key].is_floating_point()]
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
