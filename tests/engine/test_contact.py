"""The contact sheet of a sticker: what is seen, and what is said of it."""

from __future__ import annotations

import torch

from advkit.engine.contact import contact_frames
from advkit.engine.design import OnPhotos, OnSign, Seen
from advkit.scene import Camera, View
from advkit.scene.printing import Palette
from advkit.scene.sticker import Sticker


class Darkness(torch.nn.Module):
    """Class 0 where the middle of a picture is bright, 1 where it is dark."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dark = 9 * (0.5 - x[..., 12:20, 12:20].flatten(1).mean(1))
        return torch.stack([-dark, dark], 1)


def black(n: int = 64) -> Sticker:
    rgba = torch.zeros(4, n, n)
    rgba[3, n // 5 : 4 * n // 5, n // 5 : 4 * n // 5] = 1
    return Sticker(rgba)


def test_each_view_is_shown_without_and_with_the_sticker_and_said_to_be_right_or_fooled() -> None:
    face = torch.ones(4, 64, 64)
    stage = OnSign(face, torch.full((1, 3, 32, 32), 0.5), camera=Camera(size=32))
    seen = stage.looking(View.of(distance=[2.0, 10.0], yaw=[0.0, 30.0], key=[0, 1]))
    frames = contact_frames(Darkness(), stage, black(), seen, 0, 1, ("bright", "dark"))
    assert [frame.title for frame in frames] == [
        "sign",
        "sticker",
        "sticker on the sign",
        *["2 m, 0°", "10 m, 30°"] * 2,
    ]
    assert [frame.verdict for frame in frames] == [None] * 3 + ["right"] * 2 + ["target"] * 2
    assert [frame.answer for frame in frames[3:]] == ["bright", "bright", "dark", "dark"]
    assert all(frame.confidence > 0.9 for frame in frames[3:])
    assert torch.equal(frames[2].picture, black().on(face))
    for clean, attacked in zip(frames[3:5], frames[5:], strict=True):
        apart = (clean.picture - attacked.picture).abs().amax(0)
        assert apart[14:18, 14:18].min() > 0.5
        assert apart[0].max() == 0  # the same view and noise: the background is the same


def test_a_print_model_adds_what_is_printed() -> None:
    stage = OnPhotos(torch.ones(2, 3, 32, 32))
    seen = stage.whole()
    palette = Palette("light", torch.tensor([[0.9, 0.9, 0.9], [0.8, 0.8, 0.8]]))
    frames = contact_frames(
        Darkness(), stage, black(32), seen, 0, None, ("bright",), print_model="snap", palette=palette
    )
    assert isinstance(seen, Seen)
    assert [frame.group for frame in frames[3:]][::2] == [
        "without the sticker", "with the sticker", "with the sticker, printed (snap)",
    ]  # fmt: skip
    assert [frame.verdict for frame in frames[3:]] == ["right"] * 2 + ["misread"] * 2 + ["right"] * 2
    assert frames[5].answer == "class 1"
    assert frames[-1].picture.min() == torch.tensor(0.8)
