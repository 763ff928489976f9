"""From a name, a file or a module to a classifier on [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from advkit.backbones import sources, usercode
from advkit.backbones.checkpoint import Checkpoint, is_torchscript, read_weights
from advkit.backbones.classifier import Classifier, normalisation
from advkit.backbones.given import Function, as_module
from advkit.backbones.onnx_file import from_onnx
from advkit.backbones.registered import from_registry
from advkit.backbones.sources import Loaded, check_count
from advkit.backbones.unfit import check_ready, first_answer
from advkit.backbones.weights import agreed, output_count, put_weights
from advkit.backbones.wish import MODEL_FILES, Wish, drawn
from advkit.catalog import BACKBONES
from advkit.errors import ModelError
from advkit.numbers import shortened, whole_of
from advkit.paths import check_path, expanded
from advkit.trust import Trust

if TYPE_CHECKING:
    from advkit.data.base import Data

__all__ = ["admit", "load_model"]

_LARGEST = 8192  # channels, and pixels of an image's side
Numbers = str | Sequence[float] | None


def load_model(
    spec: str | Path | nn.Module | Callable[[Tensor], Tensor],
    *,
    weights: str | Path | None = "auto",
    classes: int | None = None,
    channels: int | None = None,
    size: int | None = None,
    data: Data | None = None,
    mean: str | Sequence[float] | None = None,
    std: str | Sequence[float] | None = None,
    normalize: str | None = None,
    device: str | torch.device | None = None,
    seed: int = 0,
    trust: Trust | None = None,
    **settings: object,
) -> Classifier:
    """The classifier that ``spec`` names, in eval mode, with its normalisation inside.

    ``spec``: a registry name (resnet20), torchvision:NAME, timm:NAME, hf:user/repo:file.safetensors[@backbone],
    path/to/file.py:factory[:ARG...], package.module:factory[:ARG...], a file (a .safetensors that names its backbone,
    TorchScript, ONNX), a module or a function from images to scores.
    ``weights``: auto (those that the package ships for this data, or that the source publishes), random (drawn
    under ``seed``), a variant of the shipped ones (adversarial), embedded:NAME, or the path of a file.
    ``data`` fills in classes, channels and size. ``mean`` and ``std`` are numbers per channel or, as ``normalize``
    for both, a name: imagenet, cifar10, none. A module stays on its device unless one is named.
    ``trust``: where ``spec`` was read from a file and not written by the caller, what he did write. Raises Untrusted.
    """
    trust = trust if trust is not None else Trust.of(spec) if isinstance(spec, str) else Trust()
    if normalize is not None:
        if mean is not None or std is not None:
            raise ModelError(f"normalize={normalize!r} was given together with mean or std; give one or the other.")
        mean = std = normalize
    classes, channels, size = (
        _whole(what, value) for what, value in (("classes", classes), ("channels", channels), ("size", size))
    )
    sides = None if size is None else (size, size)
    if data is not None:
        classes, channels, sides = _measures(data, classes, channels, size)
        size = sides[0] if sides[0] == sides[1] else None
        if not data.named and weights not in ("random", None):
            classes = None  # numbers only: the data may lack the last classes, the weights know how many there are
    of_data, names = (None, None) if data is None else (data.name, data.classes if data.named else None)
    wish = Wish(classes, channels, size, str(weights or "random"), seed, of_data, settings, names, sides)
    if isinstance(spec, (str, Path)):
        model = _of_text(str(spec), wish, mean, std, trust)
    else:
        model = _of_module(as_module(spec), wish, mean, std)
    if "backbone" not in model.metadata and channels is not None and sides is not None:
        model.num_classes = _probe(model, channels, *sides)
    if model.num_classes is not None:
        check_count(model.name, model.num_classes, classes)
    if data is not None and model.classes is not None:
        _check_order(model.name, model.classes, data)
    if model.classes is None and data is not None and model.num_classes == len(data.classes):
        model.classes = data.classes
    if device is not None:
        model = model.to(device)
    return model.eval()


def _whole(what: str, value: object) -> int | None:
    """A number of the network's, which may be given as a text. Raises ModelError for what is none."""
    if value is None:
        return None
    try:
        found = whole_of(value) if isinstance(value, str) else index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ModelError(f"{what} is {shortened(value)}; give a whole number.") from None
    if what != "classes" and not 1 <= found <= _LARGEST:
        raise ModelError(f"{what} is {shortened(value)}; give 1 to {_LARGEST:,}.")
    return found


