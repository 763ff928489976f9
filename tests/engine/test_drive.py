"""Looking at a sign with a sticker: what the model is shown, and that it comes back as it was."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import seeded
from torch import Tensor, nn

from advkit.engine.drive import POSES, Lane, Scene, approach, read_poses
from advkit.errors import InputError
from advkit.results.drive import Subject
from advkit.scene import RP2_POSES, Camera, Views
from advkit.scene.printing import Palette
from advkit.scene.sticker import Sticker

CALM = Views(
    gain=(0.9, 1.1), defocus=(0.0, 0.2), motion=(0.0, 0.2), noise=(0.0, 0.01), shot=(0.0, 0.0001), jpeg=(0.0, 0.0)
)
RED, BLUE = 0, 2


class Colour(nn.Module):
    """Reads a sign by which colour its middle has most of: red, green or blue."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[-1]
        inner = slice(3 * size // 8, 5 * size // 8)
        return self.scale * x[:, :, inner, inner].mean((2, 3))


def moody() -> nn.Module:
    """A network that answers otherwise to any little change."""
    net = nn.Sequential(nn.Flatten(), nn.LayerNorm(3 * 256, elementwise_affine=False), nn.Linear(3 * 256, 500))
    return seeded(net, dtype=torch.float32)


def disc(size: int = 64, colour: tuple[float, float, float] = (0.8, 0.1, 0.1)) -> Tensor:
    """A round sign of one colour, (4, size, size)."""
    axis = (torch.arange(size) + 0.5) / size - 0.5
    cover = (axis[:, None] ** 2 + axis**2 < 0.25).float()
    return torch.cat([torch.tensor(colour)[:, None, None].expand(3, size, size), cover[None]])


def patch(colour: tuple[float, float, float], left: int = 20, width: int = 24, size: int = 64) -> Sticker:
    rgba = torch.zeros(4, size, size)
    rgba[:3] = torch.tensor(colour)[:, None, None]
    rgba[3, 20:44, left : left + width] = 1
    return Sticker(rgba)


def scene(sticker: Sticker, **settings) -> Scene:
    usual = {"views": CALM, "draws": 6, "print_model": "none"}
    return Scene(disc(), sticker, torch.full((3, 3, 16, 16), 0.5), Camera(size=16), **{**usual, **settings})


SUBJECT = Subject(("red", "green", "blue"), RED, BLUE)


def test_a_blue_sticker_in_the_middle_makes_a_red_sign_blue_and_its_controls_do_not():
    read = read_poses(Colour(), scene(patch((0.0, 0.0, 1.0))), [(5.0, 0.0), (20.0, 30.0)])
    assert read.right(SUBJECT) == (12, 12)
    assert read.tally("digital", SUBJECT).targeted == 12
    assert read.tally("moved", SUBJECT).targeted < 12
    assert read.pixels[0] == pytest.approx(150.0)
    grey = read_poses(Colour(), scene(patch((0.5, 0.5, 0.5))), [(5.0, 0.0)])
    assert (grey.answers["grey"] == grey.answers["digital"]).all()


def test_a_sticker_of_the_signs_own_colour_changes_nothing():
    read = read_poses(Colour(), scene(patch((0.8, 0.1, 0.1))), [(5.0, 0.0)])
    assert (read.answers["digital"] == read.answers["clean"]).all()
    assert read.tally("digital", SUBJECT).untargeted == 0


def test_the_printer_changes_what_is_read():
    """A palette without blue prints blue as something else."""
    red_only = Palette("red", torch.tensor([[0.7, 0.1, 0.1], [0.1, 0.3, 0.1]]))
    read = read_poses(Colour(), scene(patch((0.2, 0.0, 0.9)), print_model="snap", palette=red_only), [(5.0, 0.0)])
    assert read.tally("digital", SUBJECT).targeted == 6
    assert read.tally("printed", SUBJECT).targeted == 0


def test_every_look_has_the_same_views_and_each_print_its_own_errors():
    looks = scene(patch((0.3, 0.5, 0.9)), print_model="gamut").looks()
    assert looks["digital"].shape == (1, 4, 64, 64)
    assert looks["printed"].shape == (6, 4, 64, 64)
    assert not torch.equal(looks["printed"][0], looks["printed"][1])
    outside = patch((0.0, 0.0, 0.0)).rgba[3] == 0
    for look in ("digital", "printed", "grey"):
        assert torch.equal(looks[look][0][:, outside], disc()[:, outside])


def test_a_moved_sticker_keeps_its_area_and_stays_on_the_sign():
    made = scene(patch((0.0, 0.0, 1.0), left=20, width=10), draws=12)
    moved = made.looks()["moved"]
    changed = (moved[:, :3] != made.face[:3]).any(1)
    on_sign = (changed & (made.face[3] > 0)).flatten(1).sum(1)
    assert bool((on_sign >= 0.9 * 240).all())
    assert bool((on_sign <= 240).all())
    assert len({tuple(row.nonzero()[0].tolist()) for row in changed}) > 6


def test_a_sticker_as_large_as_the_sign_can_still_be_put_somewhere():
    whole = Sticker(torch.cat([torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), disc()[3:]]))
    assert scene(whole, draws=3).looks()["moved"].shape == (3, 4, 64, 64)


