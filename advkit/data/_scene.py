"""How a sign stands in the world and how the camera sees it: pose, surroundings, light, lens and sensor.

Everything is drawn from an example's own streams and is described in units of the picture, so the same example at
another size shows the same scene. Lengths are in pixels of the finished picture: x runs to the right, y down, and the
pixel in row r and column c covers the square from (c, r) to (c + 1, r + 1). Light is linear (sRGB squared) throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import cos, floor, radians, sin

import numpy as np
from numpy.typing import NDArray

from advkit.data._draws import Draws, lattice_noise
from advkit.data._faces import face
from advkit.data._shapes import Array

__all__ = ["Pose", "background", "draw_pose", "photograph", "sign_layer"]


@dataclass(frozen=True)
class Pose:
    """Where the sign is, as the homography (3, 3) from the face square to a picture of width 1."""

    matrix: Array
    scale: float

    def to_pixels(self, size: int) -> Array:
        """The homography from the face square [0, 1] x [0, 1] to pixels."""
        return np.diag([float(size), float(size), 1.0]) @ self.matrix


def draw_pose(draws: Draws) -> Pose:
    """A sign turned away a little, off centre, seen from 2.5 to 7 times its width."""
    yaw, pitch, roll = (radians(draws.middle(-a, a)) for a in (55, 30, 18))
    scale, distance = draws.uniform(0.48, 0.92), draws.uniform(2.5, 7.0)
    slack = (1 - scale) / 2 + 0.03
    x, y = 0.5 + draws.middle(-slack, slack), 0.5 + draws.middle(-slack, slack)
    # The camera looks along z; the columns of the rotation roll * yaw * pitch give the face's own axes.
    right = (cos(roll) * cos(yaw), sin(roll) * cos(yaw), -sin(yaw))
    down = (
        cos(roll) * sin(yaw) * sin(pitch) - sin(roll) * cos(pitch),
        sin(roll) * sin(yaw) * sin(pitch) + cos(roll) * cos(pitch),
        cos(yaw) * sin(pitch),
    )
    depth = [right[2] / distance, down[2] / distance, 1.0]
    rows = ([scale * r, scale * d, 0.0] for r, d in zip(right[:2], down[:2], strict=True))
    first, second = (np.array(row) + centre * np.array(depth) for row, centre in zip(rows, (x, y), strict=True))
    centred = np.array([first, second, depth])
    centred[:, 2] -= (centred[:, 0] + centred[:, 1]) / 2
    return Pose(centred / centred[2, 2], scale)


def sign_layer(name: str, pose: Pose, size: int) -> tuple[NDArray[np.float64], tuple[slice, slice]]:
    """The sign in the picture, (h, w, 4) light times coverage and coverage, and the window of pixels it fills."""
    fine = 3 if size < 96 else 2
    matrix = pose.to_pixels(size)
    corners = matrix @ np.array([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    spans = [_span(corners[axis] / corners[2], size) for axis in (1, 0)]
    (top, bottom), (left, right) = spans
    y = top + (np.arange((bottom - top) * fine)[:, None] + 0.5) / fine
    x = left + (np.arange((right - left) * fine)[None, :] + 0.5) / fine
    inverse = np.linalg.inv(matrix)
    u, v, w = (row[0] * x + row[1] * y + row[2] for row in inverse)
    texture = _framed_face(name, _face_size(pose.scale * size * fine))
    seen = _lookup(texture, u / w, v / w)
    height, width = bottom - top, right - left
    pooled = seen.reshape(height, fine, width, fine, 4).mean(axis=(1, 3))
    return pooled, (slice(top, bottom), slice(left, right))


def _span(values: Array, size: int) -> tuple[int, int]:
    low = min(max(floor(float(values.min())), 0), size - 1)
    return low, max(min(floor(float(values.max())) + 1, size), low + 1)


def _face_size(pixels: float) -> int:
    """The power of two nearest above: the face is sampled at about its own resolution."""
    return int(min(1024, max(32, 2 ** np.ceil(np.log2(pixels)))))


@lru_cache(maxsize=256)
def _framed_face(name: str, size: int) -> NDArray[np.float32]:
    return np.pad(face(name, size), ((1, 1), (1, 1), (0, 0)))


def _lookup(texture: NDArray[np.float32], u: Array, v: Array) -> Array:
    """Bilinear samples of a framed face at (u, v); nothing beyond its frame."""
    size = len(texture) - 2
    x, y = np.clip(u * size + 0.5, 0.0, size + 0.999), np.clip(v * size + 0.5, 0.0, size + 0.999)
    column, row = x.astype(np.int64), y.astype(np.int64)
    fx, fy = (x - column)[..., None].astype(np.float32), (y - row)[..., None].astype(np.float32)
    flat, stride = texture.reshape(-1, 4), size + 2
    at = row * stride + column
    upper = flat[at] * (1 - fx) + flat[at + 1] * fx
    lower = flat[at + stride] * (1 - fx) + flat[at + stride + 1] * fx
    return np.asarray(upper * (1 - fy) + lower * fy, dtype=np.float64)


def background(draws: Draws, pose: Pose, size: int) -> Array:
    """What is behind the sign, (size, size, 3): sky, trees, houses, road or a hedge, and mostly a pole."""
    noise = [draws.grid(n, n) for n in (4, 8, 16, 32, 64)]
    coarse = lattice_noise(noise[0], size) * 0.65 + lattice_noise(noise[1], size) * 0.35
    rough = lattice_noise(noise[2], size) * 0.45 + lattice_noise(noise[3], size) * 0.35 + _finest(noise[4], size) * 0.2
    centres = (np.arange(size) + 0.5) / size
    x, y = centres[None, :], centres[:, None]
    sky = _blend(
        draws.colour((0.5, 0.7, 0.95), (0.95, 0.96, 1.0)), draws.colour((0.3, 0.5, 0.85), (0.7, 0.72, 0.76)), y
    )
    sky = _blend(sky, np.ones(3), np.clip(coarse * 2.4 - 1.0, 0.0, 1.0) * draws.uniform(0.0, 0.8))
    leaves = _leaves(draws, coarse, rough)
    horizon, tops = draws.uniform(0.55, 1.0), draws.uniform(0.0, 0.55)
    ground = _blend(
        draws.colour((0.2, 0.2, 0.21), (0.6, 0.58, 0.55)), draws.colour((0.28, 0.4, 0.16), (0.5, 0.5, 0.3)), coarse
    ) * (0.7 + 0.6 * rough[..., None])
    kind = draws.uniform()
    if kind < 0.2:  # a hedge or a wood fills the view
        view = leaves
    elif kind < 0.3:  # open sky
        view = sky
    else:
        view = sky
        if kind < 0.7:
            skyline = horizon - tops * (0.3 + 0.7 * lattice_noise(noise[1], size)[:1])
            view = _blend(view, leaves, _edge(y - skyline - 0.1 * (rough - 0.5), size))
        else:
            view = _houses(draws, view, x, y, horizon, size) * (0.9 + 0.2 * rough[..., None])
        view = _blend(view, ground, _edge(y - horizon - 0.03 * coarse, size))
    if draws.chance(0.75):
        view = _pole(draws, view, pose, x, y, size)
    return view


def _finest(lattice: Array, size: int) -> Array:
    """The finest texture, left out where the pixels could not show it."""
    return lattice_noise(lattice, size) if size >= len(lattice) else np.full((size, size), 0.5)


def _blend(under: Array, over: Array, cover: Array) -> Array:
    return np.asarray(under + (over - under) * cover[..., None])


def _edge(distance: Array, size: int) -> Array:
    """Coverage of the side where ``distance`` is positive, soft over one pixel."""
    return np.clip(distance * size + 0.5, 0.0, 1.0)


def _leaves(draws: Draws, coarse: Array, rough: Array) -> Array:
    dark = draws.colour((0.08, 0.14, 0.06), (0.3, 0.24, 0.12))
    light = draws.colour((0.3, 0.5, 0.15), (0.62, 0.62, 0.35))
    return _blend(dark, light, np.clip(0.9 * coarse + 1.5 * rough - 0.85, 0.0, 1.0))


def _houses(draws: Draws, view: Array, x: Array, y: Array, ground: float, size: int) -> Array:
    """Two to four fronts side by side, with windows in rows."""
    left = -0.1
    for _ in range(2 + draws.below(3)):
        width, roof = draws.uniform(0.22, 0.6), draws.uniform(-0.2, ground - 0.2)
        wall = draws.colour((0.4, 0.3, 0.26), (0.9, 0.86, 0.78))
        pane = draws.colour((0.1, 0.12, 0.16), (0.45, 0.5, 0.58))
        pitch, share = draws.uniform(0.09, 0.2), draws.uniform(0.3, 0.5)
        inside = _edge(x - left, size) * _edge(left + width - x, size) * _edge(y - roof, size)
        across, along = ((x - left) / pitch) % 1.0, ((y - roof) / (1.4 * pitch)) % 1.0
        windows = _edge((share - np.abs(across - 0.5) * 2) * pitch / 2, size) * _edge(
            (0.6 - np.abs(along - 0.5) * 2) * pitch * 0.7, size
        )
        view = _blend(view, _blend(wall * (1.1 - 0.3 * y)[..., None], pane, windows), inside)
        left += width + (draws.uniform(0.0, 0.15) if draws.chance(0.4) else 0.0)
    return view


def _pole(draws: Draws, view: Array, pose: Pose, x: Array, y: Array, size: int) -> Array:
    """A round post that carries the sign, from its middle downwards."""
    shades = draws.colour((0.3, 0.3, 0.3), (0.75, 0.75, 0.76))
    half = pose.scale * draws.uniform(0.025, 0.05)
    centre = pose.matrix @ np.array([0.5, 0.5, 1.0])
    lean = float(pose.matrix[0, 1] / pose.matrix[1, 1])
    off = (x - centre[0] / centre[2] - lean * (y - centre[1] / centre[2])) / half
    cover = _edge((1 - np.abs(off)) * half, size) * _edge(y - centre[1] / centre[2], size)
    round_shade = np.clip(1.05 - 0.6 * (off + draws.uniform(-0.6, 0.6)) ** 2, 0.25, 1.2)
    return _blend(view, shades * round_shade[..., None], cover)


def photograph(draws: Draws, layer: Array, window: tuple[slice, slice], view: Array) -> NDArray[np.uint8]:
    """The finished picture, (H, W, 3): wear and light on the sign, shadows, lens blur, exposure, sensor noise."""
    size = len(view)
    spots, shade = draws.grid(9, 9), draws.grid(5, 5)
    light = _paint(draws, layer, lattice_noise(spots, size)[window], window, view)
    light = _twigs(draws, light, lattice_noise(spots, size))
    light = light * _daylight(draws, lattice_noise(shade, size), size)
    light = _lens(light, draws.uniform(0.003, 0.022), 0.09 * draws.uniform() ** 3, draws.uniform(0.0, np.pi))
    exposed = np.sqrt(np.clip(light, 0.0, 1.0))
    contrast, haze = draws.uniform(0.65, 1.15), draws.uniform(0.0, 1.0)
    exposed = exposed * contrast + max(0.0, 1 - contrast) * haze * 0.6
    grain = 0.004 + 0.04 * draws.uniform() ** 2
    noisy = exposed + grain * draws.bell(size, size, 3)
    return (np.clip(noisy, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def _paint(draws: Draws, layer: Array, spots: Array, window: tuple[slice, slice], view: Array) -> Array:
    """Lay the sign over the view: faded, dirty or shining, each now and then."""
    colour, cover = layer[..., :3], layer[..., 3:]
    fade = draws.uniform(0.1, 0.45) if draws.chance(0.25) else 0.0
    colour = colour + fade * (colour.mean(axis=2, keepdims=True) * 0.6 + 0.25 * cover - colour)
    dirt = draws.uniform(0.3, 0.8) if draws.chance(0.25) else 0.0
    soiled = dirt * np.clip(spots * 3 - draws.uniform(1.4, 2.2), 0.0, 1.0)[..., None]
    colour = colour * (1 - soiled) + draws.colour((0.2, 0.16, 0.1), (0.42, 0.38, 0.32)) * cover * soiled
    shine = draws.uniform(0.1, 0.4) if draws.chance(0.15) else 0.0
    gloss = shine * cover * np.clip(1.1 - 2 * spots, 0.0, 1.0)[..., None]
    colour = colour * draws.uniform(0.55, 1.1) + gloss
    light = view.copy()
    light[window] = view[window] * (1 - cover) + colour
    return light


def _twigs(draws: Draws, light: Array, spots: Array) -> Array:
    """Leaves that hang into the view from one side and may hide part of the sign, now and then."""
    angle, reach, is_there = draws.uniform(0.0, 2 * np.pi), draws.uniform(0.15, 0.45), draws.chance(0.15)
    leaf = draws.colour((0.1, 0.16, 0.06), (0.5, 0.5, 0.25))
    if not is_there:
        return light
    centres = (np.arange(len(light)) + 0.5) / len(light) - 0.5
    inwards = cos(angle) * centres[None, :] + sin(angle) * centres[:, None] - reach
    return _blend(light, leaf * (0.4 + spots)[..., None], np.clip((inwards + 0.6 * spots - 0.35) * 12, 0.0, 1.0))


def _daylight(draws: Draws, shade: Array, size: int) -> Array:
    """Light that falls on everything: strength, colour, a slope across the picture, sometimes shadows."""
    strength = 2.0 ** draws.middle(-2.7, 1.5)
    tint = np.array([draws.uniform(0.78, 1.22), 1.0, draws.uniform(0.78, 1.22)])
    slope, angle = draws.uniform(0.0, 0.6), draws.uniform(0.0, 2 * np.pi)
    centres = (np.arange(size) + 0.5) / size - 0.5
    fall = 1 + slope * (cos(angle) * centres[None, :] + sin(angle) * centres[:, None])
    depth = draws.uniform(0.3, 0.75) if draws.chance(0.3) else 0.0
    edge, sharpness = draws.uniform(0.35, 0.65), draws.uniform(3.0, 9.0)
    shadow = 1 - depth * np.clip((shade - edge) * sharpness + 0.5, 0.0, 1.0)
    return np.asarray(strength * tint * (fall * shadow)[..., None])


def _lens(light: Array, blur: float, motion: float, angle: float) -> Array:
    """Defocus (a Gaussian of width ``blur``) and motion along ``angle``, in widths of the picture."""
    size = len(light)
    count = _fast_length(size + size // 3)
    margin = (count - size) // 2
    sides = (margin, count - size - margin)
    padded = np.pad(light, (sides, sides, (0, 0)), mode="reflect")
    down, across = np.fft.fftfreq(count)[:, None], np.fft.rfftfreq(count)[None, :]
    spread = np.exp(-2 * (np.pi * blur * size) ** 2 * (down**2 + across**2))
    passed = spread * np.sinc(motion * size * (cos(angle) * across + sin(angle) * down))
    blurred = np.fft.irfft2(np.fft.rfft2(padded, axes=(0, 1)) * passed[..., None], s=(count, count), axes=(0, 1))
    return np.asarray(blurred[margin : margin + size, margin : margin + size])


@lru_cache(maxsize=64)
def _fast_length(length: int) -> int:
    """The next length without a prime factor above 5, for which the Fourier transform is quick."""
    rest = length
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return length if rest == 1 else _fast_length(length + 1)
