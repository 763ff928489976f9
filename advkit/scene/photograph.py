"""The whole way of a sign's colours into a model's picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.errors import InputError
from advkit.scene.camera import Camera
from advkit.scene.geometry import warp
from advkit.scene.light import linear, relight
from advkit.scene.optics import blur
from advkit.scene.sensor import record
from advkit.scene.view import View

__all__ = ["photograph", "place"]


def photograph(sign: Tensor, background: Tensor, view: View, camera: Camera) -> Tensor:
    """Pictures (B, 3, size, size) of a sign in front of a background: light, pose, optics, sensor, crop.

    ``sign`` (B, 4, H, W): the face square in sRGB and coverage, not premultiplied; one row serves all views.
    ``background`` (B, 3, h, w), or one row: what the crop box holds behind the sign, sRGB. Differentiable in the sign. A row
    depends on its own sign, background and view alone. A sign without margin that lies pixel on pixel, with nothing that
    disturbs it, comes back exactly.
    """
    count, size = len(view), camera.size
    _check(sign, background, count)
    cover = sign[:, 3:]
    corners, side = place(view, camera)
    layer = warp(torch.cat([linear(sign[:, :3]) * cover, cover], 1), corners, (size, size), fine=camera.fine)
    cover = layer[:, 3:]
    behind = linear(_surround(background.to(sign.dtype), size))
    light = relight(layer[:, :3], view.gain, view.bias, cover) + (1 - cover) * behind
    light = blur(light, view.defocus, view.motion, view.motion_angle)
    return record(
        light,
        side,
        shot=view.shot,
        noise=view.noise,
        jpeg=view.jpeg,
        key=view.key,
        eight_bit=camera.eight_bit,
    )


def place(view: View, camera: Camera) -> tuple[Tensor, Tensor]:
    """The face square's corners in the model's picture, (B, 4, 2) px, and the crop's width and height on the sensor, (B, 2)."""
    origin, side = camera.box(view)
    return (camera.corners(view) - origin[:, None]) / side[:, None] * camera.size, side


def _surround(background: Tensor, size: int) -> Tensor:
    """The background at the picture's size."""
    if background.shape[-2:] == (size, size):
        return background
    resized = F.interpolate(background, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0)


def _check(sign: Tensor, background: Tensor, count: int) -> None:
    if sign.ndim != 4 or sign.shape[1] != 4 or len(sign) not in (1, count):
        raise InputError(
            f"photograph: the sign has the shape {tuple(sign.shape)}; give (B, 4, H, W), colour and coverage, with "
            f"one row or as many as there are views ({count})."
        )
    if background.ndim != 4 or background.shape[1] != 3 or len(background) not in (1, count):
        raise InputError(
            f"photograph: the background has the shape {tuple(background.shape)}; give (B, 3, h, w) with one row or as "
            f"many as there are views ({count})."
        )
