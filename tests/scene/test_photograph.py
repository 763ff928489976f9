"""From a sign to a picture: what stays, what changes, and by how much."""

import pytest
import torch
from torch import Tensor

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene import RP2_POSES, Camera, View, Views, photograph
from advkit.scene.geometry import apply, homography
from advkit.scene.light import percentile_light, srgb
from advkit.scene.photograph import place


def noise(*shape: int, seed: int = 0, dtype=torch.float32) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sign(size: int, count: int = 1) -> Tensor:
    return torch.cat([noise(count, 3, size, size), torch.ones(count, 1, size, size)], 1)


def drawn(count: int, **settings) -> View:
    return Views(**settings).draw(Rng.of(3, torch.arange(count)))


@pytest.mark.parametrize("size", [30, 32])
def test_a_sign_pixel_on_pixel_comes_back_exactly(size):
    face, behind = sign(size, 2), noise(2, 3, size, size, seed=1)
    seen = photograph(face, behind, View.of(distance=[10.0, 4.0]), Camera(margin=0.0, size=size))
    assert torch.equal(seen, face[:, :3])


def test_where_nothing_covers_it_the_background_is_seen_to_the_last_bit():
    face, behind = sign(64), noise(1, 3, 32, 32, seed=1)
    face[:, 3] = 0
    assert torch.equal(photograph(face, behind, View.of(yaw=40.0), Camera()), behind)
    face[:, 3, 20:40, 20:40] = 1
    seen = photograph(face, behind, View.of(yaw=40.0), Camera())
    assert torch.equal(seen[..., :5, :], behind[..., :5, :])
    assert not torch.equal(seen, behind)


def test_white_on_white_stays_white():
    face = torch.ones(15, 4, 100, 100)
    face[:, :, ::7, ::5] = 0  # colour below no coverage is black: it must not shine through
    poses = View.of(distance=[d for d, _ in RP2_POSES], yaw=[y for _, y in RP2_POSES], roll=7.0)
    seen = photograph(face, torch.ones(1, 3, 32, 32), poses, Camera())
    assert float(seen.min()) > 1 - 1e-5


