"""Weight files, read without running code."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from advkit.backbones.placing import AVERAGED
from advkit.documents import parse_json
from advkit.errors import ModelError, first_line

__all__ = ["EMBEDDED", "Checkpoint", "embedded", "is_torchscript", "read_weights", "with_tensors"]

T = TypeVar("T")

EMBEDDED = Path(__file__).parent.parent / "weights"

_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_DEEP = 4  # containers within each other


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


def read_weights(path: str | Path, key: str = "") -> Checkpoint:
    """Read a .safetensors, .pt or .pth file; tensors only, stored 16-bit numbers and all.

    Of several sets of weights in one file it is the averaged one that is read, else the first under a usual name, and
    ``key`` chooses another: its place (``state_dict_ema``, ``ema.model``) or a prefix of the names. The label says which.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no weight file {path}; give the path of a .safetensors, .pt or .pth file.")
    label = f"file {path.name}"
    if path.suffix == ".safetensors":
        metadata = _safetensors_header(path)
        from safetensors.torch import load_file

        tensors = load_file(path)
    elif is_torchscript(path):
        raise ModelError(
            f"{path.name} is a TorchScript archive, a network with its weights; give it as the model, and leave the weights "
            "out."
        )
    else:
        metadata, content = {}, _read_pickle(path)
        chosen, sets = _unwrap(path, content, key)
        tensors = sets[chosen]
        if len([place for place in sets if place]) > 1:
            label += f":{chosen}"
        key = "" if key == chosen else key
    if key:
        tensors, label = _behind(path, tensors, key), f"{label}:{key}"
    for name, tensor in tensors.items():
        _check_tensor(path, name, tensor)
    return Checkpoint(label, path, tensors, metadata)


def _behind(path: Path, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``key`` and a dot."""
    found = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{key}.")}
    if not found:
        heads = dict.fromkeys(name.partition(".")[0] for name in tensors)
        raise ModelError(f"{path.name} holds no {key!r}; names in it begin with: {', '.join(list(heads)[:20])}.")
    return found


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a tensor that is no plain block of finite numbers."""
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise ModelError(
            f"{path.name}: the tensor {name!r} is {'nested' if tensor.is_nested else 'sparse'}; save it dense "
            "(tensor.to_dense())."
        )
    if tensor.is_meta:
        raise ModelError(
            f"{path.name}: the tensor {name!r} lies on the meta device, which holds a shape and no numbers; save the weights "
            "of a network that was built on cpu or cuda."
        )
    if not tensor.is_floating_point():
        return
    stored = tensor.untyped_storage()
    if tensor.numel() * tensor.element_size() > stored.nbytes():  # expanded: the numbers that there are stand for many
        tensor = torch.empty(0, dtype=tensor.dtype).set_(stored)
    if not bool(torch.isfinite(tensor).all()):
        raise ModelError(f"{path.name}: the tensor {name!r} holds NaN or infinity; the file is damaged or diverged.")


def with_tensors(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint with its tensors read."""
    return replace(read_weights(checkpoint.path), label=checkpoint.label)


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive."""
    try:
        if not zipfile.is_zipfile(path):
            return False
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises whatever it meets in a damaged file; who reads it as weights says what is wrong
        return False
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
            with torch.serialization.safe_globals(_harmless()):
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


def _harmless() -> list[Any]:
    """Values that training scripts keep beside the weights and that run nothing: their settings, and numbers of numpy."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(letter)) for letter in "?bhilqBHILQefdgFDG"}
    named = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [argparse.Namespace, np.dtype, *kinds, *named]


def _unwrap(path: Path, content: object, key: str) -> tuple[str, dict[str, dict[str, Tensor]]]:
    """Which set of weights is meant, by its place in the containers that training scripts write; and all there are."""
    sets = dict(_sets(content)) if isinstance(content, Mapping) else {}
    if not sets:
        raise ModelError(
            f"{path.name} holds a {type(content).__name__} without tensors; "
            f"give a state dict, bare or under one of: {', '.join(_CONTAINERS)}."
        )
    if key and key in sets:
        return key, sets
    chosen = ""
    while chosen not in sets or _within(sets, chosen):
        inner = _within(sets, chosen)
        averaged = [name for name in inner if AVERAGED.search(name)]
        usual = [name for name in _CONTAINERS if name in inner]
        if not averaged and not usual and chosen in sets:
            break
        if not averaged and not usual and len(inner) > 1:
            raise ModelError(
                f"{path.name} holds several sets of weights, {', '.join(sets)}; say which, as FILE:{next(iter(sets))}."
            )
        chosen = f"{chosen}.{(averaged or usual or inner)[0]}".removeprefix(".")
    return chosen, sets


def _sets(content: Mapping[Any, Any], at: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every dictionary of tensors, by its place."""
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        yield at, tensors
    for name, value in content.items():
        # An optimiser keeps means of gradients, by number.
        if isinstance(name, str) and isinstance(value, Mapping) and depth < _DEEP and "optim" not in name.lower():
            yield from _sets(value, f"{at}.{name}".removeprefix("."), depth + 1)


def _within(sets: Mapping[str, object], at: str) -> list[str]:
    """The names, in the dictionary at a place, of others that hold tensors."""
    inside = [
        place.removeprefix(f"{at}." if at else "")
        for place in sets
        if place and place.startswith(f"{at}." if at else "")
    ]
    return list(dict.fromkeys(name.partition(".")[0] for name in inside))
