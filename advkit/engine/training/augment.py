"""Augmentation: chains such as ``crop+flip+cutmix``, each picture's draws a function of (seed, epoch, example) alone.

So two processes together see exactly what one with the doubled batch sees, and a resumed training what an uninterrupted one
does. torchvision's transforms draw from torch's global generator: they get it seeded, and it comes back as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError, UnknownName

__all__ = ["Step", "augmented", "mixed", "mixes", "read_augmentation", "shifted"]


@dataclass(frozen=True)
class Step:
    """One part of a chain: a name and its numbers."""

    name: str
    numbers: tuple[float, ...]


# The numbers of each, with their defaults.
_DEFAULTS: dict[str, tuple[float, ...]] = {
    "affine": (
        10,
        0.1,
        0.15,
        10,
    ),  # degrees, moved by this share of a side, larger or smaller by this share, shear in degrees
    "crop": (4,),  # pixels
    "cutmix": (1.0,),
    "flip": (),
    "jitter": (0.4, 0.4, 0.4),  # brightness, contrast and saturation grow or fall by up to this share
    "mixup": (0.2,),
    "randaugment": (2, 9),
    "shift": (-1,),  # the recipe's own
}
_WHOLE = ("crop", "randaugment", "shift")
_MIXING = ("cutmix", "mixup")


def read_augmentation(text: str) -> tuple[Step, ...]:
    """The steps that a text describes: ``none``, ``shift``, ``crop:4+flip``, ``randaugment:2,9+mixup:0.2``.

    Raises InputError for what is none.
    """
    if text in ("none", ""):
        return ()
    return tuple(_read(part) for part in text.split("+"))


def _read(text: str) -> Step:
    name, _, given = text.partition(":")
    if name not in _DEFAULTS:
        raise UnknownName("augmentation", name, (*_DEFAULTS, "none"))
    default = _DEFAULTS[name]
    try:
        numbers = tuple((int if name in _WHOLE else float)(one) for one in given.split(",")) if given else ()
    except ValueError:
        numbers = (-1.0,)
    if len(numbers) > len(default) or any(number < (name in _MIXING) * 1e-6 for number in numbers):
        example = ",".join(f"{number:g}" for number in default)
        how = (
            f"such as {name}:{example}"
            if example and name != "shift"
            else "such as shift:2"
            if example
            else "without any"
        )
        raise InputError(f"the augmentation {text!r} has wrong numbers; give positive ones, {how}.")
    return Step(name, (*numbers, *default[len(numbers) :]))


def mixes(steps: Sequence[Step]) -> bool:
    """Whether pictures are mixed with others of the batch."""
    return any(step.name in _MIXING for step in steps)


def augmented(x: Tensor, steps: Sequence[Step], shift: int, rng: Rng) -> Tensor:
    """Pictures (B, C, H, W), each changed by draws of its own stream; mixing is left to ``mixed``."""
    for place, step in enumerate(steps):
        if step.name not in _MIXING:
            x = _SINGLE[step.name](x, step, shift, rng.fold(place))
    return x


def mixed(x: Tensor, y: Tensor, steps: Sequence[Step], classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (B, C, H, W), each mixed with the one before it, and labels as probabilities (B, K).

    One draw for the batch, as in torchvision's CutMix (Yun et al. 2019) and MixUp (Zhang et al. 2018); where a chain has both,
    each batch is given one of them.
    """
    kinds = [step for step in steps if step.name in _MIXING]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        chosen = kinds[int(torch.randint(len(kinds), ())) if len(kinds) > 1 else 0]
        x, y = _mixer(chosen.name, chosen.numbers[0], classes)(x, y)
    return x, y


@cache
def _mixer(name: str, alpha: float, classes: int) -> Callable[..., Any]:
    from torchvision.transforms import v2

    kind = {"cutmix": v2.CutMix, "mixup": v2.MixUp}[name]
    made: Callable[..., Any] = kind(alpha=alpha, num_classes=classes)
    return made


