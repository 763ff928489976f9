"""Banks of clean patches: from the training pictures of signs, or from a file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from advkit.arrays import read_arrays
from advkit.core.rng import Rng
from advkit.data.signs import Signs
from advkit.errors import DataError
from advkit.paths import expanded, file_problem

__all__ = ["drawn_bank", "read_bank"]

_PER_PICTURE = 50


@lru_cache(maxsize=4)
def drawn_bank(count: int, side: int, channels: int) -> Tensor:
    """(count, channels * side * side) float64: patches from random places of signs' training pictures, 50 from each.

    Always the same ones. Raises DataError unless there are 1 or 3 channels.
    """
    if channels not in (1, 3):
        raise DataError(
            f"quilting: pictures have {channels} channels and its own patches 3 or 1; give a bank of yours."
        )
    needed = -(-count // _PER_PICTURE)
    pictures = Signs("train", count=needed).pictures(range(needed)).double()
    if channels == 1:
        pictures = pictures.mean(1, keepdim=True)
    places = Rng.of(0, torch.arange(needed)).fold("patches").integers(pictures.shape[-1] - side + 1, _PER_PICTURE, 2)
    cut = pictures.unfold(2, side, 1).unfold(3, side, 1).permute(0, 2, 3, 1, 4, 5)
    patches = cut[torch.arange(needed)[:, None], places[..., 0], places[..., 1]]
    return patches.flatten(0, 1).flatten(1)[:count].contiguous()


def read_bank(path: str, side: int, channels: int) -> Tensor:
    """(N, channels * side * side) float64 of a file's ``patches`` (N, C, side, side), in [0, 1] or bytes; colours become grey.

    Raises DataError for a file that cannot be read, or patches of another size.
    """
    file = expanded(path)
    if problem := file_problem(file):
        raise DataError(f"the bank {path} cannot be read ({problem}).")
    return _read(file, side, channels, file.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _read(file: Path, side: int, channels: int, changed: int) -> Tensor:
    patches = _stored(file)
    if patches.ndim != 4 or patches.shape[2:] != (side, side) or patches.shape[1] not in (channels, 3):
        shape = " x ".join(map(str, patches.shape))
        raise DataError(f"the bank {file} holds patches of {shape}; give N x {channels} x {side} x {side}.")
    values = patches.double() / 255 if patches.dtype == torch.uint8 else patches.double()
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise DataError(f"the bank {file} holds values outside of [0, 1]; give that range, or bytes from 0 to 255.")
    if values.shape[1] != channels:
        values = values.mean(1, keepdim=True)
    return values.flatten(1)


def _stored(file: Path) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)["patches"]
        arrays, _ = read_arrays(file, ["patches"], "bank")
        return torch.from_numpy(arrays["patches"])
    except KeyError:
        raise DataError(f"the bank {file} has no array named 'patches'.") from None
    except (OSError, TypeError, SafetensorError) as error:
        raise DataError(f"the bank {file} is neither .npz nor .safetensors of patches ({error}).") from error
