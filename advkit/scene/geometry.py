"""Planes seen in perspective: homographies in float64, and warps that integrate over pixels rather than sample points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.core.types import expand

__all__ = ["UNIT_SQUARE", "apply", "crossed", "homography", "warp"]

UNIT_SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
"""The face square's corners: top left, top right, bottom right, bottom left."""

_ALIGNED = 1e-9  # px: nearer than this to a pixel's centre is on it; rounding in float64 is four orders below


def homography(source: Tensor, target: Tensor) -> Tensor:
    """The maps (B, 3, 3), float64, that take four points (B, 4, 2) to four others; the last entry is 1."""
    source, target = source.double(), target.double()
    zero = torch.zeros_like(source) + torch.zeros_like(target)
    source, target = source + zero, target + zero
    one = torch.ones_like(source[..., :1])
    point = torch.cat([source, one], -1)
    none = torch.cat([zero, zero[..., :1]], -1)
    across = torch.cat([point, none, -source * target[..., :1]], -1)
    along = torch.cat([none, point, -source * target[..., 1:]], -1)
    system = torch.cat([across, along], -2)
    goal = torch.cat([target[..., 0], target[..., 1]], -1)
    solved = torch.linalg.solve(system, goal)
    return torch.cat([solved, torch.ones_like(solved[..., :1])], -1).reshape(-1, 3, 3)


def apply(matrix: Tensor, points: Tensor) -> Tensor:
    """Points (B, ..., 2) under maps (B, 3, 3)."""
    flat = points.flatten(1, -2).to(matrix.dtype)
    lifted = torch.cat([flat, torch.ones_like(flat[..., :1])], -1) @ matrix.mT
    return (lifted[..., :2] / lifted[..., 2:]).reshape(points.shape)


def crossed(corners: Tensor) -> Tensor:
    """Whether the quadrilaterals (B, 4, 2) cross themselves, bend inwards, run anticlockwise or have no area: (B,)."""
    edge = corners.roll(-1, 1) - corners
    following = edge.roll(-1, 1)
    turn = edge[..., 0] * following[..., 1] - edge[..., 1] * following[..., 0]
    return ~(turn > 0).all(1)


def warp(texture: Tensor, corners: Tensor, size: tuple[int, int], *, fine: int = 2, border: bool = False) -> Tensor:
    """The texture (B, C, H, W) with its corners laid on ``corners`` (B, 4, 2) px of pictures (h, w): (B, C, h, w).

    Every pixel is the mean of ``fine`` x ``fine`` samples of a texture that has been averaged over whole texels before, each
    axis and each row by its own factor, until one is about as wide as the samples are apart: nothing aliases. Where texels
    are as wide as a pixel its samples draw together: a texture laid pixel on pixel comes back exactly. Beyond the texture: 0,
    or its edge where ``border``. Colours with coverage must be premultiplied. One texture may serve all corners.
    Differentiable in both.
    """
    corners = corners.double()
    height, width = texture.shape[-2:]
    texels = _texels(texture, corners)
    merged = (texels.detach() / fine).round().clamp(min=1)
    shape = (merged.new_tensor([width, height]) / merged).round().clamp(min=1).long()  # of the averaged texture
    left = texels * shape / shape.new_tensor([width, height])  # of its texels, per pixel
    at = _positions(corners, size, fine, (left.amax(1) - 1).clamp(0.0, 1.0))
    shapes, member = torch.unique(shape, dim=0, return_inverse=True)
    groups = [(member == number).nonzero().flatten() for number in range(len(shapes))]
    seen = [
        _look(texture if len(texture) == 1 else texture[index], at[index], columns, rows, fine, border)
        for index, (columns, rows) in zip(groups, shapes.tolist(), strict=True)
    ]
    mean = seen[0] if len(seen) == 1 else torch.cat(seen)[torch.cat(groups).argsort()]
    candidates = ((left.detach() - 1).abs().amax(1) < _ALIGNED).nonzero().flatten()
    if not len(candidates):
        return mean
    chosen = texture if len(texture) == 1 else texture[candidates]
    return mean.index_copy(0, candidates, _aligned(chosen, at[candidates], mean[candidates], fine, border))


