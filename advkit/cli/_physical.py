"""Saved stickers on the command line: what their facts say, and the sign they go to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from advkit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from advkit.backbones import Classifier
    from advkit.data import Data
    from advkit.data.signs import Signs
    from advkit.scene.sticker import Sticker

__all__ = [
    "Read", "aimed", "drawn_face", "fact", "palette_of", "read_by", "saved_sticker", "shown_colours", "title_of",
]  # fmt: skip

_FACE = 512  # px
_MOST_COLOURS = 48


def fact(sticker: Sticker, name: str) -> str | None:
    """What is known of a sticker under a name, where that is a text or a number."""
    found = sticker.facts.get(name)
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None


def aimed(label: str, target: str | None, names: Sequence[str], count: int) -> tuple[int, int | None]:
    """The classes that a sign has and is to be read as, by number. Raises InputError where they are the same one."""
    from advkit.engine.targets import class_number

    number = class_number(label, names, count, rules=False)
    aim = None if target is None or target == "none" else class_number(target, names, count, rules=False)
    if aim == number:
        raise InputError(f"the target is {target}, which the sign is anyway; give another class, or none.")
    return number, aim


class Read(NamedTuple):
    """What a network reads: its classes, the sign's and the target's number, and the side of its pictures in pixels."""

    names: tuple[str, ...]
    label: int
    target: int | None
    size: int


def read_by(net: Classifier, source: Data | None, label: str, target: str | None, size: int | None) -> Read:
    """The same for a network, with what is known of the data it is for, if anything is."""
    names = tuple(source.classes if source is not None and source.named else net.classes or ())
    number, aim = aimed(label, target, names, net.num_classes or len(names))
    own = source.shape[-1] if source is not None else int(net.metadata.get("size", 32))
    return Read(names, number, aim, size or own)


def title_of(sticker: Sticker) -> str:
    """Which sign, and what it is to be read as."""
    label, target = fact(sticker, "class"), fact(sticker, "target")
    if label is None:
        return ""
    return f"{label}, to be read as {target}" if target is not None else f"{label}, to be misread"


def saved_sticker(folder: Path) -> Sticker:
    """The sticker of a folder.

    Versions that did not tell a sign from its face square wrote no ``filled``: the sign's own width was meant then, too.
    """
    from advkit.data.signs import Signs
    from advkit.scene.sticker import Sticker

    sticker, signs = Sticker.load(folder), Signs(count=1)
    label = _drawn(sticker, signs)
    return sticker if label is None else replace(sticker, filled=signs.filled(label))


def drawn_face(sticker: Sticker) -> Tensor | None:
    """The sign that a sticker goes to (4, h, w), where advkit draws it."""
    from advkit.data.signs import Signs

    signs = Signs(count=1)
    label = _drawn(sticker, signs)
    return None if label is None else signs.face(label, _FACE)


def _drawn(sticker: Sticker, signs: Signs) -> int | None:
    """The class of the sign that a sticker goes to, where advkit draws it."""
    own = fact(sticker, "class") if fact(sticker, "data") in (None, signs.name) else None
    name = fact(sticker, "face") if "face" in sticker.facts else own
    return signs.classes.index(name) if name in signs.classes else None


def palette_of(sticker: Sticker) -> list[tuple[float, float, float]]:
    """The colours of the palette that a sticker was designed with, where advkit has it."""
    from advkit.scene.printing import PALETTES, Palette

    name = fact(sticker, "palette")
    return [(r, g, b) for r, g, b in Palette.of(name).colours.tolist()] if name in PALETTES else []


def shown_colours(rgba: Tensor) -> list[tuple[float, float, float]]:
    """The colours of a sticker (4, h, w), the most frequent first; of many, some that stand for all."""
    import numpy as np
    from PIL import Image

    levels = (rgba[:3, rgba[3] > 0].clamp(0, 1) * 255).round().byte().T.contiguous().numpy()
    colours, counts = np.unique(levels, axis=0, return_counts=True)
    if len(colours) > _MOST_COLOURS:
        few = np.asarray(Image.fromarray(levels[None]).quantize(_MOST_COLOURS // 2).convert("RGB"))[0]
        colours, counts = np.unique(few, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(r / 255, g / 255, b / 255) for r, g, b in colours[order].tolist()]
