"""A true pinhole camera that looks at the middle of a sign, and the box in which a detector hands the sign on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from advkit.errors import InputError
from advkit.scene.view import View

__all__ = ["Camera"]


@dataclass(frozen=True)
class Camera:
    """Focal length, the sign's width, and the crop: ``margin`` of the face square's side is left on every side.

    ``square`` crops a square around the sign; ``tight`` crops its bounding box and stretches that to a square, which undoes
    foreshortening (Lu et al. 2017).
    """

    focal: float = 1000.0  # px of the sensor
    width: float = 0.75  # m, of the sign
    filled: float = 1.0  # the sign's width as a share of the side of its face square
    margin: float = 0.1
    crop: Literal["square", "tight"] = "square"
    size: int = 32  # px, of the model's picture
    eight_bit: bool = False  # the sensor's values are rounded to 8 bits; gradients pass as if they were not
    fine: int = 3  # samples per pixel along each axis

    def __post_init__(self) -> None:
        if self.focal <= 0 or self.width <= 0:
            raise InputError(f"Camera: focal is {self.focal} px and width {self.width} m; both must be above 0.")
        if not 0 < self.filled <= 1:
            raise InputError(
                f"Camera: filled is {self.filled}; give the share of the face square that the sign is wide, up to 1."
            )
        if not 0 <= self.margin < 10:
            raise InputError(f"Camera: margin is {self.margin}; give a share of the face square's side, 0 or more.")
        if self.crop not in ("square", "tight"):
            raise InputError(f"Camera: crop is {self.crop!r}; allowed are 'square' and 'tight'.")
        if self.size < 1 or self.fine < 1:
            raise InputError(f"Camera: size is {self.size} and fine {self.fine}; give whole numbers above 0.")

    def corners(self, view: View) -> Tensor:
        """Where the face square lies on the sensor, (B, 4, 2) px from the middle of the sign, x right and y down.

        In order: top left, top right, bottom right, bottom left. float64.
        """
        half = 0.5 * self.width / self.filled
        face = view.distance.new_tensor([[-half, -half], [half, -half], [half, half], [-half, half]])
        return self._project(view, face)

    def pixels(self, view: View) -> Tensor:
        """The sign's width on the sensor, (B,) px: focal * width / distance where the sign is seen straight on."""
        sides = self._project(view, view.distance.new_tensor([[-0.5 * self.width, 0.0], [0.5 * self.width, 0.0]]))
        width: Tensor = (sides[:, 1] - sides[:, 0]).norm(dim=1)
        return width

    def box(self, view: View) -> tuple[Tensor, Tensor]:
        """The crop on the sensor: its top left corner and its width and height, (B, 2) each, in px of ``corners``."""
        corners = self.corners(view)
        low, high = corners.amin(1), corners.amax(1)
        side = (high - low) * (1 + 2 * self.margin)
        if self.crop == "square":
            side = side.amax(1, keepdim=True).expand(-1, 2)
        side = side * view.crop_scale[:, None]
        shift = torch.stack([view.crop_x, view.crop_y], 1) * side
        return (low + high) / 2 + shift - side / 2, side

    def _project(self, view: View, points: Tensor) -> Tensor:
        """Points (n, 2) of the sign's plane, in m from its middle, on the sensor: (B, n, 2)."""
        yaw, pitch, roll = (torch.deg2rad(angle) for angle in (view.yaw, view.pitch, view.roll))
        zero = torch.zeros_like(yaw)
        # The columns of roll * yaw * pitch: where the sign's own x and y axes point; the camera looks along z.
        right = torch.stack([roll.cos() * yaw.cos(), roll.sin() * yaw.cos(), yaw.sin()], 1)
        tilted = torch.stack([-yaw.sin() * pitch.sin(), pitch.cos() + zero, yaw.cos() * pitch.sin()], 1)
        down = torch.stack(
            [
                roll.cos() * tilted[:, 0] - roll.sin() * tilted[:, 1],
                roll.sin() * tilted[:, 0] + roll.cos() * tilted[:, 1],
                tilted[:, 2],
            ],
            1,
        )
        x, y = points[:, 0, None], points[:, 1, None]
        space = x * right[:, None] + y * down[:, None]
        depth = space[..., 2] + view.distance[:, None]
        if bool((depth < 0.1 * self.width).any()):
            raise InputError(
                f"Camera: a view is nearer than the sign allows ({float(view.distance.min()):g} m from a sign of "
                f"{self.width:g} m); give distances of at least {self.width:g} m."
            )
        seen: Tensor = self.focal * space[..., :2] / depth[..., None]
        return seen