def brute_force(face: Tensor, view: View, camera: Camera, shots: int = 8) -> Tensor:
    """Each sensor pixel is the mean light of a dense grid of points of the texture; then the picture is enlarged."""
    corners, side = place(view, camera)
    count = min(int(side[0, 0].round()), camera.size)
    matrix = homography(corners * count / camera.size, torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]))
    axis = (torch.arange(count * shots * 4, dtype=torch.float64) + 0.5) / (shots * 4)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    at = apply(matrix, torch.stack([x, y], -1)[None])[0]
    texel = (at * face.shape[-1]).floor().long()
    inside = ((texel >= 0) & (texel < face.shape[-1])).all(-1)
    texel = texel.clamp(0, face.shape[-1] - 1)
    light = face[0, :3, texel[..., 1], texel[..., 0]].double() ** 2 * inside
    pooled = torch.nn.functional.avg_pool2d(light[None], shots * 4).sqrt()
    return torch.nn.functional.interpolate(pooled, camera.size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize(("metres", "yaw"), [(76.2, 0.0), (76.2, 45.0), (40.0, 30.0), (12.0, 0.0), (1.524, 60.0)])
def test_nothing_aliases_from_near_to_far(metres, yaw):
    coarse = noise(1, 3, 24, 24, seed=4)
    face = torch.cat([coarse, torch.ones(1, 1, 24, 24)], 1).repeat_interleave(8, 2).repeat_interleave(8, 3)
    view, camera = View.of(distance=metres, yaw=yaw), Camera()
    seen = photograph(face, torch.zeros(1, 3, 32, 32), view, camera)
    error = (seen - brute_force(face, view, camera)).abs()
    assert float(error.mean()) < 0.012
    assert float(error.quantile(0.99)) < 0.06


def test_at_76_metres_the_picture_has_no_more_detail_than_its_12_sensor_pixels():
    far = photograph(sign(128), noise(1, 3, 32, 32, seed=2), View.of(distance=76.2), Camera())
    near = photograph(sign(128), noise(1, 3, 32, 32, seed=2), View.of(distance=5.0), Camera())
    assert torch.linalg.matrix_rank(far[0, 0].double(), atol=1e-4) <= 12
    assert torch.linalg.matrix_rank(near[0, 0].double(), atol=1e-4) > 25


def test_each_row_is_photographed_as_if_alone():
    face, behind, views = sign(64, 12), noise(12, 3, 32, 32, seed=1), drawn(12, distance=(1.5, 76.0))
    together = photograph(face, behind, views, Camera())
    alone = [
        photograph(face[i : i + 1], behind[i : i + 1], views.take(slice(i, i + 1)), Camera()) for i in range(len(views))
    ]
    assert torch.allclose(together, torch.cat(alone), atol=2e-6)


def test_the_same_seed_gives_the_same_bytes():
    face, behind = sign(64, 6), noise(6, 3, 32, 32, seed=1)
    first, again = (photograph(face, behind, drawn(6), Camera()) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, photograph(face, behind, Views().draw(Rng.of(4, torch.arange(6))), Camera()))


def test_every_value_is_a_colour():
    seen = photograph(sign(64, 20), noise(20, 3, 32, 32), drawn(20, distance=(1.5, 76.0), gain=(0.2, 3.0)), Camera())
    assert seen.shape == (20, 3, 32, 32)
    assert bool(((seen >= 0) & (seen <= 1)).all())


@pytest.mark.parametrize("kind", ["far", "near"])
def test_gradients_of_the_sign_are_right(kind):
    face = (sign(7, 1).double() * 0.6 + 0.2).requires_grad_()
    behind = noise(1, 3, 8, 8, dtype=torch.float64) * 0.6 + 0.2
    view = View.of(
        distance=70.0 if kind == "far" else 9.0, yaw=25.0, roll=4.0, gain=0.8, bias=0.02, defocus=0.9, motion=2.3,
        motion_angle=30.0, noise=0.001, shot=1e-6, crop_x=0.013,
    )  # fmt: skip
    weights = noise(1, 3, 8, 8, seed=9, dtype=torch.float64)

    def value(colours: Tensor) -> Tensor:
        return (photograph(colours, behind, view, Camera(size=8)) * weights).sum()

    assert torch.autograd.gradcheck(value, (face,), eps=1e-7, atol=1e-5)


def test_gradients_are_finite_under_every_view_and_at_black():
    face = sign(48, 24)
    face[:12, :3] = 0
    face.requires_grad_()
    seen = photograph(face, torch.zeros(24, 3, 32, 32), drawn(24, distance=(1.5, 76.0)), Camera(eight_bit=True))
    (grad,) = torch.autograd.grad(seen.sum(), face)
    assert bool(grad.isfinite().all())
    assert float(grad[12:, :3].abs().sum()) > 0


def test_eight_bits_leave_256_values():
    seen = photograph(sign(64), noise(1, 3, 32, 32), View.of(distance=5.0, yaw=20.0), Camera(eight_bit=True))
    assert torch.allclose(seen * 255, (seen * 255).round(), atol=1e-4)


def test_more_light_is_brighter_in_linear_light():
    face = torch.cat([torch.full((1, 3, 64, 64), 0.4), torch.ones(1, 1, 64, 64)], 1)
    seen = photograph(face, torch.zeros(1, 3, 32, 32), View.of(gain=[0.5, 1.0, 2.0], bias=[0.0, 0.03, 0.0]), Camera())
    assert torch.allclose(seen[:, 0, 16, 16] ** 2, torch.tensor([0.08, 0.19, 0.32]), atol=1e-5)


def test_read_noise_has_its_stated_width_and_less_where_pixels_are_merged():
    face = torch.cat([torch.full((1, 3, 64, 64), 0.5), torch.ones(1, 1, 64, 64)], 1)
    camera = Camera(margin=0.0)
    views = View.of(distance=[750 / 32, 750 / 128], noise=0.05, key=[1, 2])
    spread = photograph(face, torch.full((1, 3, 32, 32), 0.5), views, camera).flatten(1).std(1)
    assert float(spread[0]) == pytest.approx(0.05, rel=0.06)
    assert float(spread[1]) == pytest.approx(0.05 / 4, rel=0.06)


def test_shot_noise_grows_with_the_value():
    bright, dark = (torch.cat([torch.full((1, 3, 64, 64), c), torch.ones(1, 1, 64, 64)], 1) for c in (0.8, 0.2))
    views = View.of(distance=750 / 32, shot=1 / 500, key=[5, 6])
    spread = (
        photograph(torch.cat([bright, dark]), torch.zeros(1, 3, 32, 32), views, Camera(margin=0.0)).flatten(1).std(1)
    )
    assert float(spread[0] / spread[1]) == pytest.approx(2.0, rel=0.08)


def test_jpeg_changes_little_at_95_and_more_at_20_and_nothing_at_0():
    face, behind = sign(24), noise(1, 3, 32, 32)
    kept, good, bad = photograph(face, behind, View.of(jpeg=[0.0, 95.0, 20.0]), Camera())
    assert torch.equal(kept, photograph(face, behind, View.of(), Camera())[0])
    assert 0 < float((good - kept).abs().mean()) < float((bad - kept).abs().mean())


def test_wrong_shapes_are_told():
    with pytest.raises(InputError, match="colour and coverage"):
        photograph(noise(1, 3, 8, 8), noise(1, 3, 8, 8), View.of(), Camera())
    with pytest.raises(InputError, match="background"):
        photograph(sign(8), noise(3, 3, 8, 8), View.of(), Camera())


def test_percentile_light_finds_the_gain_and_bias_of_a_sign():
    levels = torch.linspace(0, 1, 4000).reshape(1, 1, 40, 100).expand(1, 3, -1, -1)
    mask = torch.ones(1, 40, 100, dtype=torch.bool)
    mask[:, 30:] = False  # the brightest are not on the sign
    gain, bias = percentile_light(levels * 0.4 + 0.1, mask)
    assert torch.allclose(gain, torch.full((1, 3), 0.6 * 0.75 * 0.4), atol=1e-3)
    assert torch.allclose(bias, torch.tensor([0.1 + 0.2 * 0.75 * 0.4]), atol=1e-3)
    with pytest.raises(InputError, match="no pixel"):
        percentile_light(levels, mask & False)


def test_the_root_of_a_square_is_the_value_itself():
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(srgb(values * values), values)
