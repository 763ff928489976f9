"""The pictures of a report: some examples of every attack, as PNG files inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
from PIL import Image

from advkit.results.cell import Picture
from advkit.results.reading import Reading
from advkit.results.store import Record

__all__ = ["Example", "Gallery", "examples_of"]

_MOST_CELLS = 400
_MOST_EXAMPLES = 120
_MOST_BYTES = 1_600_000  # of all pictures together, as they stand in the page
_MOST_PIXELS = 320  # of a side: larger pictures are shown at a fraction of their size


@dataclass(frozen=True)
class Example:
    """A beaten example, ready to be shown."""

    key: str
    model: str
    defense: str
    attack: str
    norm: str
    eps: str
    index: int
    label: str
    prediction: str
    distance: float
    size: tuple[int, int]  # width, height
    shrunk: int  # so many pixels of a side are shown as one
    clean: int  # its place among the gallery's clean pictures, which examples share
    x_adv: str


@dataclass(frozen=True)
class Gallery:
    """The examples that are shown, and how many of how many cells they come from."""

    examples: tuple[Example, ...]
    clean: tuple[str, ...]
    cells: int = 0
    of_cells: int = 0
    left_out: int = 0  # examples of the cells looked at


def examples_of(reading: Reading, records: Sequence[Record], attacks: Mapping[tuple[str, str], str]) -> Gallery:
    """The first examples of each cell, then their second ones, and so on, until there are enough.

    ``attacks``: what each cell's stages are called.
    """
    attacked = [record for record in records if record.cell.stages]
    stride = -(-len(attacked) // _MOST_CELLS) or 1
    kept = [(record, reading.pictures(record.cell)) for record in attacked[::stride]]
    kept = [(record, pictures) for record, pictures in kept if pictures]
    rounds = zip_longest(*([(record, picture) for picture in pictures] for record, pictures in kept))
    in_turn = [found for each in rounds for found in each if found is not None]
    examples: list[Example] = []
    clean: dict[str, int] = {}
    weight = 0
    for record, picture in in_turn[:_MOST_EXAMPLES]:
        times = -(-max(picture.x.shape[1:]) // _MOST_PIXELS)
        x, x_adv = _data_uri(picture.x, times), _data_uri(picture.x_adv, times)
        weight += len(x_adv) + (0 if x in clean else len(x))
        if weight > _MOST_BYTES and examples:
            break
        attack = attacks.get((record.cell.key, picture.stage), picture.stage)
        examples.append(_example(record, picture, attack, clean.setdefault(x, len(clean)), x_adv, times))
    return Gallery(
        tuple(examples),
        tuple(clean),
        len({example.key.partition("-")[0] for example in examples}),
        len(attacked),
        len(in_turn) - len(examples),
    )


def _example(record: Record, picture: Picture, attack: str, clean: int, x_adv: str, shrunk: int) -> Example:
    cell = record.cell
    classes: Sequence[str] = record.about.get("classes", ())
    label, prediction = (
        classes[number] if 0 <= number < len(classes) else str(number) for number in (picture.label, picture.prediction)
    )
    stage = next((place for place, stage in enumerate(cell.stages) if stage.name == picture.stage), 0)
    radius = cell.radii.index(picture.eps) if picture.eps in cell.radii else 0
    return Example(
        key=f"{cell.key}-{picture.index}-{stage}-{radius}",
        model=cell.model,
        defense=cell.defense,
        attack=attack,
        norm=cell.norm,
        eps=picture.eps,
        index=picture.index,
        label=label,
        prediction=prediction,
        distance=picture.distance,
        size=(picture.x.shape[2], picture.x.shape[1]),
        shrunk=shrunk,
        clean=clean,
        x_adv=x_adv,
    )


def _data_uri(picture: npt.NDArray[np.uint8], shrink: int) -> str:
    """A PNG of a picture (C, H, W), ``shrink`` pixels of a side as their mean."""
    if shrink > 1:
        height, width = (side // shrink * shrink for side in picture.shape[1:])
        parts = picture[:, :height, :width].reshape(len(picture), height // shrink, shrink, width // shrink, shrink)
        picture = parts.mean((2, 4)).round().astype(np.uint8)
    levels = picture[0] if picture.shape[0] < 3 else np.moveaxis(picture[:3], 0, -1)
    held = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(held, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
