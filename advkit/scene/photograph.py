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
from advkit.scene.sensor import integrate, raster, record
from advkit.scene.view import View

__all__ = ["photograph", "place"]


def photograph(sign: Tensor, background: Tensor, view: View, camera: Camera) -> Tensor:
    """Pictures (B, 3, size, size) of a sign in front of a background: light, pose, optics, sensor, crop.

    ``sign`` (B, 4, H, W): the face square in sRGB and coverage, not premultiplied; one row serves all views.
    ``background`` (B, 3, h, w), or one row: what the crop box holds behind the sign, sRGB. Differentiable in the sign. A row
    depends on its own sign, background and view alone. A sign without margin that lies pixel on pixel, with nothing that
    disturbs it, comes back exactly.
    """
    size = camera.size
    _check(sign, background, len(view))
    cover = sign[:, 3:]
    corners, side = place(view, camera)
    count = raster(side, size)
    share = count / size  # of the raster: a far sign has fewer pixels on the sensor than the model's picture
    colours = torch.cat([linear(sign[:, :3]) * cover, cover], 1)
    layer = warp(colours, corners * share[:, None], (size, size), fine=camera.fine)
    behind = _behind(background.to(sign.dtype), count, size)
    light = relight(layer[:, :3], view.gain, view.bias, layer[:, 3:]) + (1 - layer[:, 3:]) * behind
    shrunk = share.prod(1).sqrt()
    light = blur(light, view.defocus * shrunk, view.motion * shrunk, view.motion_angle)
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


def _behind(background: Tensor, count: Tensor, size: int) -> Tensor:
    """The background's light on the raster of ``count`` (B, 2) columns and rows; in full it keeps its pixels' values."""
    if background.shape[-2:] != (size, size):
        resized = F.interpolate(background, (size, size), mode="bilinear", align_corners=False, antialias=True)
        background = resized.clamp(0.0, 1.0)
    light = linear(background)
    coarse = (count < size).any(1).nonzero().flatten()
    if not len(coarse):
        return light
    light = light.expand(len(count), -1, -1, -1)
    return light.index_copy(0, coarse, integrate(light[coarse], count[coarse]))


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
