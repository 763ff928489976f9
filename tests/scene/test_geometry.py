"""Homographies and warps: where points land, what pixels hold, and what moves them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.scene.geometry import UNIT_SQUARE, apply, crossed, homography, warp

QUADS = torch.tensor(
    [
        [[3.0, 4.0], [27.0, 6.5], [25.0, 28.0], [5.5, 24.0]],
        [[1.0, 1.0], [31.0, 1.0], [31.0, 31.0], [1.0, 31.0]],
        [[8.0, 2.0], [29.0, 9.0], [22.0, 30.0], [2.0, 21.0]],
    ],
    dtype=torch.float64,
)


def smooth(size: int, channels: int = 3) -> Tensor:
    """A picture without fine detail, (1, C, size, size)."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, channels, 6, 6, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def test_corners_go_where_they_are_sent():
    square = torch.tensor(UNIT_SQUARE, dtype=torch.float64)
    there = homography(square, QUADS)
    assert torch.allclose(apply(there, square.expand(3, 4, 2)), QUADS, atol=1e-9)
    back = homography(QUADS, square)
    assert torch.allclose(apply(back @ there, square.expand(3, 4, 2)), square.expand(3, 4, 2), atol=1e-9)


def test_points_land_where_opencv_puts_them():
    cv2 = pytest.importorskip("cv2")
    square = torch.tensor(UNIT_SQUARE)
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for quad in QUADS:
        matrix = cv2.getPerspectiveTransform(square.numpy(), quad.float().numpy())
        theirs = cv2.perspectiveTransform(points[None].numpy(), matrix)[0]
        ours = apply(homography(square, quad[None]), points[None])[0]
        assert float((ours - torch.from_numpy(theirs)).norm(dim=1).max()) < 0.01


