"""Photographs of a printed sticker, scored: what a model reads on each, and how often it is fooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from advkit.core.modes import borrowed
from advkit.engine.passes import Passes, batch_for, device_of
from advkit.engine.precision import Precision
from advkit.engine.rectify import (
    Correction,
    Light,
    Place,
    by_corners,
    by_page,
    by_tags,
    face_view,
    find_markers,
    light_of,
    printed,
    read_photo,
)
from advkit.errors import InputError
from advkit.results.pictures import Frame, Verdict
from advkit.results.print_sheet import Page, Sheet
from advkit.results.statistics import share
from advkit.results.table import Table
from advkit.scene.sticker import Sticker

__all__ = ["Photo", "Photographs", "Shot", "frames", "look", "score", "verdict"]

Values = npt.NDArray[np.floating[Any]]
_BEHIND = 0.5  # sRGB of what is behind a sign that only its sticker was photographed of


@dataclass(frozen=True)
class Shot:
    """One photo, measured: ``picture`` (3, S, S) is what the model is shown.

    ``how`` says what told where the sign is; of a ``page`` the printed colours were laid on the drawn sign.
    """

    name: str
    picture: Tensor
    how: Literal["corners", "tags", "page"]
    pixels: float
    misfit: float | None
    light: Light | None


@dataclass(frozen=True)
class Photo:
    """What a model says of a shot."""

    shot: Shot
    prediction: int
    confidence: float
    target_confidence: float | None


@dataclass(frozen=True)
class Photographs:
    """Scored photos of one sticker, meant to make ``label`` be read as ``target``, or as anything else where that is none."""

    photos: tuple[Photo, ...]
    label: int
    target: int | None
    classes: tuple[str, ...]
    model: str = ""

    def fooled(self, photo: Photo) -> bool:
        """Whether the sticker did on this photo what it was made for."""
        return photo.prediction == self.target if self.target is not None else photo.prediction != self.label

    def table(self) -> Table:
        """A row for each photo; the caption counts."""
        goal = "read as target" if self.target is not None else "misread"
        heads = (
            "photo",
            "found by",
            "sign (px)",
            "misfit (px)",
            "grey error",
            "colour error",
            "read as",
            "confidence (%)",
            goal,
        )
        rows = tuple(
            (
                photo.shot.name,
                photo.shot.how,
                f"{photo.shot.pixels:.0f}",
                "-" if photo.shot.misfit is None else f"{photo.shot.misfit:.2f}",
                "-" if photo.shot.light is None else f"{photo.shot.light.before:.3f} → {photo.shot.light.residual:.3f}",
                "-" if photo.shot.light is None else f"{photo.shot.light.printer:.3f}",
                self.named(photo.prediction),
                f"{100 * photo.confidence:.1f}",
                "yes" if self.fooled(photo) else "no",
            )
            for photo in self.photos
        )
        return Table(heads, rows, "llrrrrlrl", caption=self.sentence)

    @property
    def sentence(self) -> str:
        """What it comes to."""
        count = len(self.photos)
        wrong = sum(photo.prediction != self.label for photo in self.photos)
        said = f"{self.named(self.label)} misread on {wrong} of {count} photos: {share(wrong, count).percent} %"
        if self.target is not None:
            hits = sum(map(self.fooled, self.photos))
            said += f"; read as {self.named(self.target)} on {hits}: {share(hits, count).percent} %"
        return f"{said}. Intervals: 95 %, Wilson. Errors: root mean square in sRGB of the card's patches."

    def to_json(self) -> dict[str, Any]:
        """Everything measured."""
        count = len(self.photos)
        wrong = sum(photo.prediction != self.label for photo in self.photos)
        hits = None if self.target is None else sum(map(self.fooled, self.photos))
        return {
            "model": self.model,
            "class": self.named(self.label),
            "target": None if self.target is None else self.named(self.target),
            "n": count,
            "untargeted": {"count": wrong, **share(wrong, count)._asdict()},
            "targeted": None if hits is None else {"count": hits, **share(hits, count)._asdict()},
            "photos": [self._row(photo) for photo in self.photos],
        }

    def _row(self, photo: Photo) -> dict[str, Any]:
        shot = photo.shot
        light = None
        if shot.light is not None:
            light = {"before": shot.light.before, "grey": shot.light.residual, "colour": shot.light.printer}
        return {
            "photo": shot.name,
            "found": shot.how,
            "pixels": shot.pixels,
            "misfit": shot.misfit,
            "light": light,
            "prediction": self.named(photo.prediction),
            "confidence": photo.confidence,
            "target_confidence": photo.target_confidence,
            "success": self.fooled(photo),
        }

    def named(self, number: int) -> str:
        """The name of a class."""
        return self.classes[number] if number < len(self.classes) else f"class {number}"


def look(
    paths: Sequence[Path],
    sheet: Sheet,
    sticker: Sticker,
    size: int,
    *,
    corners: Sequence[Sequence[Sequence[float]] | None] = (),
    face: Tensor | None = None,
    correction: Correction = "light",
    margin: float = 0.1,
    upright: bool = False,
) -> list[Shot]:
    """Measure photos of the sign with the sticker on it, or of printed pages, whose colours are then laid on ``face``.

    ``corners`` are those of each photo, or none of any; ``face`` (4, H, W) is the drawn sign. Photos of the pages of a sticker
    that takes several make one shot together. Raises InputError where a photo shows neither sign nor page, or a page is
    missing.
    """
    shots, prints = [], []
    for path, quad in zip(paths, corners or [None] * len(paths), strict=True):
        photo, name = read_photo(path), path.name
        found = find_markers(photo)
        light = light_of(photo, found, sheet, correction)
        place = by_corners(quad, photo, sheet, name) if quad is not None else by_tags(found, sheet, name)
        if place is not None:
            seen = face_view(photo, place, size, margin, upright=upright)
            seen = seen if light is None else light(seen)
            shots.append(Shot(name, _shown(seen), place.how, place.pixels, place.misfit, light))
            continue
        shown = by_page(found, sheet, name)
        if shown is None:
            raise InputError(
                f"no sign was found in {name}: {len(found)} markers of the printed sheet are seen in it; fix the tags at the "
                "sign's corners, photograph a whole page, or give the corners by --corners x,y;x,y;x,y;x,y."
            )
        prints.append(_Print(name, photo, *shown, light))
    if prints and face is None:
        raise InputError(
            f"{prints[0].name} shows a printed page, and the sign that the sticker goes to is not one that advkit draws; "
            "photograph the sign with the sticker on it, and give --corners."
        )
    sets = [[one] for one in prints] if len(sheet.pages) == 1 else [prints] if prints else []
    return shots + [_joined(group, sheet, sticker, face, size, margin) for group in sets if face is not None]


class _Print(NamedTuple):
    """A photo of a printed page."""

    name: str
    photo: Values
    page: Page
    place: Place
    light: Light | None


def _joined(group: list[_Print], sheet: Sheet, sticker: Sticker, face: Tensor, size: int, margin: float) -> Shot:
    """The drawn sign with the sticker in the colours that were photographed, page by page."""
    missing = [number + 1 for number, page in enumerate(sheet.pages) if all(one.page != page for one in group)]
    if missing:
        raise InputError(
            f"the sticker takes {len(sheet.pages)} pages, and page {missing[0]} is in none of the photos; photograph every "
            "page, or the sign with the sticker on it."
        )
    # No pixel may be wider than half of what neighbouring tiles share, or a seam would be on neither.
    fine = max(1, -(-2 * sheet.square_mm // (sheet.overlap * sticker.rgba.shape[-1])))
    rgba = sticker.rgba.repeat_interleave(int(fine), 1).repeat_interleave(int(fine), 2)
    shape = (rgba.shape[1], rgba.shape[2])
    total, times = torch.zeros(3, *shape), torch.zeros(shape)
    for one in group:
        colours, known = printed(one.photo, one.page, one.place.matrix, shape, sheet.square_mm)
        colours = colours if one.light is None else one.light(colours)
        total += torch.from_numpy(colours * known[..., None]).permute(2, 0, 1)
        times += torch.from_numpy(known)
    seen = torch.cat([(total / times.clamp(min=1)).clamp(0, 1), (rgba[3] * (times > 0))[None]])
    name = group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more"
    worst = max(group, key=lambda one: -1.0 if one.light is None else one.light.residual)
    misfit = max(one.place.misfit or 0.0 for one in group)
    picture = _framed(Sticker(seen, sheet.square_mm).on(face), size, margin)
    return Shot(name, picture, "page", min(one.place.pixels for one in group), misfit, worst.light)


def score(
    model: nn.Module, shots: Sequence[Shot], label: int, target: int | None, classes: Sequence[str], name: str = ""
) -> Photographs:
    """What a model reads on each photo."""
    if not shots:
        raise InputError("no photo was given; give at least one.")
    device = device_of(model)
    pictures = torch.stack([shot.picture for shot in shots]).to(device)
    with borrowed(model), torch.no_grad():
        logits = Passes(model, Precision.own(model), batch_for(model, pictures[0])).judge(pictures)
    for number in (label, -1 if target is None else target):
        if number >= logits.shape[1]:
            raise InputError(f"the model has {logits.shape[1]} classes, and there is no class {number} among them.")
    odds = torch.softmax(logits.double(), 1).cpu()
    confidence, prediction = odds.max(1)
    aimed = [None] * len(shots) if target is None else odds[:, target].tolist()
    photos = tuple(map(Photo, shots, prediction.tolist(), confidence.tolist(), aimed))
    return Photographs(photos, label, target, tuple(classes), name)


def _shown(seen: Values) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(seen.transpose(2, 0, 1), np.float32)).clamp(0, 1)


def _framed(sign: Tensor, size: int, margin: float) -> Tensor:
    """A drawn sign (4, H, W) before grey, with a margin, at the model's size; areas averaged."""
    from advkit.scene.geometry import warp

    near, far = size * margin / (1 + 2 * margin), size * (1 + margin) / (1 + 2 * margin)
    corners = torch.tensor([[[near, near], [far, near], [far, far], [near, far]]], dtype=torch.float64)
    cover = sign[3:]
    layer = warp(torch.cat([sign[:3] * cover, cover])[None], corners, (size, size))[0]
    return (layer[:3] + _BEHIND * (1 - layer[3:])).clamp(0, 1).float()


def frames(found: Photographs) -> list[Frame]:
    """The rectified photos for a contact sheet."""
    return [
        Frame(
            photo.shot.picture,
            photo.shot.name,
            found.named(photo.prediction),
            photo.confidence,
            verdict(photo.prediction, found.label, found.target),
        )
        for photo in found.photos
    ]


def verdict(prediction: int, label: int, target: int | None) -> Verdict:
    """Whether a reading is right, wrong, or what the attack aims at."""
    if prediction == label:
        return "right"
    return "target" if prediction == target else "misread"
