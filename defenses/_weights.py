"""Weights of denoisers: written with all that builds the network again, found by name, read once per process and device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from advkit.atomic import put_whole
from advkit.backbones.checkpoint import EMBEDDED, Checkpoint, read_weights
from advkit.defenses._denoisers import Denoiser, build_denoiser
from advkit.documents import ordered_header
from advkit.errors import InputError, ModelError

__all__ = ["Rows", "check_weights", "cleaned", "denoiser", "number", "read_denoiser", "save_denoiser"]

D = TypeVar("D", bound=Denoiser)


def save_denoiser(path: str | Path, net: Denoiser, facts: Mapping[str, str]) -> Path:
    """Write a denoiser as .safetensors, whole or not at all; ``facts`` (recipe, data ...) join its metadata."""
    from safetensors.torch import save

    path = Path(path)
    own = {"denoiser": net.kind, "settings": json.dumps(net.settings, sort_keys=True)}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in net.state_dict().items()}
    put_whole(path, ordered_header(save(tensors, metadata={**facts, **own})))
    return path


def read_denoiser(path: str | Path) -> tuple[Denoiser, Mapping[str, str]]:
    """The denoiser of a file, in eval mode, and the file's metadata. Raises ModelError for any other file."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ModelError(f"{path} is no .safetensors file, in which advkit train-denoiser writes a denoiser.")
    found = read_weights(path)
    if "denoiser" not in found.metadata:
        raise ModelError(f"{path.name} holds no denoiser; make one with advkit train-denoiser.")
    net = _built(found)
    try:
        net.load_state_dict(dict(found.tensors))
    except RuntimeError as error:
        raise ModelError(f"{path.name} does not hold the tensors of the {net.kind} that it describes.") from error
    return net.eval().requires_grad_(False), found.metadata


def check_weights(name: str, weights: str) -> None:
    """Refuse a setting ``weights`` that cannot be one: a text that is neither auto nor the name of such a file."""
    if weights != "auto" and not weights.endswith(".safetensors"):
        raise InputError(f"{name}: weights is {weights!r}; give auto or a .safetensors file of advkit train-denoiser.")


def denoiser(name: str, kind: type[D], weights: str, x: Tensor) -> tuple[D, Mapping[str, str]]:
    """The network behind the defense ``name`` for pictures like x, on their device and in their type, and its metadata.

    ``weights`` is a file, or auto: the shipped one that was trained on pictures of as many channels, else of three.
    """
    path = _shipped(name, x.shape[1]) if weights == "auto" else Path(weights)
    try:
        about = path.stat()
    except OSError:
        raise ModelError(f"{name}: there is no weight file {path}.") from None
    dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    net, facts = _placed(path, about.st_mtime_ns, about.st_size, x.device, dtype)
    if not isinstance(net, kind):
        raise ModelError(
            f"{name} takes a denoiser of the kind {kind.kind}; {path.name} holds one of the kind {net.kind}."
        )
    return net, facts


def number(facts: Mapping[str, str], key: str, default: float) -> float:
    """A number of a file's metadata. Raises ModelError for what is none."""
    try:
        return float(facts.get(key, default))
    except ValueError:
        raise ModelError(
            f"the metadata of the denoiser say that {key} is {facts[key]!r}, which is no number."
        ) from None


def cleaned(name: str, kind: type[Denoiser], weights: str, x: Tensor) -> Tensor:
    """What a denoiser makes of pictures (B, C, H, W), clipped to [0, 1]; the gradient is its own."""
    net, _ = denoiser(name, kind, weights, x)
    rows = Rows.of(x, net)
    return rows.join(net(rows.split(x))).clamp(0, 1)


@dataclass(frozen=True)
class Rows:
    """Pictures of any number of channels as rows for a network: one for grey pictures is given each channel by itself, and
    one for colours is given a grey picture as equal channels, of which the mean counts in the end."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    channels: int  # of the network
    working: torch.dtype

    @classmethod
    def of(cls, x: Tensor, net: Denoiser) -> Rows:
        """How pictures like x go through a network. Raises InputError where it is for others."""
        channels = net.settings["channels"]
        if x.shape[1] != channels and 1 not in (x.shape[1], channels):
            raise InputError(f"the denoiser is for pictures of {channels} channels; these have {x.shape[1]}.")
        return cls(tuple(x.shape), x.dtype, channels, next(net.parameters()).dtype)

    @property
    def wide(self) -> tuple[int, int, int]:
        """(channels, H, W) of what the rows of one picture are made from."""
        return max(self.shape[1], self.channels), self.shape[2], self.shape[3]

    def split(self, x: Tensor) -> Tensor:
        """Rows (R, channels, H, W) of pictures, or of what has their wide shape."""
        rows = x.expand(len(x), *self.wide).reshape(-1, self.channels, *self.shape[2:]).to(self.working)
        # The kernels for a single row round otherwise, and a picture's result must not depend on its company.
        rows = torch.cat([rows, rows]) if len(rows) == 1 else rows
        return rows.contiguous(memory_format=torch.channels_last)

    def join(self, rows: Tensor) -> Tensor:
        """Pictures of the rows."""
        count = self.shape[0] * self.wide[0] // self.channels
        x = rows[:count].reshape(self.shape[0], *self.wide).to(self.dtype)
        return (x.mean(1, keepdim=True) if self.shape[1] < self.wide[0] else x).contiguous()


@lru_cache(maxsize=16)
def _placed(
    path: Path, changed: int, size: int, device: torch.device, dtype: torch.dtype
) -> tuple[Denoiser, Mapping[str, str]]:
    """``changed`` and ``size`` are of the file: one that was written anew is read anew."""
    # A tensor made in inference mode could not carry the gradient of an attack afterwards.
    with torch.inference_mode(False):
        net, facts = read_denoiser(path)
        return net.to(device, dtype).to(memory_format=torch.channels_last), facts


@lru_cache(maxsize=16)
def _shipped(name: str, channels: int) -> Path:
    paths = sorted(EMBEDDED.glob(f"denoiser-{name}-*.safetensors"))
    if not paths:
        raise ModelError(
            f"{name}: no weights ship with this copy of advkit; give weights=FILE (advkit train-denoiser)."
        )
    made_for = {path: read_denoiser(path)[0].settings["channels"] for path in paths}
    return next((path for path in paths if made_for[path] == channels), paths[0])


def _built(found: Checkpoint) -> Denoiser:
    try:
        return build_denoiser(found.metadata["denoiser"], found.settings)
    except InputError as error:
        raise ModelError(f"{found.path.name} describes no denoiser of advkit: {error}") from error