def test_a_pose_is_seen_the_same_in_any_table_and_a_seed_gives_the_same_answers():
    net = moody()
    made = scene(patch((0.0, 0.0, 1.0)), views=Views())
    alone = read_poses(net, made, [(20.0, 30.0)])
    among = read_poses(net, made, [(5.0, 0.0), (20.0, 30.0)])
    for look, answers in alone.answers.items():
        assert (answers[0] == among.answers[look][1]).all()
    other = read_poses(net, replace(made, seed=1), [(20.0, 30.0)])
    assert any((other.answers[look] != alone.answers[look]).any() for look in alone.answers)


def test_the_model_comes_back_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    read_poses(net, scene(patch((0.0, 0.0, 1.0))), [(5.0, 0.0)])
    assert net.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_poses_by_name():
    assert POSES["rp2"] == RP2_POSES
    assert (76.2, 0.0) in POSES["all"]
    assert {yaw for _, yaw in POSES["yaw"]} == {0.0, 15.0, 30.0, 45.0, 60.0}
    assert len(set(POSES["all"])) == len(POSES["all"]) == 24


def test_a_lane_has_a_frame_every_thirtieth_of_a_second():
    lane = Lane()
    assert len(lane.distances) == 244
    assert lane.distances[0] == 76.0
    assert lane.distances[1] == pytest.approx(75.7)
    assert lane.distances[-1] == pytest.approx(3.1)
    assert Lane(every=10).distances == pytest.approx(lane.distances[::10])


def test_a_drive_comes_nearer_and_the_sign_turns_away():
    made = scene(patch((0.0, 0.0, 1.0)), draws=2)
    read = approach(Colour(), made, Lane(every=30))
    assert read.answers["clean"].shape == (len(read.distances), 2)
    assert read.yaws[0] == pytest.approx(math.degrees(math.atan2(3, 76)))
    assert list(read.yaws) == sorted(read.yaws)
    assert read.pixels[-1] > read.pixels[0]
    assert read.tally("digital", SUBJECT).targeted == read.right(SUBJECT)[0] > 0


def test_every_tenth_frame_is_the_same_frame():
    net = moody()
    made = scene(patch((0.0, 0.0, 1.0)), draws=2, views=Views())
    some, fewer = (approach(net, made, Lane(start=20.0, every=every)) for every in (5, 10))
    for look in some.answers:
        assert (some.answers[look][::2] == fewer.answers[look]).all()


@pytest.mark.parametrize("settings", [{"start": 2.0}, {"speed": 0.0}, {"every": 0}, {"end": 0.0}])
def test_a_lane_that_leads_nowhere_is_refused(settings):
    with pytest.raises(InputError):
        Lane(**settings)


def test_a_sticker_beside_the_sign_is_refused():
    rgba = torch.zeros(4, 64, 64)
    rgba[3, :3, :3] = 1
    with pytest.raises(InputError, match="covers nothing of the sign"):
        scene(Sticker(rgba))