def _texels(texture: Tensor, corners: Tensor) -> Tensor:
    """How many texels across and along the texture a pixel covers, (B, 2), by the mean lengths of opposite edges."""
    edge = (corners.roll(-1, 1) - corners).norm(dim=2)
    height, width = texture.shape[-2:]
    return torch.stack([2 * width / (edge[:, 0] + edge[:, 2]), 2 * height / (edge[:, 1] + edge[:, 3])], 1)


def _positions(corners: Tensor, size: tuple[int, int], fine: int, spread: Tensor) -> Tensor:
    """Where the samples of the pixels fall in the unit square of the texture, (B, h * fine, w * fine, 2), float64."""
    inverse = homography(corners, corners.new_tensor(UNIT_SQUARE))
    offset = ((torch.arange(fine, device=corners.device).double() + 0.5) / fine - 0.5) * spread[:, None]

    def places(count: int) -> Tensor:
        centres = torch.arange(count, device=corners.device).double() + 0.5
        return (centres[:, None] + offset[:, None]).flatten(1)

    y, x = places(size[0])[:, :, None], places(size[1])[:, None]
    a = inverse[..., None, None]
    u, v, depth = (a[:, row, 0] * x + (a[:, row, 1] * y + a[:, row, 2]) for row in range(3))
    seen = torch.stack([u, v], -1)
    # Beyond the plane's horizon the map comes back from the other side: nothing of the texture is seen there. The depth is
    # linear, so it is enough to look at the corners.
    ahead = depth.detach() * expand(_side(inverse, corners), depth)
    if bool((ahead[:, :: ahead.shape[1] - 1 or 1, :: ahead.shape[2] - 1 or 1] > 1e-9).all()):
        return seen / depth[..., None]
    is_ahead = (ahead > 1e-9)[..., None]
    return torch.where(is_ahead, seen / torch.where(is_ahead, depth[..., None], 1.0), -9.0)


def _side(inverse: Tensor, corners: Tensor) -> Tensor:
    """The sign of the map's denominator on the texture, (B,)."""
    middle = corners.mean(1)
    return (inverse[:, 2, 0] * middle[:, 0] + inverse[:, 2, 1] * middle[:, 1] + inverse[:, 2, 2]).detach().sign()


def _look(texture: Tensor, at: Tensor, columns: int, rows: int, fine: int, border: bool) -> Tensor:
    """Means of ``fine`` x ``fine`` samples of the texture in so many columns and rows, at points of the unit square."""
    if texture.shape[-2:] != (rows, columns):
        texture = F.adaptive_avg_pool2d(texture, (rows, columns))
    grid = (2 * at - 1).to(texture.dtype)
    beyond = "border" if border else "zeros"
    source = texture.expand(len(at), -1, -1, -1)
    samples = F.grid_sample(source, grid, mode="bilinear", padding_mode=beyond, align_corners=False)
    return F.avg_pool2d(samples, fine) if fine > 1 else samples


def _aligned(texture: Tensor, at: Tensor, mean: Tensor, fine: int, border: bool) -> Tensor:
    """``mean``, with the texels themselves in rows whose samples all lie on the middle of a texel.

    Weights of 1 and 0 come out of float32 as 1 - 1e-7 and 1e-7: the value is the texel's, the gradient that of the mean.
    """
    once = at.detach()[:, ::fine, ::fine]
    texel = once * once.new_tensor([texture.shape[-1], texture.shape[-2]]) - 0.5
    exact = (texel - texel.round()).abs().flatten(1).amax(1) < _ALIGNED
    grid = (2 * once - 1).to(texture.dtype)
    source = texture.detach().expand(len(at), -1, -1, -1)
    beyond = "border" if border else "zeros"
    nearest = F.grid_sample(source, grid, mode="nearest", padding_mode=beyond, align_corners=False)
    return torch.where(expand(exact, mean), nearest + (mean - mean.detach()), mean)
