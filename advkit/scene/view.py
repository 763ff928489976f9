"""How a sign is seen, once: pose, light, optics, sensor and crop, and the distributions such views are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError

__all__ = ["DISTANCES_M", "PICTURE_VIEWS", "RP2_POSES", "YAWS", "View", "Views"]

_FOOT = 0.3048
_RP2_YAWS = {5: (0, 15, 30, 45, 60), 10: (0, 15, 30), 15: (0, 15), 20: (0, 15), 25: (0,), 30: (0,), 40: (0,)}

RP2_POSES: tuple[tuple[float, float], ...] = tuple(
    (round(feet * _FOOT, 4), float(yaw)) for feet, yaws in _RP2_YAWS.items() for yaw in yaws
)
"""The 15 lab poses of Eykholt et al. 2018 (5 to 40 feet), as (distance in m, yaw in degrees)."""

DISTANCES_M: tuple[float, ...] = tuple(
    round(feet * _FOOT, 4) for feet in (5, 10, 15, 20, 25, 30, 40, 80, 120, 160, 200, 250)
)
"""RP2's distances and on to 76.2 m, the start of its drive-by."""

YAWS: tuple[float, ...] = (0.0, 15.0, 30.0, 45.0, 60.0)

Range = tuple[float, float]


@dataclass(frozen=True)
class View:
    """B views, each field a float64 tensor (B,): the same value serves the clean and the attacked picture.

    Light is linear (sRGB squared). ``gain`` is (B, 3). Lengths in pixels are pixels of the model's picture.
    """

    distance: Tensor
    """From the camera to the middle of the sign, in m."""
    yaw: Tensor
    """Degrees about the vertical axis; positive: the sign's right side is farther away."""
    pitch: Tensor
    """Degrees about the horizontal axis; positive: the sign's lower side is farther away."""
    roll: Tensor
    """Degrees about the line of sight, clockwise."""
    gain: Tensor
    """The sign's light times this, per channel."""
    bias: Tensor
    """Added to the sign's light."""
    defocus: Tensor
    """Radius of the disk that a point becomes, in px."""
    motion: Tensor
    """Length of the line that a point becomes, in px."""
    motion_angle: Tensor
    """Its direction in degrees: 0 along x, 90 along y."""
    shot: Tensor
    """Variance of a sensor pixel of value 1 (1/500 for 500 photons); it grows with the value."""
    noise: Tensor
    """Standard deviation of a sensor pixel's read noise, in sRGB values."""
    jpeg: Tensor
    """Quality 1 to 100; 0 leaves the picture as it is."""
    crop_scale: Tensor
    """Side of the crop box as a share of the ideal one."""
    crop_x: Tensor
    """Shift of the box to the right, as a share of its side."""
    crop_y: Tensor
    """Shift of the box downwards, as a share of its side."""
    key: Tensor
    """(B,) int64: the view's own random draws (sensor noise, print error)."""

    @classmethod
    def of(
        cls,
        *,
        distance: float | Sequence[float] | Tensor = 10.0,
        yaw: float | Sequence[float] | Tensor = 0.0,
        pitch: float | Sequence[float] | Tensor = 0.0,
        roll: float | Sequence[float] | Tensor = 0.0,
        gain: float | Sequence[float] | Tensor = 1.0,
        bias: float | Sequence[float] | Tensor = 0.0,
        defocus: float | Sequence[float] | Tensor = 0.0,
        motion: float | Sequence[float] | Tensor = 0.0,
        motion_angle: float | Sequence[float] | Tensor = 0.0,
        shot: float | Sequence[float] | Tensor = 0.0,
        noise: float | Sequence[float] | Tensor = 0.0,
        jpeg: float | Sequence[float] | Tensor = 0.0,
        crop_scale: float | Sequence[float] | Tensor = 1.0,
        crop_x: float | Sequence[float] | Tensor = 0.0,
        crop_y: float | Sequence[float] | Tensor = 0.0,
        key: int | Sequence[int] | Tensor = 0,
    ) -> View:
        """Views from numbers or one number per view; nothing else disturbs them. ``gain`` may also be (B, 3)."""
        given = {
            name: torch.as_tensor(value, dtype=torch.float64)
            for name, value in (
                *(("distance", distance), ("yaw", yaw), ("pitch", pitch), ("roll", roll), ("bias", bias)),
                *(("defocus", defocus), ("motion", motion), ("motion_angle", motion_angle), ("shot", shot)),
                *(("noise", noise), ("jpeg", jpeg), ("crop_scale", crop_scale), ("crop_x", crop_x), ("crop_y", crop_y)),
            )
        }
        gains, keys = torch.as_tensor(gain, dtype=torch.float64), torch.as_tensor(key, dtype=torch.int64)
        lengths = {len(t) for t in (*given.values(), gains, keys) if t.ndim}
        if len(lengths - {1}) > 1:
            raise InputError(f"View.of: one number per view was given for {sorted(lengths)} views; give equally many.")
        count = max(lengths, default=1)
        if not (bool((given["distance"] > 0).all()) and bool((given["crop_scale"] > 0).all())):
            raise InputError("View.of: distance (in m) and crop_scale must be above 0.")
        if not bool(((given["jpeg"] >= 0) & (given["jpeg"] <= 100)).all()):
            raise InputError("View.of: jpeg is a quality from 1 to 100, or 0 for none.")
        columns = {name: value.reshape(-1).expand(count) for name, value in given.items()}
        light = gains.reshape(-1, 1).expand(count, 3) if gains.ndim < 2 else gains.expand(count, 3)
        return cls(**columns, gain=light, key=keys.reshape(-1).expand(count))

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: Tensor | slice) -> View:
        """Some of the views, or all in another order."""
        return View(**{name: value[index] for name, value in self._columns().items()})

    @classmethod
    def cat(cls, views: Sequence[View]) -> View:
        """Views one below the other."""
        return cls(**{f.name: torch.cat([getattr(view, f.name) for view in views]) for f in fields(cls)})

    def to(self, device: torch.device | str) -> View:
        """The same views on a device."""
        return View(**{name: value.to(device) for name, value in self._columns().items()})

    def _columns(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Views:
    """A stated distribution of views: every field a range (low, high), drawn uniformly, distance log-uniformly.

    The defaults are the ranges of our expectation over transformations: RP2's lab distances and twice that, yaw to 60
    degrees, a factor of three in light, mild blur, noise and compression, a detector's jitter.
    """

    distance: Range = (1.5, 25.0)  # m
    yaw: Range = (-60.0, 60.0)  # degrees
    pitch: Range = (-15.0, 15.0)
    roll: Range = (-10.0, 10.0)
    gain: Range = (0.5, 1.5)  # common to the channels
    tint: Range = (0.92, 1.08)  # times this, per channel
    bias: Range = (-0.06, 0.06)
    defocus: Range = (0.0, 1.5)  # px of the model's picture
    motion: Range = (0.0, 5.0)
    motion_angle: Range = (0.0, 180.0)
    shot: Range = (1 / 500, 1 / 100)
    noise: Range = (0.0, 0.04)
    jpeg: Range = (60.0, 95.0)  # (0, 0) for none
    crop_scale: Range = (0.9, 1.1)
    crop_shift: Range = (-0.05, 0.05)  # both ways

    def __post_init__(self) -> None:
        for field in fields(self):
            low, high = getattr(self, field.name)
            if low > high:
                raise InputError(f"Views: {field.name} is ({low}, {high}); give the lower end first.")
        if self.distance[0] <= 0 or self.crop_scale[0] <= 0:
            raise InputError("Views: distance (in m) and crop_scale must be above 0.")
        if self.jpeg != (0, 0) and not 1 <= self.jpeg[0] <= self.jpeg[1] <= 100:
            raise InputError(f"Views: jpeg is {self.jpeg}; give qualities from 1 to 100, or (0, 0) for none.")

    def at(self, distance: float, yaw: float = 0.0) -> Views:
        """The same light, optics, sensor and crop at one pose: pitch and roll are 0."""
        return replace(self, distance=(distance, distance), yaw=(yaw, yaw), pitch=(0.0, 0.0), roll=(0.0, 0.0))

    def draw(self, rng: Rng, count: int = 1) -> View:
        """``count`` views for each of the B streams: B * count rows, the views of an example next to each other.

        View number v of a stream does not depend on ``count`` or on the other streams.
        """
        if count < 1:
            raise InputError(f"Views.draw: count is {count}; give at least 1.")
        ordinal = torch.arange(count, device=rng.keys.device).repeat(len(rng.keys))
        streams = Rng(rng.keys.repeat_interleave(count)).fold("view").fold(ordinal)

        def between(name: str, bounds: Range, *shape: int) -> Tensor:
            low, high = bounds
            return low + (high - low) * streams.fold(name).uniform(*shape, dtype=torch.float64)

        near, far = self.distance
        log_ratio = torch.tensor(far / near, dtype=torch.float64).log()
        return View(
            distance=near * (log_ratio * streams.fold("distance").uniform(dtype=torch.float64)).exp(),
            yaw=between("yaw", self.yaw),
            pitch=between("pitch", self.pitch),
            roll=between("roll", self.roll),
            gain=between("gain", self.gain)[:, None] * between("tint", self.tint, 3),
            bias=between("bias", self.bias),
            defocus=between("defocus", self.defocus),
            motion=between("motion", self.motion),
            motion_angle=between("motion_angle", self.motion_angle),
            shot=between("shot", self.shot),
            noise=between("noise", self.noise),
            jpeg=between("jpeg", self.jpeg),
            crop_scale=between("crop_scale", self.crop_scale),
            crop_x=between("crop_x", self.crop_shift),
            crop_y=between("crop_y", self.crop_shift),
            key=streams.fold("key").keys,
        )


PICTURE_VIEWS = Views(
    distance=(3.0, 8.0), yaw=(-20.0, 20.0), pitch=(-10.0, 10.0), roll=(-7.0, 7.0), defocus=(0.0, 0.8), motion=(0.0, 2.0)
)
"""For pictures that are photographs already and have a pose, a blur and a light of their own."""
