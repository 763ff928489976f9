"""Networks that others publish: torchvision, timm, Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from advkit.backbones.classifier import NORMALISATIONS
from advkit.backbones.fit import out_of_place
from advkit.backbones.weights import SOME, Filled
from advkit.errors import MissingExtra, ModelError, UnknownName, first_line, nearest

__all__ = ["Loaded", "check_count", "from_timm", "from_torchvision", "hub_file"]


@dataclass(frozen=True)
class Loaded:
    """A network and what its source knows of it."""

    net: nn.Module
    weights: str = "caller's"
    classes: Sequence[str] | None = None
    num_classes: int | None = None
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    filled: Filled | None = None  # what a file of weights gave it
    sha256: str = ""  # of the file, for formats that may keep weights outside the state dict


def from_torchvision(name: str, weights: str, classes: int | None) -> Loaded:
    """torchvision's classifier of that name; ``weights`` is auto, random, or a member of its weights enum."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownName("torchvision classifier", name, known)
    mean, std = NORMALISATIONS["imagenet"]
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    if weights == "random":
        net = models.get_model(name, weights=None, num_classes=classes or 1000, **options)
        return Loaded(_single_output(net), "", None, classes or 1000, mean, std)
    enum = models.get_model_weights(name)
    members = {member.name: member for member in enum}
    if weights != "auto" and weights not in members:
        raise ModelError(
            f"torchvision:{name} has no weights {weights!r}; "
            f"known: auto, random, {', '.join(members)}, or the path of a file."
        )
    chosen = members[weights] if weights != "auto" else enum.DEFAULT
    names = chosen.meta["categories"]
    check_count(f"torchvision:{name} with {chosen.name}", len(names), classes)
    state = _downloaded(f"torchvision:{name}", chosen)
    aux = any(key.startswith(("aux", "AuxLogits")) for key in state)
    net = models.get_model(
        name, weights=None, num_classes=len(names), **options | ({"aux_logits": aux} if options else {})
    )
    net.load_state_dict(state)
    preset = chosen.transforms()
    return Loaded(
        _single_output(net),
        f"torchvision {chosen.name}",
        names,
        len(names),
        getattr(preset, "mean", mean),
        getattr(preset, "std", std),
    )


def published_names(name: str) -> Sequence[str]:
    """The class names of torchvision's own weights, which a file in torchvision's layout shares where it has as many."""
    from torchvision import models

    names: Sequence[str] = models.get_model_weights(name).DEFAULT.meta["categories"]
    return names


def from_timm(name: str, weights: str, classes: int | None) -> Loaded:
    """timm's classifier of that name, with its own weights (auto) or none (random)."""
    try:
        import timm
    except ImportError:
        raise MissingExtra("timm", "timm", f"The model timm:{name}") from None
    if not timm.is_model(name.partition(".")[0]):
        raise ModelError(f"timm has no model {name!r};{nearest(name, timm.list_models())} see timm.list_models().")
    options: dict[str, Any] = {"num_classes": classes} if weights == "random" and classes is not None else {}
    net: Any = timm.create_model(name, pretrained=False, **options)
    facts = net.pretrained_cfg
    if weights == "auto":
        check_count(f"timm:{name} with its own weights", net.num_classes, classes)
        try:
            timm.models.load_pretrained(net)
        except Exception as error:  # the hub's client has its own exceptions for each way of not getting a file
            raise _no_download(f"timm:{name}", error) from error
    elif weights != "random":
        raise ModelError(f"timm:{name} has no weights {weights!r}; known: auto, random, or the path of a file.")
    label = "" if weights == "random" else f"timm {facts.get('tag') or 'pretrained'}"
    return Loaded(out_of_place(net), label, None, net.num_classes, facts["mean"], facts["std"])


def hub_file(reference: str) -> tuple[Path, str | None]:
    """Fetch ``user/repo:file.safetensors[@backbone]``: the file's place on this disk and the backbone's name."""
    place, _, backbone = reference.partition("@")
    repository, _, file = place.partition(":")
    if repository.count("/") != 1 or not file.endswith(".safetensors"):
        raise ModelError(
            f"hf:{reference} cannot be read; write hf:user/repo:file.safetensors, "
            "with @backbone behind it where the file does not name its own."
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise MissingExtra("huggingface_hub", "hf", f"The model hf:{reference}") from None
    try:
        return Path(hf_hub_download(repo_id=repository, filename=file)), backbone or None
    except Exception as error:  # see from_timm
        raise _no_download(f"hf:{reference}", error) from error


def check_count(what: str, have: int, asked: int | None) -> None:
    """Refuse a network whose number of classes is not the one asked for."""
    if asked is not None and have != asked:
        raise ModelError(
            f"{what} has {have} classes, {asked} are asked for; give weights made for this data, or weights='random'."
            + (SOME if have > asked else "")
        )


def _single_output(net: Any) -> nn.Module:
    """Drop the auxiliary heads, whose outputs make a tuple in training."""
    if getattr(net, "aux_logits", False):
        net.aux_logits = False
        for name in ("aux1", "aux2", "AuxLogits"):
            if hasattr(net, name):
                setattr(net, name, None)
    return out_of_place(net)


def _downloaded(spec: str, chosen: Any) -> dict[str, torch.Tensor]:
    try:
        state: dict[str, torch.Tensor] = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        file = str(chosen.url).rpartition("/")[2]
        raise ModelError(
            f"the weights of {spec} could not be fetched ({first_line(error)}). Without a network, put the file {file} "
            f"into {Path(torch.hub.get_dir()) / 'checkpoints'}, or give weights=FILE."
        ) from error
    return state


def _no_download(spec: str, error: Exception) -> ModelError:
    return ModelError(
        f"the weights of {spec} could not be fetched ({first_line(error)}). "
        "Without a network, bring the file from a machine that has one and give weights=FILE."
    )
