"""Looking at a sign with a sticker from many poses, or on a drive towards it: which class does the model read?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.engine.passes import Passes, batch_for, device_of
from advkit.engine.precision import Precision
from advkit.errors import InputError
from advkit.registry import Checked
from advkit.results.drive import Read
from advkit.scene import DISTANCES_M, RP2_POSES, YAWS, Camera, View, Views, photograph
from advkit.scene.printing import Palette, PrintModel, printed
from advkit.scene.sticker import Sticker

__all__ = ["POSES", "Lane", "Scene", "approach", "read_poses"]

_YAW_AT_M = 12.192  # where the model's picture is still finer than the sensor's: 40 feet
_COARSE = 32  # places across the face at which a sticker is tried
_KEPT = 0.95  # of its area that a sticker keeps where it is put
_TEXELS = 1 << 22  # of signs in flight

Pose = tuple[float, float]

POSES: dict[str, tuple[Pose, ...]] = {
    "rp2": RP2_POSES,
    "all": tuple(dict.fromkeys((*RP2_POSES, *((d, 0.0) for d in DISTANCES_M), *((_YAW_AT_M, yaw) for yaw in YAWS)))),
    "distance": tuple((d, 0.0) for d in DISTANCES_M),
    "yaw": tuple((_YAW_AT_M, yaw) for yaw in YAWS),
    "grid": tuple((d, yaw) for d in DISTANCES_M for yaw in YAWS),
}
"""Poses by name, (distance in m, yaw in degrees): RP2's 15; these, farther ones and turned ones; straight on; turned; every
distance at every yaw."""


@dataclass(frozen=True, eq=False)
class Scene(Checked):
    """A sign, its sticker, what is around it, and how it is looked at.

    ``face`` (4, n, n) is the sign without the sticker, ``backgrounds`` (b, 3, s, s) what may be behind it. Each of the
    ``draws`` has its own light, optics, noise, crop and background, its own print and its own random place of the sticker.
    """

    face: Tensor
    sticker: Sticker
    backgrounds: Tensor
    camera: Camera
    views: Views = field(default_factory=Views)
    print_model: PrintModel = "snap"
    palette: Palette = field(default_factory=lambda: Palette.of("ink"))
    draws: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"draws is {self.draws}; give at least 1 view for each pose.")
        if float(self.sticker.area(self.face)) == 0:
            raise InputError("the sticker covers nothing of the sign; give one whose mask lies on the sign's face.")

    def streams(self, purpose: str) -> Rng:
        """A stream of random numbers for each draw."""
        return Rng.of(self.seed, torch.arange(self.draws)).fold(purpose)

    def looks(self) -> dict[str, Tensor]:
        """The sign (1 or draws, 4, n, n) clean, with the sticker as designed and, where it is, as printed, and two controls."""
        on = self.sticker.on(self.face)
        cover = self.sticker.sized(self.face.shape[-2], self.face.shape[-1])[3].to(self.face)
        rows = self.draws if self.print_model == "gamut" else 1
        colours = printed(
            on[:3].expand(rows, -1, -1, -1),
            cover,
            self.print_model,
            self.palette,
            self.streams("print").take(slice(rows)),
        )
        covered = torch.cat([colours, on[3:].expand(rows, -1, -1, -1)], 1)
        grey = replace(self.sticker, rgba=_in_grey(self.sticker.rgba), mode="replace")
        made = {"clean": self.face[None], "digital": on[None], "printed": covered}
        if self.print_model == "none":
            del made["printed"]
        return {**made, "grey": grey.on(self.face)[None], "moved": self._moved(covered, cover)}

    def _moved(self, covered: Tensor, cover: Tensor) -> Tensor:
        """The printed sticker at a random place for each draw, upright or turned by quarters, on the sign: (draws, 4, n, n)."""
        shift, quarters = _places(cover, self.face[3], self.streams("place"))
        size = self.face.shape[-1]
        made = []
        for draw, (down, across, turns) in enumerate(zip(*shift.T.tolist(), quarters.tolist(), strict=True)):
            source = covered[draw % len(covered)]
            piece = torch.cat([source[:3] * cover, cover[None]]).rot90(turns, (-2, -1))
            piece = _shifted(piece, round(down * size / _COARSE), round(across * size / _COARSE))
            colours = piece[:3] + (1 - piece[3]) * self.face[:3]
            made.append(torch.cat([colours, self.face[3:]]))
        return torch.stack(made).clamp(0.0, 1.0)


@dataclass(frozen=True)
class Lane(Checked):
    """A drive along a straight lane: a frame each 1/``rate`` seconds, of which every ``every``-th is read."""

    start: float = 76.0  # m along the lane
    end: float = 3.0
    offset: float = 3.0  # m from the lane's middle to the sign
    speed: float = 9.0  # m/s
    rate: float = 30.0  # frames a second
    every: int = 1

    def __post_init__(self) -> None:
        if not self.start > self.end > 0:
            raise InputError(f"the drive is from {self.start:g} m to {self.end:g} m; start farther away than it ends.")
        if self.speed <= 0 or self.rate <= 0 or self.every < 1 or self.offset < 0:
            raise InputError("speed and frames a second must be above 0, every at least 1, the offset at least 0.")

    @property
    def distances(self) -> list[float]:
        """Along the lane, of the frames that are read, from far to near."""
        step = self.speed / self.rate * self.every
        return [self.start - step * i for i in range(math.floor((self.start - self.end) / step + 1e-9) + 1)]


def read_poses(
    model: nn.Module,
    scene: Scene,
    poses: Sequence[Pose],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Read:
    """What the model reads at each pose (distance in m, yaw in degrees), in ``scene.draws`` views of each look.

    The views of a pose do not depend on the other poses. The model comes back as it was.
    """
    with borrowed(model), torch.no_grad():
        eye = _Eye(model, scene)
        found = []
        for number, (distance, yaw) in enumerate(poses):
            streams = scene.streams("pose").fold(round(distance * 10_000)).fold(round(yaw * 100))
            found.append(eye.read(scene.views.at(distance, yaw).draw(streams), torch.arange(scene.draws)))
            progress(number + 1, len(poses))
    return _gathered(found, scene.camera, [d for d, _ in poses], list(poses))


def approach(
    model: nn.Module,
    scene: Scene,
    lane: Lane,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    watch: Callable[[str, Tensor], None] = lambda look, picture: None,
) -> Read:
    """What the model reads in each frame of ``scene.draws`` drives.

    The sign faces along the lane, so it turns away as the car comes near. Light, background and print belong to the drive;
    blur, noise and the detector's crop to the frame. ``watch`` is shown the frames (3, s, s) of the first drive, look by look.
    """
    distances = lane.distances
    poses = [(math.hypot(d, lane.offset), math.degrees(math.atan2(lane.offset, d))) for d in distances]
    drives = scene.streams("drive-by")
    light = scene.views.draw(drives)
    with borrowed(model), torch.no_grad():
        eye = _Eye(model, scene, watch)
        found = []
        for number, (distance, yaw) in enumerate(poses):
            # The frame's number, not that of the frames read: every n-th frame is the same frame.
            view = scene.views.at(distance, yaw).draw(drives.fold(number * lane.every))
            view = replace(view, gain=light.gain, bias=light.bias)
            found.append(eye.read(view, torch.arange(scene.draws), behind=light))
            progress(number + 1, len(poses))
    return _gathered(found, scene.camera, distances, poses)


class _Eye:
    """The model, and the signs it is shown."""

    def __init__(
        self, model: nn.Module, scene: Scene, watch: Callable[[str, Tensor], None] = lambda look, picture: None
    ) -> None:
        self.scene, self.device, self.watch = scene, device_of(model), watch
        self.looks = {name: sign.to(self.device) for name, sign in scene.looks().items()}
        self.backgrounds = scene.backgrounds.to(self.device)
        size = scene.camera.size
        blank = torch.zeros(3, size, size)
        self.passes = Passes(model, Precision.own(model), batch_for(model, blank))
        self.part = max(1, min(self.passes.batch_size, _TEXELS // scene.face[0].numel()))

    def read(self, view: View, draw: Tensor, behind: View | None = None) -> dict[str, Tensor]:
        """The classes (B,) read in each look; every look has the same views and backgrounds."""
        place = Rng((view if behind is None else behind).key).fold("background").integers(len(self.backgrounds))
        answers: dict[str, Tensor] = {}
        first: dict[str, Tensor] = {}
        for name, signs in self.looks.items():
            # Colours of the palette come out of the printer as they went in: the same sign need not be looked at twice.
            if name == "printed" and torch.equal(signs, self.looks["digital"]):
                answers[name] = answers["digital"]
                self.watch(name, first["digital"])
                continue
            seen: list[Tensor] = []
            for rows in torch.split(draw, self.part):
                sign = signs if len(signs) == 1 else signs[rows.to(self.device)]
                shown = photograph(
                    sign,
                    self.backgrounds[place[rows].to(self.device)],
                    view.take(rows).to(self.device),
                    self.scene.camera,
                )
                if not seen:
                    first[name] = shown[0].cpu()
                    self.watch(name, first[name])
                seen.append(self.passes.judge(shown).argmax(1).cpu())
            answers[name] = torch.cat(seen)
        return answers


def _gathered(found: list[dict[str, Tensor]], camera: Camera, distances: list[float], poses: list[Pose]) -> Read:
    seen = View.of(distance=[distance for distance, _ in poses], yaw=[yaw for _, yaw in poses])
    return Read(
        tuple(distances),
        tuple(yaw for _, yaw in poses),
        tuple(camera.pixels(seen).tolist()),
        {look: torch.stack([row[look] for row in found]).numpy() for look in found[0]},
    )


def _in_grey(rgba: Tensor) -> Tensor:
    """The same shape in mid-grey."""
    return torch.cat([torch.full_like(rgba[:3], 0.5), rgba[3:]])


def _places(cover: Tensor, face: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
    """Where to put a sticker: shifts (B, 2) down and across in places of the coarse face, and quarter turns (B,).

    All places are as likely at which the sticker keeps its area on the sign; where it is too large to move, the best ones.
    """
    small = F.interpolate(torch.stack([cover, face])[None].float(), (_COARSE, _COARSE), mode="area")[0]
    room = F.pad(small[1], (_COARSE - 1,) * 4)[None, None]
    turned = torch.stack([small[0].rot90(turns, (0, 1)) for turns in range(4)])[:, None]
    kept = F.conv2d(room, turned)[0]  # (4, 63, 63): unmoved at [31, 31]
    fits = (kept >= min(_KEPT * float(small[0].sum()), float(kept.max()) - 1e-4)).flatten().nonzero().flatten()
    chosen = fits[rng.integers(len(fits))]
    span = 2 * _COARSE - 1
    turns, down, across = chosen // span**2, chosen // span % span, chosen % span
    return torch.stack([down, across], 1) - (_COARSE - 1), turns


def _shifted(picture: Tensor, down: int, across: int) -> Tensor:
    """A picture (C, h, w) moved down and across; what leaves it is lost, what enters is 0."""
    height, width = picture.shape[-2:]
    return F.pad(picture, (across, -across, down, -down))[..., :height, :width]
