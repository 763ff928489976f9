"""Stickers: a few pieces of a picture replaced by colours that were optimised for it (RP2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks._adam import Moments, adam, still
from advkit.attacks._masks import fitted_mask, read_mask
from advkit.attacks._rectangles import Blank, check_pictures, rectangle, sides
from advkit.attacks._settings import check_least
from advkit.catalog import ATTACKS
from advkit.core.attack import Ascent, Attack
from advkit.core.goal import Goal
from advkit.core.losses import CrossEntropy, Loss
from advkit.core.regions import Area
from advkit.core.rng import Rng
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.errors import InputError
from advkit.scene.cells import spread
from advkit.scene.picture import disturb
from advkit.scene.printing import Palette, nps, total_variation
from advkit.scene.view import PICTURE_VIEWS

_MASKS = "auto, or a picture file that is light where the sticker is"
_HOT, _COLD = 1.0, 0.1  # temperature of the choice among a palette's colours, first and last
_SHRINK, _PACE = 0.1, 0.2  # of the search for a mask: L1 threshold and step, as shares of the largest gradient
_TINY = 1e-12

_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"lam": 0.0, "nps": 0.0, "tv": 0.0, "compose": "replace", "views": 1},
    "rp2-paper": {"lam": 0.02, "nps": 5.0, "tv": 0.0, "compose": "replace", "views": 8},
    "rp2-code": {"lam": 0.02, "nps": 0.0, "tv": 0.0, "compose": "add", "views": 1},
}


class _Work(NamedTuple):
    query: Tensor
    shown: Tensor  # what is judged: the picture with the sticker as it would be cut and stuck on, seen undisturbed
    taken: Tensor  # (B,) steps
    paint: Tensor  # colours (B, C, H, W), or scores (B, n, h, w) of a palette's colours
    memory: Moments
    change: Tensor  # (B, C, H, W) of the whole picture, while a mask is looked for
    mask: Tensor  # (B, 1, H, W) bool


@ATTACKS.register("sticker", paper="arXiv:1707.08945")
@dataclass(frozen=True)
class Sticker(Attack):
    """Stickers in a mask, replaced and not added, found by Adam: RP2 for each picture (Eykholt et al. 2018).

    The mask ``auto`` is found first, in a quarter of the steps: a change of the whole picture under an L1 penalty shows where
    it matters, and ``pieces`` rectangles that fill the area are laid there one by one. Colours are free, or chosen from a
    palette for every cell, by a softmax that cools down; then what is judged has colours of the palette alone. With ``views``
    above 1 the gradient is the mean over so many random views (EOT); what is judged is the picture itself.

    Presets: ``rp2-paper`` has the paper's penalties (L2 of the change, non-printability) and views; ``rp2-code`` what the
    authors' code did: it adds instead of replacing, without non-printability or views. Settings that are given come first.
    """

    threat: Ball = Area(0.05)
    steps: int = 200
    step_size: float = 0.1  # Adam's, of the range of a pixel
    preset: Literal["none", "rp2-paper", "rp2-code"] = "none"
    mask: str = "auto"  # or a picture file
    pieces: int = 2  # rectangles of the mask auto
    colours: Literal["free", "palette"] = "free"
    palette: str = "ink"  # rp2, ink, tape, black-white or a CSV file: for nps, and to choose from
    cell: int = 1  # width in px of a piece of one colour
    compose: Literal["replace", "add"] | None = None
    lam: float | None = None  # weight of the L2 norm of the change
    nps: float | None = None  # weight of the non-printability score (its min form, a mean over the mask)
    tv: float | None = None  # weight of the total variation
    views: int = 0  # 0: as the preset says
    loss: Loss = CrossEntropy()
    restarts: int = 1

    balls: ClassVar[tuple[type[Ball], ...]] = (Area,)

    def __post_init__(self) -> None:
        if not isinstance(self.threat, Area):
            raise InputError(f"Sticker works in Area, where eps is a share of the picture, not in {self.threat.label}.")
        for name, value in _PRESETS[self.preset].items():
            if getattr(self, name) is None or (name == "views" and not self.views):
                object.__setattr__(self, name, value)
        check_least(self, steps=1, pieces=1, cell=1, restarts=1, views=1)
        if not 0 < self.step_size < math.inf:
            raise InputError(f"Sticker: step_size is {self.step_size}; give a share of the range of a pixel above 0.")
        for name in ("lam", "nps", "tv"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"Sticker: {name} is {getattr(self, name)}; give a weight of 0 or more.")
        if self.colours == "palette" and self.compose == "add":
            raise InputError("Sticker: colours of a palette are stuck on, not added; set compose=replace.")
        if self.mask != "auto":
            read_mask(self.mask, "Sticker: mask", _MASKS)
        if self.colours == "palette" or self.nps:
            Palette.of(self.palette)

    def start(self, first: Tensor, x: Tensor, goal: Goal, rng: Rng) -> _Work:
        """The whole picture, where a mask is looked for; else the first colours in the mask."""
        check_pictures(self, x)
        if x.shape[1] != 3 and (self.colours == "palette" or self.nps or self.views > 1):
            raise InputError(
                f"Sticker: palettes and views are for pictures in three colours, and these have {x.shape[1]} channels; "
                "set colours=free, nps=0 and views=1."
            )
        mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
        if self.mask != "auto":
            mask = mask | fitted_mask(read_mask(self.mask, "Sticker: mask", _MASKS), self.mask, self._room(x), x)
        paint = self._first_paint(x, rng)
        state = _Work(
            query=first,
            shown=first,
            taken=torch.zeros(len(x), dtype=torch.long, device=x.device),
            paint=paint,
            memory=still(paint),
            change=torch.zeros_like(x),
            mask=mask,
        )
        return state if self._looking else self._stuck(state, x)

    def step(self, state: _Work, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> _Work:  # type: ignore[override]
        """Look for the mask; lay it; then a step of Adam on the colours inside."""
        looking = state.taken < self._looking
        change = state.change
        if self._looking:
            size = expand(at.grad.flatten(1).abs().amax(1).clamp_min(torch.finfo(x.dtype).tiny), x)
            moved = F.softshrink(state.change + _PACE * at.grad / size, _PACE * _SHRINK)
            change = torch.where(expand(looking, x), (x + moved).clamp(0, 1) - x, change)
        worked, memory = self._painted(state, at, x)
        state = _Work(
            query=state.query,
            shown=state.shown,
            taken=state.taken + 1,
            paint=torch.where(expand(looking, worked), state.paint, worked),
            memory=Moments(
                torch.where(expand(looking, worked), state.memory.mean, memory.mean),
                torch.where(expand(looking, worked), state.memory.square, memory.square),
                torch.where(looking, state.memory.seen, memory.seen),
            ),
            change=change,
            mask=state.mask,
        )
        found = state.taken == self._looking
        if self._looking and bool(found.any()):
            state = state._replace(mask=torch.where(expand(found, x), self._laid(change, x), state.mask))
        stuck = self._stuck(state, x)
        looking = expand(state.taken < self._looking, x)
        return stuck._replace(
            query=torch.where(looking, (x + change).clamp(0, 1), stuck.query),
            shown=torch.where(looking, x, stuck.shown),
        )

    def view(self, query: Tensor, rng: Rng) -> Tensor:
        """The picture as it would be seen from elsewhere, in other light."""
        return disturb(query, PICTURE_VIEWS.draw(rng)).to(query.dtype) if self.views > 1 else query

    def candidate(self, state: _Work) -> Tensor | None:  # type: ignore[override]
        """The picture with its sticker, where the model is asked about another one."""
        apart = self._looking or self.views > 1 or self.colours == "palette"
        return state.shown if apart else None

    def controls(self) -> tuple[tuple[str, Attack], ...]:
        """The same mask, full of random colours and grey; of the mask auto, as many rectangles at random places."""
        mask = "" if self.mask == "auto" else self.mask
        return (
            ("random", Blank(self.threat, "noise", self.pieces, mask=mask)),
            ("grey", Blank(self.threat, "grey", self.pieces, mask=mask)),
        )

    @property
    def _looking(self) -> int:
        """Steps that look for the mask."""
        return max(1, self.steps // 4) if self.mask == "auto" else 0

    def _room(self, x: Tensor) -> int:
        assert isinstance(self.threat, Area)
        return self.threat.room(x)

    def _laid(self, change: Tensor, x: Tensor) -> Tensor:
        """(B, 1, H, W) bool: rectangles laid one by one where the change is largest, none over another."""
        height, width = sides(self._room(x) // self.pieces, 1.0, x)
        weight = F.avg_pool2d(change.abs().amax(1, keepdim=True), (height, width), stride=1)
        down, along = (torch.arange(extent, device=x.device) for extent in weight.shape[2:])
        mask = torch.zeros_like(x[:, :1], dtype=torch.bool)
        for _ in range(self.pieces):
            place = weight.flatten(1).argmax(1)
            mask = mask | rectangle(place, height, width, x)
            top, left = (place // weight.shape[3])[:, None], (place % weight.shape[3])[:, None]
            near = ((down - top).abs() < height)[:, :, None] & ((along - left).abs() < width)[:, None, :]
            weight = weight.masked_fill(near[:, None], -torch.inf)
        return mask

    def _first_paint(self, x: Tensor, rng: Rng) -> Tensor:
        high, wide = (-(-int(size) // self.cell) for size in x.shape[2:])
        if self.colours == "palette":
            return 0.1 * rng.fold("paint").normal(len(Palette.of(self.palette)), high, wide, dtype=x.dtype)
        return rng.fold("paint").uniform(x.shape[1], high, wide, dtype=x.dtype)

    def _spread(self, cells: Tensor, x: Tensor) -> Tensor:
        """Values of cells (B, n, h, w) on the raster of x."""
        return spread(cells, self.cell, int(x.shape[2]), int(x.shape[3]))

    def _mixed(self, paint: Tensor, taken: Tensor, x: Tensor) -> Tensor:
        """Colours (B, C, H, W), differentiable in the paint."""
        if self.colours == "free":
            return self._spread(paint, x)
        done = ((taken - self._looking).to(x.dtype) / max(1, self.steps - self._looking)).clamp(0, 1)
        temperature = expand(_HOT * (_COLD / _HOT) ** done, paint)
        share = (paint / temperature).softmax(1)
        return self._spread(torch.einsum("bnyx,nc->bcyx", share, Palette.of(self.palette).colours.to(x)), x)

    def _settled(self, paint: Tensor, x: Tensor) -> Tensor:
        """The colours that would be cut and stuck on."""
        if self.colours == "free":
            return self._spread(paint, x)
        return self._spread(Palette.of(self.palette).colours.to(x)[paint.argmax(1)].movedim(-1, 1), x)

    def _composed(self, colours: Tensor, mask: Tensor, x: Tensor) -> Tensor:
        return torch.where(mask, (x + colours).clamp(0, 1) if self.compose == "add" else colours, x)

    def _stuck(self, state: _Work, x: Tensor) -> _Work:
        """The query and the picture that is judged, for the paint as it is."""
        shown = self._composed(self._settled(state.paint, x), state.mask, x)
        if self.colours == "free":
            return state._replace(query=shown, shown=shown)
        mixed = self._composed(self._mixed(state.paint, state.taken, x), state.mask, x).clamp(0, 1)
        return state._replace(query=mixed, shown=shown)

    def _painted(self, state: _Work, at: Ascent, x: Tensor) -> tuple[Tensor, Moments]:
        """A step of Adam on the paint, up the loss and down the penalties."""
        with torch.enable_grad():
            paint = state.paint.detach().requires_grad_()
            colours = self._mixed(paint, state.taken, x)
            composed = self._composed(colours, state.mask, x)
            gain = (composed * at.grad).flatten(1).sum(1)
            if self.lam:
                # The root of 0 has no gradient.
                gain = gain - self.lam * ((composed - x).square().flatten(1).sum(1) + _TINY).sqrt()
            if self.nps:
                gain = gain - self.nps * nps(colours, Palette.of(self.palette), state.mask[:, 0])
            if self.tv:
                gain = gain - self.tv * total_variation(colours, state.mask[:, 0])
            (grad,) = torch.autograd.grad(gain.sum(), paint)
        ahead, memory = adam(grad, state.memory)
        stepped = paint.detach() + self.step_size * ahead
        return stepped.clamp(0, 1) if self.colours == "free" and self.compose == "replace" else stepped, memory