def shifted(x: Tensor, most: int, rng: Rng) -> Tensor:
    """Each picture (B, C, H, W) moved by up to ``most`` pixels, its border repeated."""
    if most == 0:
        return x
    return _windows(F.pad(x, (most, most, most, most), mode="replicate"), x, rng.integers(2 * most + 1, 2))


def _windows(padded: Tensor, x: Tensor, corners: Tensor) -> Tensor:
    """Of each padded picture the window of x's size whose upper left corner is at ``corners`` (B, 2)."""
    count, channels, height, width = x.shape
    top, left = corners.unbind(1)
    down = (top[:, None] + torch.arange(height, device=x.device))[:, None, :, None].expand(
        count, channels, height, padded.shape[3]
    )
    across = (left[:, None] + torch.arange(width, device=x.device))[:, None, None, :].expand(
        count, channels, height, width
    )
    return padded.gather(2, down).gather(3, across)


def _shift(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    most = int(step.numbers[0])
    return shifted(x, shift if most < 0 else most, rng)


def _crop(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    """torchvision's RandomCrop of the picture's own size with black padding, for all pictures at once."""
    most = int(step.numbers[0])
    return _windows(F.pad(x, (most, most, most, most)), x, rng.integers(2 * most + 1, 2))


def _flip(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    """torchvision's RandomHorizontalFlip, for all pictures at once."""
    return torch.where(rng.uniform(1, 1, 1) < 0.5, x.flip(3), x)


def _affine(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    """Each picture turned, sheared, zoomed and moved about its centre; bilinear, its border repeated."""
    degrees, move, zoom, shear = step.numbers
    height, width = x.shape[2:]
    angle, lean, size, right, down = (2 * rng.uniform(5, dtype=x.dtype) - 1).unbind(1)
    angle, size = angle * math.radians(degrees), (1 + zoom) ** size
    cosine, sine = angle.cos() / size, angle.sin() / size
    slope = (lean * math.radians(shear)).tan()
    # What is seen at a place of the result, in the coordinates of affine_grid, which run from -1 to 1 along both sides.
    rows = (
        torch.stack([cosine, (cosine * slope - sine) * (height / width), 2 * move * right], 1),
        torch.stack([sine * (width / height), sine * slope + cosine, 2 * move * down], 1),
    )
    places = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)


def _jitter(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    """torchvision's ColorJitter without hue, for all pictures at once; a factor f is as likely as 1 / f."""
    draws = 2 * rng.uniform(3, 1, 1, 1, dtype=x.dtype) - 1
    brightness, contrast, saturation = ((1 + most) ** draws[:, i] for i, most in enumerate(step.numbers))
    grey = x.mean(1, keepdim=True)
    x = grey + saturation * (x - grey)
    mean = grey.mean((2, 3), keepdim=True)
    return (brightness * (mean + contrast * (x - mean))).clamp(0, 1)


def _randaugment(x: Tensor, step: Step, shift: int, rng: Rng) -> Tensor:
    """RandAugment (Cubuk et al. 2020) of torchvision, on one picture after the other."""
    change = _randaugmenter(int(step.numbers[0]), int(step.numbers[1]))
    made = torch.empty_like(x)
    with torch.random.fork_rng(devices=[]):
        for place, seed in enumerate((rng.bits() >> 1 & 0x3FFFFFFFFFFFFFFF).tolist()):
            torch.default_generator.manual_seed(seed)
            made[place] = change(x[place])
    return made


@cache
def _randaugmenter(operations: int, magnitude: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    made: Callable[[Tensor], Tensor] = v2.RandAugment(operations, magnitude)
    return made


_SINGLE: dict[str, Callable[[Tensor, Step, int, Rng], Tensor]] = {
    "affine": _affine,
    "crop": _crop,
    "flip": _flip,
    "jitter": _jitter,
    "randaugment": _randaugment,
    "shift": _shift,
}