def _measures(
    data: Data, classes: int | None, channels: int | None, size: int | None
) -> tuple[int, int, tuple[int, int]]:
    """Classes, channels, and height and width, of the data where nothing else was asked for."""
    if not hasattr(data, "shape") or not hasattr(data, "classes"):
        raise ModelError(
            f"data is of type {type(data).__name__}; give a data set, such as advkit.load_data((x, y)) makes of two tensors."
        )
    of_pictures, height, width = data.shape
    for what, asked, have in (("classes", classes, len(data.classes)), ("channels", channels, of_pictures)):
        if asked is not None and asked != have:
            raise ModelError(f"{what}={asked} was given, {data.name} has {have}; leave it out where data is given.")
    return len(data.classes), of_pictures, (height, width) if size is None else (size, size)


def _check_order(name: str, classes: tuple[str, ...], data: Data) -> None:
    """Refuse a model that knows the same classes by other numbers: its accuracy would be nonsense."""
    if sorted(classes) != sorted(data.classes):
        return
    for number, (theirs, ours) in enumerate(zip(classes, data.classes, strict=True)):
        if theirs != ours:
            raise ModelError(
                f"{name} and {data.name} order the same classes differently: class {number} is {theirs!r} to the model "
                f"and {ours!r} in the data; bring the data's classes into the model's order."
            )


def _of_module(net: nn.Module, wish: Wish, mean: Numbers, std: Numbers) -> Classifier:
    if wish.settings:
        raise ModelError(f"a module has no setting {next(iter(wish.settings))!r}: it is built already.")
    if isinstance(net, Classifier) and isinstance(net.net, Function):
        return _wrapped(_own(Loaded(net.net), wish, net.name), wish, net.name, mean, std)
    if not isinstance(net, Classifier):
        return _wrapped(_own(Loaded(net), wish, type(net).__name__), wish, type(net).__name__, mean, std)
    if mean is not None or std is not None:
        raise ModelError(f"{net.name} is a Classifier with its normalisation inside; give its .net to change that.")
    loaded = _own(Loaded(net.net, net.weights), wish, net.name)
    net.weights = loaded.weights
    if loaded.filled is not None and loaded.filled.spread is not None:
        own = (net.mean.flatten().tolist(), net.std.flatten().tolist()) if len(net.mean) else (None, None)
        net.normalise(*normalisation(*agreed(loaded.filled, own, wish.channels), wish.channels))
    return net


def admit(spec: str, trust: Trust) -> None:
    """Raise Untrusted for a text that ``load_model`` would import code for, or fetch a stranger's file."""
    if spec.startswith("hf:"):
        trust.check(spec, "a file of anybody's on a network", "it was not fetched")
    elif not spec.startswith(("torchvision:", "timm:")) and not _is_file(spec) and _is_code(spec):
        trust.check(spec)


def _is_file(spec: str) -> bool:
    path = expanded(spec)
    return spec not in BACKBONES and (
        path.suffix in MODEL_FILES or (":" not in spec and path.suffix != ".py" and path.is_file())
    )


def _is_code(spec: str) -> bool:
    return ":" in spec or Path(spec).suffix == ".py"


def _of_text(spec: str, wish: Wish, mean: Numbers, std: Numbers, trust: Trust) -> Classifier:
    check_path("the model", spec)
    check_path("the weights", wish.weights)
    admit(spec, trust)
    source, _, rest = spec.partition(":")
    path = expanded(spec)
    if source == "hf":
        path, backbone = sources.hub_file(rest)
        return _of_checkpoint(replace(read_weights(path), label=spec), backbone, wish, mean, std)
    if source in ("torchvision", "timm"):
        return _wrapped(_of_library(spec, wish), wish, spec, mean, std)
    if path.suffix == ".pt2":
        raise ModelError(
            f"{path.name} is of torch.export, whose reader evaluates what the file says, so it is not loaded. Load it in a "
            "file of your own, def net(): return torch.export.load(FILE).module(), and give that as FILE.py:net; or export the "
            "network as TorchScript, or as ONNX."
        )
    if _is_file(spec):
        if not path.is_file():
            raise ModelError(f"there is no model file {spec}.")
        if path.suffix == ".onnx":
            return _wrapped(_own(from_onnx(path), wish, spec), wish, spec, mean, std)
        if path.suffix in (".ts", ".torchscript") or is_torchscript(path):
            return _wrapped(_own(usercode.from_torchscript(path, trust), wish, spec), wish, spec, mean, std)
        return _of_checkpoint(read_weights(path), None, wish, mean, std)
    if _is_code(spec):
        with drawn(wish.seed):
            loaded = usercode.from_code(spec, wish.settings, trust)
        return _wrapped(_own(loaded, wish, spec), wish, spec, mean, std)
    return from_registry(spec, wish, mean, std)


