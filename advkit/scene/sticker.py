"""One physical sticker: what it looks like, where on the sign it sticks, how large the sign is, and how it came to be."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.atomic import put_whole
from advkit.documents import LARGEST_JSON, MISFIT, parse_json, read_content, reason
from advkit.errors import InputError
from advkit.hashes import sha256
from advkit.seal import Unsealed, holds_json, sealed_json

__all__ = ["Sticker"]

_FILES = ("sticker.png", "sticker.safetensors", "sticker.json")
_COLOURS = 3


@dataclass(frozen=True, eq=False)
class Sticker:
    """``rgba`` (4, n, n) fills the sign's face square: sRGB in [0, 1], and how much of each place sticks.

    ``sign_mm`` is the width of the sign as traffic rules state it (across the flats of an octagon), ``filled`` that width as a
    share of the side of the face square: ``square_mm`` is what the pixels of ``rgba`` are spread over. ``mode`` is
    ``replace`` for an opaque sticker; ``add`` adds the colours to the face's, as the authors' code of RP2 (Eykholt et al.
    2018) does; they may then be any finite numbers. ``facts`` is what is known of its making, as JSON would hold it.
    """

    rgba: Tensor
    sign_mm: float = 750.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    mode: Literal["replace", "add"] = "replace"
    filled: float = 1.0

    def __post_init__(self) -> None:
        shape = tuple(self.rgba.shape)
        if len(shape) != _COLOURS or shape[0] != _COLOURS + 1 or shape[1] != shape[2] or shape[1] == 0:
            raise InputError(f"a sticker has shape {shape}; give colours and coverage of the face square, (4, n, n).")
        if not self.rgba.is_floating_point() or not bool(self.rgba.isfinite().all()):
            raise InputError("a sticker holds whole numbers, NaN or infinity; give finite floating-point numbers.")
        if self.mode not in ("replace", "add"):
            raise InputError(f"a sticker's mode is {self.mode!r}; allowed are 'replace' and 'add'.")
        bounded = self.rgba if self.mode == "replace" else self.rgba[_COLOURS:]
        if float(bounded.min()) < 0 or float(bounded.max()) > 1:
            raise InputError(
                f"a sticker's values run from {float(bounded.min()):.3g} to {float(bounded.max()):.3g}; they must be in [0, 1]."
            )
        if not bool((self.rgba[_COLOURS] > 0).any()):
            raise InputError("a sticker covers no place at all; give a mask with at least one pixel.")
        if not self.sign_mm > 0:
            raise InputError(f"sign_mm is {self.sign_mm}; give the width of the sign in mm, above 0.")
        if not 0 < self.filled <= 1:
            raise InputError(
                f"filled is {self.filled}; give the share of the face square that the sign is wide, up to 1."
            )

    @property
    def square_mm(self) -> float:
        """The side of the face square."""
        return self.sign_mm / self.filled

    @property
    def mm_per_pixel(self) -> float:
        """The width of one pixel of ``rgba`` on the sign."""
        return self.square_mm / self.rgba.shape[2]

    @property
    def box_mm(self) -> tuple[float, float, float, float]:
        """The smallest upright rectangle that holds what sticks: left, top, width, height, in mm of the face square."""
        rows, columns = (self.rgba[_COLOURS].amax(axis).nonzero().flatten() for axis in (1, 0))
        (top, bottom), (left, right) = ((int(line[0]), int(line[-1]) + 1) for line in (rows, columns))
        return tuple(self.mm_per_pixel * v for v in (left, top, right - left, bottom - top))  # type: ignore[return-value]

    def sized(self, height: int, width: int) -> Tensor:
        """``rgba`` (4, height, width) at another resolution: areas are averaged, colours weighted by coverage."""
        if tuple(self.rgba.shape[1:]) == (height, width):
            return self.rgba
        # weighted by coverage, or what lies outside the mask would leave a fringe
        cover = self.rgba[_COLOURS:]
        small = F.adaptive_avg_pool2d(torch.cat([self.rgba[:_COLOURS] * cover, cover]), (height, width))
        return torch.cat([small[:_COLOURS] / small[_COLOURS:].clamp_min(1e-12), small[_COLOURS:]])

    def on(self, face: Tensor) -> Tensor:
        """A sign's face (4, H, W), or faces (B, 4, H, W), with the sticker: same coverage, other colours.

        What would stand over the sign's edge is cut off. Colours mix in sRGB where a pixel is covered in part.
        """
        if face.ndim not in (3, 4) or face.shape[-3] != _COLOURS + 1:
            raise InputError(
                f"a face has shape {tuple(face.shape)}; give sRGB and coverage, (4, H, W) or (B, 4, H, W)."
            )
        own = self.sized(face.shape[-2], face.shape[-1]).to(face)
        colours, cover = own[:_COLOURS], own[_COLOURS:]
        clean = face[..., :_COLOURS, :, :]
        changed = colours if self.mode == "replace" else (clean + colours).clamp(0, 1)
        # where(), not a sum of products: what is not covered stays as it was to the last bit
        mixed = torch.where(cover > 0, clean + cover * (changed - clean), clean)
        return torch.cat([torch.where(cover == 1, changed, mixed), face[..., _COLOURS:, :, :]], dim=-3)

    def area(self, face: Tensor) -> float:
        """The share of the sign's area that is covered, for its face (4, H, W)."""
        cover = self.sized(face.shape[-2], face.shape[-1])[_COLOURS].to(face) * face[_COLOURS]
        return float(cover.sum(dtype=torch.float64) / face[_COLOURS].sum(dtype=torch.float64))

    def save(self, folder: Path) -> None:
        """Write ``sticker.png`` to look at, ``sticker.safetensors`` (exact) and ``sticker.json`` into a folder."""
        from PIL import Image
        from safetensors.torch import save

        picture, exact, described = (Path(folder) / name for name in _FILES)
        own = self.rgba.detach().cpu().float().contiguous()
        # colours to be added have no picture of their own: grey stands for no change
        colours = own[:_COLOURS] if self.mode == "replace" else (own[:_COLOURS] / 2 + 0.5).clamp(0, 1)
        levels = (torch.cat([colours, own[_COLOURS:]]) * 255).round().byte().permute(1, 2, 0).numpy()
        shown = io.BytesIO()
        Image.fromarray(levels, "RGBA").save(shown, "PNG")
        content = {picture.name: shown.getvalue(), exact.name: save({"rgba": own})}
        files = {name: sha256(each) for name, each in content.items()}
        facts = {
            "sign_mm": self.sign_mm,
            "filled": self.filled,
            "mode": self.mode,
            "facts": dict(self.facts),
            "files": files,
        }
        for name, each in content.items():
            put_whole(Path(folder) / name, each)
        put_whole(described, sealed_json(facts))

    @classmethod
    def load(cls, folder: Path) -> Sticker:
        """Read what ``save`` wrote; raises InputError where files are missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        _, exact, described = (Path(folder) / name for name in _FILES)
        for path in (exact, described):
            if not path.is_file():
                raise InputError(
                    f"there is no sticker in {folder}: {path.name} is missing; give a folder of advkit sticker."
                )
        try:
            content, text = exact.read_bytes(), read_content(described, LARGEST_JSON)
            covered, told = holds_json(text), parse_json(text, described)
            if covered and told["files"][exact.name] != sha256(content):
                raise ValueError("its safetensors file was changed after it was written")
            rgba = load(content)["rgba"]
            sign_mm, mode, facts = float(told["sign_mm"]), told["mode"], dict(told["facts"])
            filled = float(told.get("filled", 1.0))
        except Unsealed as error:
            raise InputError(f"{described} {error}; make the sticker again with advkit sticker.") from error
        except (OSError, SafetensorError, *MISFIT) as error:
            raise InputError(
                f"the sticker in {folder} is damaged ({reason(error)}); make it again with advkit sticker."
            ) from error
        return cls(rgba, sign_mm, facts, mode, filled)
