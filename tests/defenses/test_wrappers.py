"""The contract of what stands in front of a model, held against every registered wrapper and some that are not."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filters import photos
from helpers import conv_net, pictures
from PIL import Image
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, RandomWrapper, Wrapper
from advkit.data.signs import Signs
from advkit.defenses._smooth_jpeg import quantisation
from advkit.defenses.bilateral import Bilateral
from advkit.defenses.bits import Bits
from advkit.defenses.gaussian_blur import GaussianBlur
from advkit.defenses.jpeg import Jpeg
from advkit.defenses.lgs import LocalGradientsSmoothing
from advkit.defenses.low_pass import LowPass
from advkit.defenses.mean import Mean
from advkit.defenses.median import Median
from advkit.defenses.nlm import NonLocalMeans
from advkit.defenses.tv import TotalVariation
from advkit.defenses.webp import WebP
from advkit.engine.defend import build_defense, defend
from advkit.errors import InputError


@dataclass(frozen=True)
class Blur(Wrapper):
    """A smooth one with its own gradient: the mean of 3 x 3 pixels, then a power."""

    power: int = 2

    backward: ClassVar[Backward] = "exact"

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1) ** self.power


# What needs weights is tested beside them: tests/defenses/test_learned_denoisers.py.
ENTRIES = [e for e in DEFENSES.entries() if issubclass(e.factory, Wrapper) and "weights" not in e.settings]
FIXED = [
    # Its window of 15 pixels does not fit into the smallest pictures here.
    LocalGradientsSmoothing(7, 2) if entry.name == "lgs" else entry.create()
    for entry in ENTRIES
    if not issubclass(entry.factory, RandomWrapper)
]
VARIANTS = [
    Bits(1),
    Bits(3, "floor"),
    Jpeg(5),
    Jpeg(gradient="surrogate"),
    WebP(gradient="surrogate"),
    WebP(5),
    Blur(),
    Mean(5),
    GaussianBlur(0.5, 3),
    Median(3),
    Median(4, "straight-through"),
    Bilateral(3, 0.3, 1.0),
    NonLocalMeans(0.1, 3, 5),
    TotalVariation(0.03, 3),
    LowPass(0.25),
]
EVERY = pytest.mark.parametrize("wrapper", [*FIXED, *VARIANTS], ids=repr)
EXACT = [wrapper for wrapper in (*FIXED, *VARIANTS) if wrapper.backward == "exact"]
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_the_registry_has_wrappers() -> None:
    assert {type(wrapper) for wrapper in FIXED} >= {type(wrapper) for wrapper in VARIANTS} - {Blur}


@EVERY
@DTYPES
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 17), (1, 16, 16)], ids=str)
def test_pictures_stay_pictures_of_their_shape_and_type_and_are_changed(
    wrapper: Wrapper, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x = photos(4, shape, dtype=dtype)
    kept = x.clone()
    cleaned = wrapper(x)
    assert (cleaned.shape, cleaned.dtype, cleaned.device) == (x.shape, x.dtype, x.device)
    assert bool(((cleaned >= 0) & (cleaned <= 1)).all())
    assert not torch.equal(cleaned, x), "a wrapper that does nothing"
    assert torch.equal(x, kept), "the caller's pictures are written to"


@pytest.mark.parametrize("wrapper", [w for w in (*FIXED, *VARIANTS) if w != Bits(3, "floor")], ids=repr)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_stays_dark_and_white_stays_bright(wrapper: Wrapper, value: float) -> None:
    x = torch.full((2, 3, 16, 16), value)
    torch.testing.assert_close(wrapper(x), x, rtol=0, atol=0.05)


@EVERY
@DTYPES
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 17), (1, 17, 16)], ids=str)
def test_each_picture_is_cleaned_by_itself(wrapper: Wrapper, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = photos(6, shape, dtype=dtype, margin=0)
    x[5] = x[5] * 3 % 1  # of another contrast than the others
    together = wrapper(x)
    assert torch.equal(torch.cat([wrapper(x[i : i + 1]) for i in range(6)]), together)
    assert torch.equal(torch.cat([wrapper(x[:2]), wrapper(x[2:])]), together)
    assert torch.equal(wrapper(x.flip(0)).flip(0), together)
    assert torch.equal(wrapper(x), together), "the same again"


@EVERY
@DTYPES
def test_the_answer_is_the_models_on_the_cleaned_picture_to_the_bit(wrapper: Wrapper, dtype: torch.dtype) -> None:
    model, x = conv_net(dtype=dtype), photos(5, dtype=dtype)
    defended = defend(model, [wrapper])
    expected = model(wrapper(x))
    assert torch.equal(defended(x), expected)
    assert torch.equal(defended(x.clone().requires_grad_()), expected)
    assert not torch.equal(model(x), expected)


@EVERY
def test_the_gradient_is_the_declared_one(wrapper: Wrapper) -> None:
    model, x, direction = conv_net(), photos(5), pictures(5, (5,), seed=1)
    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((defend(model, [wrapper])(points) * direction).sum(), points)
    assert float(found.abs().sum()) > 0
    if wrapper.backward == "exact":
        for seed in range(3):
            way = pictures(5, seed=seed + 2) - 0.5
            ahead, behind = ((model(wrapper(x + h * way)) * direction).flatten(1).sum(1) for h in (1e-6, -1e-6))
            torch.testing.assert_close((found * way).flatten(1).sum(1), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)
        return
    cleaned = wrapper(x).requires_grad_()
    (behind_it,) = torch.autograd.grad((model(cleaned) * direction).sum(), cleaned)
    if wrapper.backward == "surrogate":
        (behind_it,) = torch.autograd.grad((wrapper.surrogate(points) * behind_it).sum(), points)
    assert torch.equal(found, behind_it)


@pytest.mark.parametrize("wrapper", EXACT, ids=repr)
def test_an_exact_gradient_is_finite_where_pictures_are_flat(wrapper: Wrapper) -> None:
    x = torch.full((2, 3, 16, 16), 0.5)
    x[1, :, :8] = 1
    points = x.requires_grad_()
    (grad,) = torch.autograd.grad(wrapper(points).sum(), points)
    assert bool(grad.isfinite().all())
    assert float(grad.abs().sum()) > 0


@EVERY
def test_a_wrapper_is_a_value_that_shows_its_settings(wrapper: Wrapper) -> None:
    names = [field.name for field in dataclasses.fields(wrapper)]  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(wrapper, names[0], 1)
    again = dataclasses.replace(wrapper)  # type: ignore[type-var]
    assert again == wrapper
    assert hash(again) == hash(wrapper)
    assert repr(wrapper) == f"{type(wrapper).__name__}({', '.join(f'{n}={getattr(wrapper, n)!r}' for n in names)})"


@pytest.mark.parametrize("depth", range(1, 9))
def test_bits_leaves_the_nearest_of_the_levels(depth: int) -> None:
    x = pictures(3)
    levels = torch.linspace(0, 1, 2**depth, dtype=x.dtype)
    nearest = levels[(x[..., None] - levels).abs().argmin(-1)]
    torch.testing.assert_close(Bits(depth)(x), nearest, rtol=0, atol=1e-12)


def test_eight_bits_leave_pictures_of_eight_bits_alone() -> None:
    x = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16) / 255
    torch.testing.assert_close(Bits(8)(x), x, rtol=0, atol=1e-7)


@pytest.mark.parametrize("depth", [1, 3, 7])
def test_bits_by_floor_drop_the_last_bits_of_the_byte(depth: int) -> None:
    levels = np.arange(256, dtype=np.uint8)
    x = torch.from_numpy(levels).double().reshape(1, 1, 16, 16) / 255
    dropped = torch.from_numpy(levels >> (8 - depth) << (8 - depth)).double().reshape(x.shape) / 255
    torch.testing.assert_close(Bits(depth, "floor")(x), dropped, rtol=0, atol=1e-12)
    assert float(Bits(depth, "floor")(x).mean()) < float(Bits(depth)(x).mean()), "it darkens, and Xu's does not"


@pytest.mark.parametrize("quality", [25, 50, 75, 90])
@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 32, 32), (3, 28, 21), (1, 28, 28)], ids=str)
def test_the_surrogate_of_jpeg_is_near_the_real_one(quality: int, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    x = Signs(count=4).pictures(range(4)).double()[:, :channels, :height, :width]
    wrapper = Jpeg(quality, "surrogate")
    apart = (wrapper(x) - wrapper.surrogate(x)).square().flatten(1).mean(1)
    assert float((-10 * apart.log10()).min()) >= 35


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 100])
def test_the_steps_of_the_surrogate_are_those_that_pillow_writes(quality: int) -> None:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization  # type: ignore[attr-defined]
    for channel in (0, 1):
        assert torch.equal(quantisation(quality, channel).flatten(), torch.tensor(tables[channel]))


@pytest.mark.parametrize("quality", [20, 75, 95])
def test_jpeg_is_what_another_encoder_makes_of_it(quality: int) -> None:
    smooth = F.interpolate(pictures(2, (3, 4, 4), dtype=torch.float32), (32, 32), mode="bicubic").clamp(0, 1)
    for picture, ours in zip(smooth, Jpeg(quality)(smooth), strict=True):
        file = BytesIO()
        levels = (picture * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(file, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(file), dtype=np.float32).transpose(2, 0, 1) / 255
        assert float(np.abs(ours.numpy() - theirs).max()) <= 3 / 255


def test_less_quality_changes_more() -> None:
    x = F.interpolate(pictures(4, (3, 8, 8)), (32, 32), mode="bilinear")
    changed = [float((Jpeg(quality)(x) - x).norm()) for quality in (95, 50, 5)]
    assert changed == sorted(changed)
    assert changed[0] < 0.7 * changed[-1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("bits:0", "bits: depth is 0; give a number of bits from 1 to 8."),
        ("bits:9", "bits: depth is 9; give a number of bits from 1 to 8."),
        ("jpeg:0", "jpeg: quality is 0; give a number from 1 to 100."),
        ("jpeg:quality=101", "jpeg: quality is 101; give a number from 1 to 100."),
        ("webp:101", "webp: quality is 101; give a number from 0 to 100."),
        ("mean:4", "mean: size is 4; give an odd number of pixels, 3 or more."),
        ("gaussian-blur:sigma=0", "gaussian-blur: sigma is 0.0; give a number of pixels above 0."),
        ("median:1", "median: size is 1; give a number of pixels, 2 or more."),
        ("bilateral:sigma_color=-1", "bilateral: sigma_color is -1.0; give a number above 0."),
        ("nlm:0", "nlm: h is 0.0; give a number above 0, such as 4/255."),
        ("nlm:search=12", "nlm: search is 12; give an odd number of pixels, 3 or more."),
        ("tv:0", "tv: weight is 0.0; give a number above 0."),
        ("tv:steps=0", "tv: steps is 0; give 1 or more."),
        ("low-pass:0", "low-pass: radius is 0.0; give a number above 0, up to 1.5."),
        ("lgs:overlap=15", "lgs: overlap is 15; give a number of pixels from 0 to 14."),
        ("lgs:threshold=2", "lgs: threshold is 2.0; give a number above 0, up to 1."),
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_defense(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("wrapper", "sentence"),
    [
        (Mean(9), "mean: size is 9 and pictures have 8 x 10 pixels; give 8 or fewer."),
        (GaussianBlur(size=9), "gaussian-blur: size is 9 and pictures have 8 x 10 pixels; give 8 or fewer."),
        (Median(9), "median: size is 9 and pictures have 8 x 10 pixels; give 8 or fewer."),
        (Bilateral(11), "bilateral: size is 11 and pictures have 8 x 10 pixels; give 8 or fewer."),
        (
            NonLocalMeans(search=15),
            "nlm: search 15 and patch 3 reach 8 pixels beyond a border; of 8 x 10 pixels give 7 or fewer.",
        ),
        (LocalGradientsSmoothing(), "lgs: window is 15 and pictures have 8 x 10 pixels; give 8 or fewer."),
    ],
    ids=repr,
)
def test_a_window_larger_than_the_picture_is_refused_by_a_sentence(wrapper: Wrapper, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        wrapper(pictures(1, (3, 8, 10)))
    assert str(caught.value) == sentence
