"""What a printer makes of colours: palettes, the non-printability score, and models of print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError, UnknownName

__all__ = ["PALETTES", "PRINT_MODELS", "Palette", "PrintModel", "nps", "printed", "total_variation"]

PrintModel = Literal["none", "snap", "gamut"]
PRINT_MODELS: tuple[str, ...] = get_args(PrintModel)

_BLACK, _WHITE, _GAMMA, _ERROR = 0.06, 0.93, 1.1, 0.04  # of the gamut model, sRGB


_RP2: tuple[tuple[float, float, float], ...] = (
    (0.10588, 0.054902, 0.1098),
    (0.48235, 0.094118, 0.16863),
    (0.50196, 0.52549, 0.17647),
    (0.082353, 0.31765, 0.18431),
    (0.47843, 0.61176, 0.51765),
    (0.07451, 0.3098, 0.45882),
    (0.67843, 0.14902, 0.18039),
    (0.086275, 0.14118, 0.26275),
    (0.26667, 0.36863, 0.47843),
    (0.76078, 0.54118, 0.5451),
    (0.73333, 0.49412, 0.27451),
    (0.25882, 0.35294, 0.18039),
    (0.47843, 0.22353, 0.36471),
    (0.27059, 0.086275, 0.11765),
    (0.7098, 0.32157, 0.2),
    (0.27451, 0.13725, 0.29412),
    (0.75294, 0.75686, 0.63137),
    (0.28627, 0.54902, 0.41176),
    (0.47451, 0.2902, 0.15294),
    (0.74902, 0.70196, 0.28627),
    (0.098039, 0.42745, 0.44314),
    (0.50588, 0.65098, 0.65882),
    (0.12549, 0.42745, 0.23529),
    (0.4902, 0.58431, 0.33725),
    (0.26275, 0.49412, 0.26275),
    (0.07451, 0.14902, 0.12549),
    (0.090196, 0.20392, 0.36078),
    (0.68627, 0.15686, 0.30196),
    (0.30196, 0.5451, 0.57647),
    (0.71765, 0.32941, 0.40784),
)  # the 30 colours of a print, photographed: Sharif et al. 2016, used by RP2 (Eykholt et al. 2018)
_PAPER, _INK = (0.93, 0.93, 0.92), (0.06, 0.06, 0.07)

PALETTES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "rp2": _RP2,
    "ink": (*_RP2, _PAPER, _INK),
    "tape": (_PAPER, _INK, (0.7, 0.1, 0.12), (0.92, 0.77, 0.1), (0.1, 0.25, 0.6), (0.5, 0.5, 0.5)),
    "black-white": (_INK, _PAPER),
}
"""Palettes by name: RP2's (without white or black), the same with paper white and ink black, sticky tape, black and white."""


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours (n, 3) that can be printed or stuck on, sRGB in [0, 1]."""

    name: str
    colours: Tensor

    def __post_init__(self) -> None:
        colours = self.colours
        if colours.ndim != 2 or colours.shape[1] != 3 or len(torch.unique(colours, dim=0)) < 2:
            count = len(torch.unique(colours, dim=0)) if colours.ndim == 2 else 0
            raise InputError(
                f"the palette {self.name} has {count} colour{'s' if count != 1 else ''} of shape {tuple(colours.shape)}; "
                "give at least two different colours, red, green and blue each."
            )
        if not bool(((colours >= 0) & (colours <= 1)).all()):
            raise InputError(
                f"the palette {self.name} has values from {float(colours.min()):g} to {float(colours.max()):g}; "
                "give sRGB in [0, 1] (divide by 255)."
            )

    def __len__(self) -> int:
        return len(self.colours)

    @classmethod
    def of(cls, name: str) -> Palette:
        """A palette by name, or from a CSV file of one colour a line: red,green,blue in [0, 1]."""
        if name in PALETTES:
            return cls(name, torch.tensor(PALETTES[name]))
        path = Path(name)
        if path.suffix.lower() != ".csv" and not path.is_file():
            raise UnknownName("palette", name, (*PALETTES, "FILE.csv"))
        return cls(str(path), torch.tensor(_colours(path)))

    def nearest(self, rgb: Tensor) -> Tensor:
        """The palette's nearest colour for each pixel of (..., 3, h, w)."""
        near: Tensor = self.colours.to(rgb)[self.index(rgb)].movedim(-1, -3)
        return near

    def index(self, rgb: Tensor) -> Tensor:
        """Which colour is nearest, (..., h, w)."""
        return self._squares(rgb.detach()).argmin(-3)

    def distance(self, rgb: Tensor) -> Tensor:
        """The distance of each pixel of (..., 3, h, w) to the nearest colour, (..., h, w); its gradient at 0 is 0."""
        return _root(self._squares(rgb).amin(-3))

    def distances(self, rgb: Tensor) -> Tensor:
        """The distance to every colour, (..., n, h, w)."""
        return _root(self._squares(rgb))

    def _squares(self, rgb: Tensor) -> Tensor:
        return (rgb.unsqueeze(-4) - self.colours.to(rgb)[:, :, None, None]).square().sum(-3)


