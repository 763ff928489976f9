"""The pinhole: how large a sign is on the sensor, and where."""

import pytest
import torch

from advkit.data.signs import Signs
from advkit.errors import InputError
from advkit.scene import RP2_POSES, Camera, View
from advkit.scene.geometry import apply, homography
from advkit.scene.photograph import photograph, place


def width(view: View) -> torch.Tensor:
    x = Camera().corners(view)[..., 0]
    return x.amax(1) - x.amin(1)


@pytest.mark.parametrize(("metres", "pixels"), [(12.192, 61.5), (76.2, 9.84), (1.524, 492.1)])
def test_a_sign_is_as_wide_as_a_pinhole_shows_it(metres, pixels):
    view = View.of(distance=metres)
    assert float(Camera().pixels(view)) == pytest.approx(pixels, rel=0.002)
    assert float(width(view)) == pytest.approx(1000 * 0.75 / metres, rel=1e-9)


@pytest.mark.parametrize("yaw", [15.0, 30.0, 45.0, 60.0])
def test_far_away_a_turned_sign_is_narrower_by_the_cosine(yaw):
    turned, frontal = View.of(distance=76.2, yaw=yaw), View.of(distance=76.2)
    ratio = float(width(turned) / width(frontal))
    assert ratio == pytest.approx(float(torch.tensor(yaw).deg2rad().cos()), abs=0.02)


def test_near_by_the_nearer_side_is_taller():
    corners = Camera().corners(View.of(distance=1.524, yaw=45.0))[0]
    left, right = (float((corners[a] - corners[b]).norm()) for a, b in ((0, 3), (1, 2)))
    # the sides are W/2 * sin(45 degrees) nearer and farther than the middle
    off = 0.375 * 0.5**0.5
    assert left / right == pytest.approx((1.524 + off) / (1.524 - off), rel=1e-6)


def test_pitch_puts_the_lower_side_farther_away():
    corners = Camera().corners(View.of(distance=1.524, pitch=30.0))[0]
    assert float((corners[0] - corners[1]).norm()) > float((corners[2] - corners[3]).norm())


def test_roll_turns_clockwise_and_keeps_the_size():
    camera, upright = Camera(), View.of(distance=5.0)
    rolled = camera.corners(View.of(distance=5.0, roll=90.0))[0]
    assert torch.allclose(rolled, camera.corners(upright)[0].roll(-1, 0), atol=1e-9)
    assert float(camera.pixels(View.of(distance=5.0, roll=33.0))) == pytest.approx(150.0)


def test_the_crop_leaves_its_margin():
    corners, side = place(View.of(distance=10.0), Camera(size=48))
    assert torch.allclose(corners[0, 0], torch.tensor([4.0, 4.0], dtype=torch.float64))
    assert torch.allclose(corners[0, 2], torch.tensor([44.0, 44.0], dtype=torch.float64))
    assert torch.allclose(side, torch.tensor([[90.0, 90.0]], dtype=torch.float64))


def test_a_tight_crop_undoes_foreshortening_and_a_square_one_does_not():
    view = View.of(distance=60.0, yaw=60.0)
    tight, square = (place(view, Camera(crop=crop))[0][0] for crop in ("tight", "square"))
    assert float(tight[1, 0] - tight[0, 0]) == pytest.approx(32 / 1.2, rel=0.01)
    assert float(square[1, 0] - square[0, 0]) == pytest.approx(16 / 1.2, rel=0.02)


def test_a_box_to_the_right_shows_the_sign_to_the_left():
    still, moved = (place(View.of(crop_x=x, crop_y=-x), Camera())[0][0] for x in (0.0, 0.05))
    assert torch.allclose(moved - still, torch.tensor([-1.6, 1.6], dtype=torch.float64))


def test_corners_and_homography_agree_to_a_ten_thousandth_of_a_pixel():
    views = View.of(distance=[d for d, _ in RP2_POSES], yaw=[y for _, y in RP2_POSES], pitch=5.0, roll=3.0)
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64).expand(15, 4, 2)
    corners = Camera().corners(views)
    assert float((apply(homography(square, corners), square) - corners).abs().max()) < 1e-4


@pytest.mark.parametrize(
    "settings", [{"focal": 0.0}, {"width": -1.0}, {"margin": -0.1}, {"crop": "round"}, {"size": 0}]
)
def test_a_camera_that_cannot_be_is_refused(settings):
    with pytest.raises(InputError, match="Camera"):
        Camera(**settings)


def test_a_view_from_inside_the_sign_is_refused():
    with pytest.raises(InputError, match="nearer"):
        Camera().corners(View.of(distance=0.3, yaw=60.0))


def test_a_sign_that_leaves_room_in_its_square_is_as_wide_as_it_is_said_to_be():
    view = View.of(distance=1.524)
    whole, octagon = Camera(), Camera(filled=0.9084)
    assert float(octagon.pixels(view)) == float(whole.pixels(view)) == pytest.approx(492.1, abs=0.1)
    torch.testing.assert_close(octagon.corners(view), whole.corners(view) / 0.9084)


def test_a_drawn_stop_sign_of_750_mm_is_seen_as_wide_as_the_camera_says():
    signs, view = Signs(count=1), View.of(distance=1.524)
    label = signs.classes.index("stop")
    camera = Camera(filled=signs.filled(label), margin=0.0, size=256)
    white = signs.face(label, 512)
    white[:3] = 1.0
    seen = photograph(white[None], torch.zeros(1, 3, 256, 256), view, camera)
    share = float(seen[0, 0, 128].mean())  # of the crop, in the middle row
    assert share * float(camera.box(view)[1][0, 0]) == pytest.approx(float(camera.pixels(view)), rel=0.005)
    with pytest.raises(InputError, match=r"filled is 1\.5"):
        Camera(filled=1.5)
