"""Views and their distributions."""

import pytest
import torch

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene import DISTANCES_M, RP2_POSES, View, Views


def test_a_stream_draws_the_same_views_alone_and_however_many_are_asked_for():
    ids = torch.arange(4)
    many = Views().draw(Rng.of(0, ids), 3)
    assert len(many) == 12
    alone = Views().draw(Rng.of(0, ids[2:3]), 5)
    for name in ("distance", "yaw", "gain", "noise", "key"):
        assert torch.equal(getattr(many, name)[6:9], getattr(alone, name)[:3]), name


def test_draws_fill_their_ranges_and_stay_inside():
    views = Views().draw(Rng.of(1, torch.arange(500)), 4)
    for name, (low, high) in {"distance": (1.5, 25), "yaw": (-60, 60), "jpeg": (60, 95), "noise": (0, 0.04)}.items():
        value = getattr(views, name)
        assert low <= float(value.min()) < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < float(value.max()) <= high, name
    assert float(views.distance.median()) == pytest.approx((1.5 * 25) ** 0.5, rel=0.08)  # log-uniform
    assert len(views.key.unique()) == 2000
    assert abs(float(torch.corrcoef(torch.stack([views.yaw, views.pitch]))[0, 1])) < 0.08


def test_a_pose_is_held_while_the_light_is_drawn():
    views = Views().at(12.0, 30.0).draw(Rng.of(0, torch.arange(10)))
    assert torch.allclose(views.distance, torch.full((10,), 12.0, dtype=torch.float64))
    assert bool((views.yaw == 30).all())
    assert not views.roll.any()
    assert not views.pitch.any()
    assert len(views.noise.unique()) == 10


def test_views_are_taken_and_joined():
    views = View.of(distance=[3.0, 4.0, 5.0], gain=torch.rand(3, 3), key=[7, 8, 9])
    both = View.cat([views.take(slice(0, 1)), views.take(torch.tensor([2, 1]))])
    assert both.distance.tolist() == [3.0, 5.0, 4.0]
    assert both.key.tolist() == [7, 9, 8]
    assert torch.equal(both.gain, views.gain[[0, 2, 1]])


def test_rp2s_poses():
    assert len(RP2_POSES) == 15
    assert (1.524, 60.0) in RP2_POSES
    assert (12.192, 0.0) in RP2_POSES
    assert DISTANCES_M[-1] == pytest.approx(76.2)


@pytest.mark.parametrize(
    "settings", [{"distance": (5.0, 1.0)}, {"distance": (0.0, 1.0)}, {"jpeg": (0.0, 50.0)}, {"crop_scale": (0.0, 1.0)}]
)
def test_a_distribution_that_cannot_be_drawn_from_is_refused(settings):
    with pytest.raises(InputError, match="Views"):
        Views(**settings)


@pytest.mark.parametrize("fields", [{"distance": [1.0, 2.0], "yaw": [1.0, 2.0, 3.0]}, {"distance": 0.0}, {"jpeg": 101}])
def test_views_that_cannot_be_are_refused(fields):
    with pytest.raises(InputError, match="View"):
        View.of(**fields)