def _root(squares: Tensor) -> Tensor:
    """The root, with a gradient of 0 at 0 where that of the root is infinite."""
    positive = squares > 0
    return torch.where(positive, squares.where(positive, 1.0).sqrt(), 0.0)


def _colours(path: Path) -> list[list[float]]:
    """What a file holds; an attack asks for its palette in every step, and the file is read when it has changed."""
    return _read(path, path.stat().st_mtime_ns if path.is_file() else 0)


@lru_cache(maxsize=16)
def _read(path: Path, _: int) -> list[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"the palette {path} cannot be read ({reason}); give a CSV file of colours.") from error
    colours = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            colour = [float(part) for part in line.split(",")]
        except ValueError:
            colour = []
        if len(colour) != 3:
            raise InputError(f"{path}, line {number} is {line!r}; write red,green,blue in [0, 1], one colour a line.")
        colours.append(colour)
    if not colours:
        raise InputError(f"the palette {path} holds no colour; write red,green,blue in [0, 1], one colour a line.")
    return colours


def nps(colours: Tensor, palette: Palette, mask: Tensor, form: Literal["min", "product"] = "min") -> Tensor:
    """The non-printability score (B,) of colours (B, 3, h, w) where ``mask`` (h, w) or (B, h, w) is above 0.

    ``min``: the mean distance to the nearest colour of the palette; 0 where all can be printed, and a gradient of length 1 for
    each pixel (times its share). ``product``: the mean product of the distances to all colours (Sharif et al. 2016), which
    vanishes or explodes; for reproduction.
    """
    if form not in ("min", "product"):
        raise UnknownName("NPS form", form, ("min", "product"))
    each = palette.distance(colours) if form == "min" else palette.distances(colours).prod(-3)
    inside = (mask > 0).expand(each.shape)
    return each.where(inside, 0.0).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp_min(1)


def total_variation(colours: Tensor, mask: Tensor) -> Tensor:
    """The mean absolute difference (B,) of neighbouring pixels of (B, 3, h, w) that are both in the mask, over channels."""
    inside = (mask > 0).expand(colours.shape[0], *colours.shape[2:])
    total, count = colours.new_zeros(len(colours)), colours.new_zeros(len(colours))
    for axis in (-1, -2):
        size = colours.shape[axis]
        pair = inside.narrow(axis, 1, size - 1) & inside.narrow(axis, 0, size - 1)
        step = (colours.narrow(axis, 1, size - 1) - colours.narrow(axis, 0, size - 1)).abs().mean(1)
        total = total + step.where(pair, 0.0).flatten(1).sum(1)
        count = count + pair.flatten(1).sum(1)
    return total / count.clamp_min(1)


def printed(
    rgb: Tensor, mask: Tensor, model: PrintModel, palette: Palette, rng: Rng | None = None, *, cell: int = 8
) -> Tensor:
    """Colours (B, 3, h, w) as they come out of the printer where ``mask`` (h, w) or (B, h, w) is above 0.

    ``none`` changes nothing. ``snap`` takes the palette's nearest colour; its gradient is taken for that of no change.
    ``gamut`` maps [0, 1] into a printer's range, .06 to .93 with an exponent of 1.1, and adds a smooth error of standard
    deviation .04 with one value each ``cell`` pixels, of ``rng``'s B streams (none without). The same rng prints the same.
    """
    if model not in PRINT_MODELS:
        raise UnknownName("print model", model, PRINT_MODELS)
    if model == "none":
        return rgb
    if model == "snap":
        # rgb - rgb is exactly 0: the value is the palette's to the last bit
        made = palette.nearest(rgb) + (rgb - rgb.detach())
    else:
        made = _BLACK + (_WHITE - _BLACK) * rgb.clamp(0, 1) ** _GAMMA
        if rng is not None:
            made = (made + _ERROR * _smooth(rng, rgb.shape[-2:], cell, rgb)).clamp(0, 1)
    return torch.where((mask > 0).expand(len(rgb), *rgb.shape[2:])[:, None], made, rgb)


def _smooth(rng: Rng, size: Sequence[int], cell: int, like: Tensor) -> Tensor:
    """Standard normal values at the corners of cells, linear between them, (B, 3, h, w)."""
    height, width = (max(1, -(-length // cell)) + 1 for length in size)
    corners = rng.fold("print").normal(3, height, width, dtype=like.dtype)
    return F.interpolate(corners, (int(size[0]), int(size[1])), mode="bilinear", align_corners=True)
