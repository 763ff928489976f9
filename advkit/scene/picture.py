"""Views of pictures that are photographs already: the small changes of pose and light that they would be seen under."""

from __future__ import annotations

from torch import Tensor

from advkit.errors import InputError
from advkit.scene.camera import Camera
from advkit.scene.geometry import warp
from advkit.scene.light import linear, relight, srgb
from advkit.scene.optics import blur
from advkit.scene.sensor import compress, noisy
from advkit.scene.view import View

__all__ = ["disturb"]

_WIDTH = 0.75  # m: a picture is taken for a board of a sign's width, which is what the views' distances are made for


def disturb(x: Tensor, views: View) -> Tensor:
    """Pictures (B, 3, H, W) seen under ``views`` of B rows: turned, zoomed, relit, blurred, with noise and JPEG.

    A picture is a flat board as wide as a sign; its distance sets how strong the perspective is, and no other thing. Beyond
    its edge the picture goes on as its edge. Light acts on the whole picture. Differentiable in ``x``. Where a view disturbs
    nothing the picture comes back exactly.
    """
    if len(views) != len(x) or x.ndim != 4 or x.shape[1] != 3:
        raise InputError(
            f"disturb: pictures of the shape {tuple(x.shape)} and {len(views)} views; give (B, 3, H, W) and B."
        )
    height, width = x.shape[-2:]
    camera = Camera(width=_WIDTH)
    scale = camera.focal * _WIDTH / views.distance
    seen = camera.corners(views) / (scale * views.crop_scale)[:, None, None]
    shift = seen.new_zeros(len(x), 1, 2)
    shift[:, 0, 0], shift[:, 0, 1] = views.crop_x, views.crop_y
    corners = (seen + 0.5 - shift) * seen.new_tensor([width, height])
    light = relight(warp(linear(x), corners, (height, width), border=True), views.gain, views.bias)
    light = blur(light, views.defocus, views.motion, views.motion_angle)
    taken = noisy(srgb(light), views.shot, views.noise, views.key)
    return compress(taken, views.jpeg)
