"""Weight files, read without running code."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from advkit.documents import parse_json
from advkit.errors import ModelError, first_line

__all__ = ["EMBEDDED", "Checkpoint", "embedded", "is_torchscript", "read_weights", "with_tensors"]

T = TypeVar("T")

EMBEDDED = Path(__file__).parent.parent / "weights"

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights")


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
            value = None if text is None else parse_json(text, key)
        except ValueError:
            value = text
        if value is not None and not isinstance(value, kind):
            raise ModelError(
                f"{self.path.name}: its metadata {key!r} is {text!r}, not a JSON {kind.__name__}; "
                "write the file with advkit.backbones.save_model."
            )
        return value


def embedded(folder: Path | None = None) -> list[Checkpoint]:
    """The classifiers' weights that the package ships, known by their headers; their tensors are not read."""
    found = []
    for path in sorted((folder or EMBEDDED).glob("*.safetensors")):
        facts = _safetensors_header(path)
        if "denoiser" in facts:  # of a defense: no classifier
            continue
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


def _safetensors_header(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} is not a readable .safetensors file ({error}); it may be cut short.") from error


def _read_pickle(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol: it is read or refused, and that is said
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"code (it names {named[1]})" if named else "something other than tensors, or is damaged"
        raise ModelError(
            f"{path.name} holds {what}; reading it could run anything, so it was not loaded. "
            "Save the weights alone: torch.save(model.state_dict(), ...), or a .safetensors file."
        ) from error
    except Exception as error:  # what a damaged file raises depends on where it is damaged
        raise ModelError(f"{path.name} is not a readable weight file ({first_line(error, typed=True)}).") from error


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
