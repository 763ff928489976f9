"""Rectangular occlusion: the place, the fill, and the bounds of both."""

from __future__ import annotations

import pytest
import torch
from helpers import conv_net, linear, pictures
from torch import Tensor, nn

from advkit.attacks import ROA
from advkit.core import Area, Linf, Margin
from advkit.errors import InputError

NINE = Area(9 / 64)  # 3 x 3 of the 8 x 8 pixels


class Window(nn.Module):
    """Looks at nothing but one 3 x 3 window."""

    def __init__(self, top: int, left: int) -> None:
        super().__init__()
        self.top, self.left = top, left

    def forward(self, x: Tensor) -> Tensor:
        seen = x[:, :, self.top : self.top + 3, self.left : self.left + 3].flatten(1).sum(1)
        return torch.stack([seen, -seen], 1)


def boxes(changed: Tensor) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of what changed in each picture, (B, H, W)."""
    found = []
    for picture in changed:
        rows, columns = picture.any(1).nonzero().flatten(), picture.any(0).nonzero().flatten()
        top, left = int(rows[0]), int(columns[0])
        found.append((top, left, int(rows[-1]) - top + 1, int(columns[-1]) - left + 1))
    return found


@pytest.mark.parametrize("settings", [{}, {"search": "exhaustive", "steps": 40}, {"search": "exhaustive", "stride": 3}])
@pytest.mark.parametrize("corner", [(0, 0), (0, 5), (5, 0), (5, 5), (3, 5)], ids=str)
def test_the_search_finds_a_place_in_the_last_row_and_column(corner, settings):
    x = 0.6 + 0.4 * pictures(4)
    found = ROA(NINE, **settings)(Window(*corner), x, torch.zeros(4, dtype=torch.long), keep="last")
    assert [box[:2] for box in boxes((found != x).any(1))] == [corner] * 4


@pytest.mark.parametrize("search", ["gradient", "exhaustive", "random"])
def test_on_a_linear_model_the_rectangle_becomes_the_sign_of_the_weights(search):
    model, x = linear(2, seed=3), pictures(5)
    y = model(x).argmax(1)
    slope = (model[1].weight[1] - model[1].weight[0]).detach() * torch.where(y == 0, 1.0, -1.0)[:, None]
    found = ROA(NINE, steps=60, search=search, candidates=25, loss=Margin())(model, x, y, keep="last")
    changed = (found != x).any(1, keepdim=True)
    for top, left, height, width in boxes(changed[:, 0]):
        assert height <= 3
        assert width <= 3
        assert (top + height, left + width) <= (8, 8)
    ends = (slope.reshape(x.shape) > 0).to(x)
    assert torch.equal(found, torch.where(changed, ends, x))


def test_the_exhaustive_search_takes_the_worst_grey_rectangle():
    model, x = conv_net().requires_grad_(False), pictures(5)
    y = model(x).argmax(1)
    attack = ROA(NINE, search="exhaustive", steps=37, step_size=1e-9)
    found = attack(model, x, y, keep="last")
    for i, box in enumerate(boxes((found != x).any(1))):
        losses = {}
        for top in range(6):
            for left in range(6):
                tried = x[i : i + 1].clone()
                tried[:, :, top : top + 3, left : left + 3] = 0.5
                losses[top, left] = float(nn.functional.cross_entropy(model(tried), y[i : i + 1]))
        assert box[:2] == max(losses, key=lambda at: losses[at])


@pytest.mark.parametrize(("aspect", "sides"), [(1, (4, 4)), (4, (2, 8)), (0.25, (8, 2)), (2, (3, 5))])
def test_the_sides_come_from_the_area_and_the_aspect(aspect, sides):
    x = 0.1 + 0.3 * pictures(3)
    found = ROA(Area(16 / 64), aspect=aspect, search="random")(conv_net(), x, torch.arange(3), keep="last")
    assert {box[2:] for box in boxes((found != x).any(1))} == {sides}


def test_controls_cover_the_same_area_at_random_places():
    x = 0.1 + 0.3 * pictures(20)
    controls = dict(ROA(NINE).controls())
    assert list(controls) == ["random", "grey"]
    for control in controls.values():
        found = control(conv_net(), x, torch.zeros(20, dtype=torch.long), keep="last")
        places = boxes((found != x).any(1))
        assert {box[2:] for box in places} == {(3, 3)}
        assert len(set(places)) > 10
    assert bool((found[(found != x)] == 0.5).all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ROA(Linf(0.1)), "ROA works in Area, where eps is a share of the picture, not in Linf 0.1."),
        (lambda: ROA(steps=1), "ROA: steps is 1; give 2 or more."),
        (lambda: ROA(candidates=0), "ROA: candidates is 0; give 1 or more."),
        (lambda: ROA(aspect=0), "ROA: aspect is 0; give a number above 0."),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_a_sentence(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value) == message


def test_what_cannot_be_covered_is_refused_by_a_sentence():
    y = torch.zeros(2, dtype=torch.long)
    with pytest.raises(InputError, match="the area is less than one pixel of a picture of 8x8; give a larger eps"):
        ROA(Area(0.01))(conv_net(), pictures(2), y)
    with pytest.raises(
        InputError, match="tries 36 places of a picture of 8x8, one a step, and steps is 20; give 66 steps"
    ):
        ROA(NINE, search="exhaustive", steps=20)(conv_net(), pictures(2), y)
    with pytest.raises(InputError, match=r"covers a part of pictures \(N, C, H, W\); these are \(2, 7\)"):
        ROA(NINE)(linear(3, (7,)), pictures(2, (7,)), y)