def _of_checkpoint(checkpoint: Checkpoint, backbone: str | None, wish: Wish, mean: Numbers, std: Numbers) -> Classifier:
    """The network that a weight file belongs to."""
    name, file = backbone or checkpoint.backbone, checkpoint.path
    if name is None:
        raise ModelError(
            f"{file.name} does not say which network its weights belong to; "
            f"name the backbone and give the file as weights, for example resnet20 with weights={file}."
        )
    if wish.weights != "auto":
        raise ModelError(f"{file.name} is a weight file itself; leave out weights={wish.weights}.")
    return from_registry(name, wish, mean, std, checkpoint)


def _of_library(spec: str, wish: Wish) -> Loaded:
    """A network of torchvision or timm as published, with the weights of a file where one is given."""
    if wish.channels not in (None, 3):
        raise ModelError(
            f"{spec} takes pictures of 3 channels, these have {wish.channels}; "
            "use a backbone of advkit's own (advkit list backbones)."
        )
    if wish.settings:
        raise ModelError(f"{spec} has no setting {next(iter(wish.settings))!r}: it is used as published.")
    source, _, name = spec.partition(":")
    find = sources.from_torchvision if source == "torchvision" else sources.from_timm
    with drawn(wish.seed):
        if wish.weight_file is None:
            return find(name, wish.weights, wish.classes)
        checkpoint = read_weights(wish.weight_file, wish.weight_key)
        loaded = find(name, "random", wish.classes)
        count = output_count(loaded.net, checkpoint.tensors, checkpoint.path.name)
        if wish.classes is None and count != loaded.num_classes:
            loaded = find(name, "random", count)
    filled = put_weights(loaded.net, checkpoint, spec)
    names = sources.published_names(name) if source == "torchvision" else None
    if names is not None and len(names) != loaded.num_classes:
        names = None  # trained on something else
    return replace(loaded, weights=filled.label, classes=names, filled=filled)


def _own(loaded: Loaded, wish: Wish, name: str) -> Loaded:
    """The user's network as it came, or with the weights of a file."""
    if wish.weight_file is not None:
        filled = put_weights(loaded.net, read_weights(wish.weight_file, wish.weight_key), name)
        return replace(loaded, weights=filled.label, filled=filled)
    if wish.weights not in ("auto", "random"):
        raise ModelError(f"{name} comes with its own weights; {wish.weights!r} is not the path of a file.")
    return loaded


def _wrapped(loaded: Loaded, wish: Wish, name: str, mean: Numbers, std: Numbers) -> Classifier:
    mean, std = agreed(loaded.filled, (mean, std), wish.channels)
    if mean is None and std is None:
        mean, std = loaded.mean, loaded.std
    means, stds = normalisation(mean, std, wish.channels)
    model = Classifier(
        loaded.net,
        name=name,
        weights=loaded.weights or f"random (seed {wish.seed})",
        classes=loaded.classes,
        num_classes=loaded.num_classes,
        mean=means,
        std=stds,
        metadata={"sha256": loaded.sha256} if loaded.sha256 else {},
    )
    first = next(loaded.net.parameters(), None)
    return model if first is None else model.to(first.device)


def _probe(model: Classifier, channels: int, height: int, width: int) -> int:
    """Number of scores that the model gives for one black picture; sees, too, whether it writes to what it is given."""
    check_ready(model)
    first = next(model.parameters(), model.mean)
    x = torch.zeros(1, channels, height, width, device=first.device)
    with torch.no_grad(), drawn(0):
        scores, model.writes = first_answer(model, model.eval(), x)
    return scores.shape[1]
