"""Photographs of a printed sticker, scored: what a model reads on each, and how often it is fooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

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
from advkit.results.print_sheet import Sheet
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
    path: Path,
    sheet: Sheet,
    sticker: Sticker,
    size: int,
    *,
    corners: Sequence[Sequence[float]] | None = None,
    face: Tensor | None = None,
    correction: Correction = "light",
    margin: float = 0.1,
    upright: bool = False,
) -> Shot:
    """Measure a photo of the sign with the sticker on it, or of the printed page, whose colours are then laid on ``face``.

    ``face`` (4, H, W) is the drawn sign. Raises InputError where neither corners, nor tags, nor a page are to be seen.
    """
    photo, name = read_photo(path), path.name
    found = find_markers(photo)
    light = light_of(photo, found, sheet, correction)
    place = by_corners(corners, photo, sheet, name) if corners is not None else by_tags(found, sheet, name)
    if place is not None:
        seen = face_view(photo, place, size, margin, upright=upright)
        return Shot(name, _shown(seen if light is None else light(seen)), place.how, place.pixels, place.misfit, light)
    shown = by_page(found, sheet, name)
    if shown is None:
        raise InputError(
            f"no sign was found in {name}: {len(found)} markers of the printed sheet are seen in it; fix the tags at the "
            "sign's corners, photograph a whole page, or give the corners by --corners x,y;x,y;x,y;x,y."
        )
    page, place = shown
    if len(sheet.pages) > 1:
        raise InputError(
            f"{name} shows one of the {len(sheet.pages)} pages that the sticker takes; photograph the sign with the sticker on "
            "it, and fix the tags at its corners or give --corners."
        )
    if face is None:
        raise InputError(
            f"{name} shows the printed page, and the sign that the sticker goes to is not one that advkit draws; photograph "
            "the sign with the sticker on it, and give --corners."
        )
    colours, known = printed(photo, page, place.matrix, (sticker.rgba.shape[1], sticker.rgba.shape[2]), sheet.sign_mm)
    if light is not None:
        colours = light(colours)
    seen_sign = _laid(sticker, torch.from_numpy(colours.copy()), torch.from_numpy(known), face)
    return Shot(name, _framed(seen_sign, size, margin), "page", place.pixels, place.misfit, light)


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


def _laid(sticker: Sticker, colours: Tensor, known: Tensor, face: Tensor) -> Tensor:
    """The drawn sign with the sticker in the colours that were photographed; where none were, it is left out."""
    rgba = torch.cat([colours.permute(2, 0, 1).clamp(0, 1), (sticker.rgba[3] * known)[None]])
    return Sticker(rgba, sticker.sign_mm).on(face)


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
