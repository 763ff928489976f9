"""The physical world: print, place, light, view; pure differentiable functions of tensors, one example a row."""

from advkit.scene.camera import Camera
from advkit.scene.photograph import photograph
from advkit.scene.picture import disturb
from advkit.scene.view import DISTANCES_M, PICTURE_VIEWS, RP2_POSES, YAWS, View, Views

__all__ = [
    "DISTANCES_M",
    "PICTURE_VIEWS",
    "RP2_POSES",
    "YAWS",
    "Camera",
    "View",
    "Views",
    "disturb",
    "photograph",
]
