"""What a sticker is seen on: a rendered sign under many views, or photographs of real signs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.data.signs import Signs
from advkit.errors import InputError, nearest
from advkit.scene import Camera, View, Views, disturb, photograph

__all__ = ["Mode", "OnPhotos", "OnSign", "Seen", "Stage", "rendered", "worn"]

Mode = Literal["replace", "add"]


class Seen(NamedTuple):
    """V ways to look: the view (None: as it is), and which background or photograph (V,)."""

    view: View | None
    place: Tensor
    keys: Tensor
    """(V,) int64, of each look's own draws."""

    def take(self, index: Tensor | slice) -> Seen:
        """Some of them."""
        return Seen(None if self.view is None else self.view.take(index), self.place[index], self.keys[index])

    def to(self, device: torch.device) -> Seen:
        """The same on a device."""
        return Seen(None if self.view is None else self.view.to(device), self.place.to(device), self.keys.to(device))


def worn(under: Tensor, colours: Tensor, mask: Tensor, mode: Mode) -> Tensor:
    """Colours (B, 3, n, n) on what is under them, where the mask (n, n) is set."""
    changed = colours if mode == "replace" else (under + colours).clamp(0, 1)
    return torch.where(mask > 0, changed, under)


class Stage(ABC):
    """Shows the model what it would see with a sticker, and without."""

    cover: Tensor
    """(n, n): how much of each place of the sticker's square is sign."""
    under: Tensor
    """(3, n, n): what is there without a sticker, at the mean of all photographs where there are many."""
    filled: float = 1.0
    """The sign's width as a share of the side of the sticker's square."""

    @abstractmethod
    def to(self, device: torch.device) -> Stage:
        """The same on a device."""

    @abstractmethod
    def draw(self, rng: Rng, count: int) -> Seen:
        """``count`` ways to look, of one stream."""

    @abstractmethod
    def show(self, colours: Tensor | None, mask: Tensor, mode: Mode, seen: Seen) -> Tensor:
        """Pictures (V, 3, s, s) with colours (1 or V, 3, n, n) stuck on, or clean; differentiable in the colours."""


@dataclass(frozen=True, eq=False)
class OnSign(Stage):
    """A sign's ``face`` (4, n, n) in front of ``backgrounds`` (b, 3, s, s), photographed under ``views``."""

    face: Tensor
    backgrounds: Tensor
    views: Views = field(default_factory=Views)
    camera: Camera = field(default_factory=Camera)

    @property
    def cover(self) -> Tensor:  # type: ignore[override]
        """The face's coverage."""
        return self.face[3]

    @property
    def under(self) -> Tensor:  # type: ignore[override]
        """The face's colours."""
        return self.face[:3]

    @property
    def filled(self) -> float:  # type: ignore[override]
        """As the camera has it."""
        return self.camera.filled

    def to(self, device: torch.device) -> OnSign:
        """The same on a device."""
        return replace(self, face=self.face.to(device), backgrounds=self.backgrounds.to(device))

    def draw(self, rng: Rng, count: int) -> Seen:
        """Views of the distribution, each in front of one of the backgrounds."""
        return self.looking(self.views.draw(rng, count))

    def looking(self, view: View) -> Seen:
        """Stated views, each in front of a background of its own draw."""
        place = Rng(view.key).fold("background").integers(len(self.backgrounds))
        return Seen(view, place, view.key)

    def show(self, colours: Tensor | None, mask: Tensor, mode: Mode, seen: Seen) -> Tensor:
        """The way of the light from the sign into the model's picture."""
        if seen.view is None:
            raise InputError("a rendered sign is seen under a view; draw one.")
        face = self.face[None]
        if colours is not None:
            shown = worn(face[:, :3], colours, mask, mode)
            face = torch.cat([shown, face[:, 3:].expand(len(shown), -1, -1, -1)], 1)
        return photograph(face, self.backgrounds[seen.place], seen.view, self.camera)


@dataclass(frozen=True, eq=False)
class OnPhotos(Stage):
    """Photographs (N, 3, s, s) of real signs that lie alike: the sticker's square is the picture.

    ``views`` disturb them; None shows every photograph once and as it is, in one batch, as the authors' code of RP2 does.
    """

    photos: Tensor
    views: Views | None = None

    @property
    def cover(self) -> Tensor:  # type: ignore[override]
        """The whole picture."""
        return torch.ones_like(self.photos[0, 0])

    @property
    def under(self) -> Tensor:  # type: ignore[override]
        """The mean photograph."""
        return self.photos.mean(0)

    def to(self, device: torch.device) -> OnPhotos:
        """The same on a device."""
        return replace(self, photos=self.photos.to(device))

    def draw(self, rng: Rng, count: int) -> Seen:
        """Any photographs under drawn views, or all of them."""
        if self.views is None:
            return self.whole()
        view = self.views.draw(rng, count)
        return Seen(view, Rng(view.key).fold("photo").integers(len(self.photos)), view.key)

    def whole(self, views: View | None = None) -> Seen:
        """Every photograph as it is, or under as many views."""
        place = torch.arange(len(self.photos), device=self.photos.device)
        return Seen(views, place, Rng.of(0, place).keys if views is None else views.key)

    def each(self, rng: Rng, count: int) -> Seen:
        """Every photograph under ``count`` views of its own."""
        if self.views is None:
            raise InputError("these photographs are shown as they are; give views to see them under others.")
        place = torch.arange(len(self.photos), device=self.photos.device).repeat_interleave(count)
        view = self.views.draw(rng, len(place))
        return Seen(view, place, view.key)

    def show(self, colours: Tensor | None, mask: Tensor, mode: Mode, seen: Seen) -> Tensor:
        """The photographs with the sticker, disturbed."""
        pictures = self.photos[seen.place]
        if colours is not None:
            pictures = worn(pictures, colours, mask, mode)
        return pictures if seen.view is None else disturb(pictures, seen.view)


def rendered(
    name: str,
    size: int,
    sign_mm: float,
    *,
    views: Views | None = None,
    split: Literal["train", "test"] = "train",
    raster: int = 128,
    backgrounds: int = 64,
    seed: int = 0,
) -> OnSign:
    """A sign ``sign_mm`` wide that advkit draws, for pictures of ``size``; its surroundings are those of the drawn data."""
    signs = Signs(split, count=backgrounds, seed=seed)
    if name not in signs.classes:
        raise InputError(
            f"no sign is drawn under the name {name!r}.{nearest(name, signs.classes)} Name the face by --face: "
            f"{', '.join(signs.classes)}."
        )
    label = signs.classes.index(name)
    return OnSign(
        signs.face(label, max(raster, size)),
        torch.stack([signs.background(index, size) for index in range(backgrounds)]),
        views or Views(),
        Camera(width=sign_mm / 1000, filled=signs.filled(label), size=size),
    )