def test_a_spot_is_seen_within_half_a_pixel_of_opencvs():
    cv2 = pytest.importorskip("cv2")
    texture = torch.zeros(1, 1, 64, 64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    texture[0, 0] = (-((x - 40) ** 2 + (y - 18) ** 2) / 30).exp()
    source = torch.tensor(UNIT_SQUARE) * 64 - 0.5  # OpenCV counts from the middle of the first pixel
    for quad in QUADS:
        matrix = cv2.getPerspectiveTransform(source.numpy(), (quad - 0.5).float().numpy())
        theirs = torch.from_numpy(cv2.warpPerspective(texture[0, 0].numpy(), matrix, (32, 32)))
        ours = warp(texture, quad[None], (32, 32))[0, 0]
        assert float((middle(ours) - middle(theirs)).norm()) < 0.5


def middle(picture: Tensor) -> Tensor:
    axis = torch.arange(picture.shape[-1], dtype=picture.dtype) + 0.5
    total = picture.sum()
    return torch.stack([(picture.sum(0) * axis).sum(), (picture.sum(1) * axis).sum()]) / total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("border", [False, True])
def test_a_texture_laid_pixel_on_pixel_comes_back_exactly(dtype, border):
    texture = torch.rand(2, 3, 31, 44, generator=torch.Generator().manual_seed(2), dtype=dtype)
    corners = torch.tensor(UNIT_SQUARE, dtype=torch.float64) * torch.tensor([44.0, 31.0])
    assert torch.equal(warp(texture, corners.expand(2, 4, 2), (31, 44), border=border), texture)


def test_a_shift_by_whole_pixels_is_exact():
    texture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    corners = torch.tensor(UNIT_SQUARE, dtype=torch.float64) * 16 + torch.tensor([3.0, -2.0])
    moved = warp(texture, corners[None], (16, 16))
    assert torch.equal(moved[..., :14, 3:], texture[..., 2:, :13])
    assert not moved[..., 14:, :].any()
    assert not moved[..., :, :3].any()


def test_there_and_back_keeps_a_smooth_picture():
    texture = smooth(96)
    square = torch.tensor(UNIT_SQUARE, dtype=torch.float64)
    quad = QUADS[:1] * 6
    there = warp(texture, quad, (192, 192), border=True)
    inner = apply(homography(quad, square), square[None] * 192)  # where the wide picture's corners lie in the texture
    back = warp(there, inner * 96, (96, 96), border=True)
    error = (back - texture)[..., 2:-2, 2:-2].square().mean()
    assert -10 * float(error.log10()) > 30


@pytest.mark.parametrize("size", [10, 17, 24, 40])
@pytest.mark.parametrize("quad", range(3))
def test_the_area_is_kept(size, quad):
    corners = QUADS[quad] * size / 32
    x, y = corners.T
    exact = 0.5 * float((x * y.roll(-1) - y * x.roll(-1)).sum())
    seen = float(warp(torch.ones(1, 1, 200, 200, dtype=torch.float64), corners[None], (size, size)).sum())
    assert seen == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("size", [8, 12, 24, 40])
def test_fine_stripes_far_away_turn_grey(size):
    """Point samples of stripes finer than pixels give coarse stripes: an attack for free. The mean of 6.4 texels of stripes
    of two is off grey by 0.125 at most."""
    stripes = (torch.arange(256) // 2 % 2).double().expand(1, 1, 256, 256)
    corners = torch.tensor(UNIT_SQUARE, dtype=torch.float64)[None] * size
    inner = warp(stripes, corners, (size, size), border=True)[..., 1:-1, 1:-1]
    assert float((inner - 0.5).abs().max()) < 0.13


@pytest.mark.parametrize("size", [8, 12, 20, 32])
def test_three_samples_a_side_see_what_eight_see(size):
    generator = torch.Generator().manual_seed(5)
    texture = torch.rand(1, 3, 24, 24, generator=generator).repeat_interleave(8, 2).repeat_interleave(8, 3)
    quads = QUADS * size / 32
    many, few, one = (warp(texture, quads, (size, size), fine=fine) for fine in (8, 3, 1))
    assert float((few - many).abs().mean()) < 0.01
    assert float((one - many).abs().mean()) > 2 * float((few - many).abs().mean())


def test_gradients_of_texture_and_corners_are_right():
    texture = torch.rand(1, 2, 12, 12, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    quad = QUADS[:1] * 7 / 32 + 0.013
    weights = torch.rand(1, 2, 7, 7, generator=torch.Generator().manual_seed(7), dtype=torch.float64)

    def value(colours: Tensor, corners: Tensor) -> Tensor:
        return (warp(colours, corners, (7, 7)) * weights).sum()

    assert torch.autograd.gradcheck(value, (texture.requires_grad_(), quad.requires_grad_()), eps=1e-7, atol=1e-5)


def test_each_row_is_warped_as_if_alone():
    texture = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(8))
    quads = torch.stack([QUADS[0], QUADS[1] * 0.3, QUADS[2]])
    together = warp(texture, quads, (32, 32))
    alone = torch.cat([warp(texture[i : i + 1], quads[i : i + 1], (32, 32)) for i in range(3)])
    assert torch.equal(together, alone)


def test_one_texture_serves_all_corners():
    texture = torch.rand(1, 3, 80, 80, generator=torch.Generator().manual_seed(8))
    assert torch.equal(warp(texture, QUADS, (32, 32)), warp(texture.expand(3, -1, -1, -1), QUADS, (32, 32)))


def test_nothing_is_seen_beyond_the_horizon():
    """A plane seen nearly edge on: the far side of its horizon must not show it a second time."""
    quad = torch.tensor([[[2.0, 2.0], [6.0, 10.0], [6.0, 12.0], [2.0, 20.0]]], dtype=torch.float64)
    seen = warp(torch.ones(1, 1, 16, 16), quad, (22, 60))
    assert float(seen[..., 8:].abs().max()) == 0


def test_crossed_corners_are_known():
    square = torch.tensor(UNIT_SQUARE)
    assert crossed(torch.stack([square, square[[0, 2, 1, 3]], square.flip(0), square * 0])).tolist() == [
        False,
        True,
        True,
        True,
    ]
