"""Physical attacks beside other people's code: torchattacks' one pixel, and the CIELAB of kornia and of scikit-image."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import kornia.color
import numpy as np
import pytest
import torch
from helpers import pictures, trained
from scipy import ndimage
from torch import Tensor

from advkit.attacks import Pixel, Shadow
from advkit.attacks._search import Evolution, Search
from advkit.core import L0, Shade
from advkit.core.regions import lightness
from advkit.results.statistics import Share, share

GENERATIONS = 10
POPULATION = {1: 50, 3: 45, 5: 50}  # for so many pixels; torchattacks takes multiples of the 5 parameters of each


@dataclass(frozen=True)
class Greedy(Pixel):
    """With the strategy of torchattacks: from the best, F drawn from 0.5 to 1."""

    @property
    def search(self) -> Search:
        return Evolution("best1bin", (0.5, 1.0), 1.0)


def successes(make: type[Pixel], count: int) -> Share:
    model, x, y = trained()
    population = POPULATION[count]
    found = make(L0(count), queries=population * (1 + GENERATIONS), population=population)(model, x, y, keep="first")
    assert int((found != x).any(1).flatten(1).sum(1).max()) <= count
    with torch.no_grad():
        return share(int((model(found).argmax(1) != y).sum()), len(y))


@pytest.mark.parity
@pytest.mark.parametrize("count", [3, 5])
def test_few_pixels_succeed_as_often_as_those_of_torchattacks(count, monkeypatch):
    peers = pytest.importorskip("torchattacks").attacks.onepixel
    monkeypatch.setattr(peers, "differential_evolution", functools.partial(peers.differential_evolution, seed=0))
    model, x, y = trained()
    found = peers.OnePixel(model, pixels=count, steps=GENERATIONS, popsize=POPULATION[count])(x, y)
    with torch.no_grad():
        theirs = share(int((model(found).argmax(1) != y).sum()), len(y))
    same = successes(Greedy, count)
    assert theirs.low <= same.value <= theirs.high, (theirs, same)
    assert same.low <= theirs.value <= same.high, (theirs, same)
    paper = successes(Pixel, count)  # which is slower, as it moves from any vector and not from the best
    assert theirs.low <= paper.high, (theirs, paper)
    assert paper.low <= theirs.high, (theirs, paper)


def test_more_pixels_succeed_more_often():
    """As published for 1, 3 and 5 pixels."""
    one, three, five = (successes(Pixel, count).value for count in (1, 3, 5))
    assert one < three < five


def skimage_lab(x: Tensor) -> Tensor:
    color = pytest.importorskip("skimage.color")
    return torch.from_numpy(color.rgb2lab(x.movedim(1, 3).double().numpy())).movedim(3, 1)


LABS = {"kornia": lambda x: kornia.color.rgb_to_lab(x.double()), "skimage": skimage_lab}


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_lightness_is_theirs(lab):
    x = pictures(4, (3, 16, 16))
    x[0] *= 0.05  # where the curve is a line
    torch.testing.assert_close(lightness(x), lab(x)[:, :1], rtol=0, atol=0.01)


@pytest.mark.parametrize("k", [0.8, 0.43, 0.3])
@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_in_the_shadow_their_lightness_is_k_times_the_clean_one_and_the_hue_stays(lab, k):
    draw = pytest.importorskip("skimage.draw")
    grey, tint = pictures(3, (1, 32, 32), margin=0.3), pictures(3, (3, 32, 32), seed=1) - 0.5
    x = (grey + 0.1 * tint).float()  # so near grey that the dark colours are in the gamut
    attack = Shadow(Shade(1 - k))
    corners = np.array([[-6.0, 3.0], [40.0, 12.0], [9.0, 37.0]])  # (column, row), outside too
    theta = torch.tensor((corners / 32 + 0.5) / 2, dtype=torch.float32).reshape(1, 1, 6).expand(3, 1, 6)
    shown = attack.renderer.render(theta, x, attack.renderer.canvas(x, attack.threat), attack.threat)[:, 0]
    large = draw.polygon2mask((96, 96), corners[:, ::-1] + 32 - 0.5)  # (row, column) of pixel centres
    inside = torch.from_numpy(ndimage.binary_erosion(large, iterations=2)[32:64, 32:64].copy())
    outside = torch.from_numpy(~ndimage.binary_dilation(large, iterations=2)[32:64, 32:64])
    assert int(inside.sum()) > 200
    assert int(outside.sum()) > 100
    clean, dark = lab(x), lab(shown)
    ratio = (dark[:, 0] / clean[:, 0])[:, inside]
    torch.testing.assert_close(ratio, torch.full_like(ratio, k), rtol=0.005, atol=0)
    torch.testing.assert_close(dark[:, 1:, inside], clean[:, 1:, inside], rtol=0, atol=0.1)
    assert torch.equal(shown[..., outside], x[..., outside])


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_where_a_dark_colour_is_none_of_the_gamut_the_shadow_is_lighter_never_darker(lab):
    x = pictures(2, (3, 32, 32), dtype=torch.float32)
    dark = Shadow().renderer.canvas(x, Shade(0.57))[0]
    before, after = lab(x)[:, 0], lab(dark)[:, 0]
    assert float((after - 0.43 * before).min()) > -0.01
    assert bool((after > 0.44 * before).any())
    assert bool((dark <= x).all())
