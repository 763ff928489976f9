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
from helpers import conv_net, pictures
from PIL import Image
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Backward, Wrapper
from advkit.defenses.bits import Bits
from advkit.defenses.jpeg import Jpeg
from advkit.engine.defend import build_defense, defend
from advkit.errors import InputError


@dataclass(frozen=True)
class Blur(Wrapper):
    """A smooth one with its own gradient: the mean of 3 x 3 pixels, then a power."""

    power: float = 1.5

    backward: ClassVar[Backward] = "exact"

    def __call__(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1) ** self.power


WRAPPERS = [entry.create() for entry in DEFENSES.entries() if issubclass(entry.factory, Wrapper)]
EVERY = pytest.mark.parametrize("wrapper", [*WRAPPERS, Bits(1), Jpeg(5), Blur()], ids=repr)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def test_the_registry_has_wrappers() -> None:
    assert {type(wrapper) for wrapper in WRAPPERS} >= {Bits, Jpeg}


@EVERY
@DTYPES
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 17), (1, 16, 16)], ids=str)
def test_pictures_stay_pictures_of_their_shape_and_type_and_are_changed(
    wrapper: Wrapper, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x = pictures(4, shape, dtype=dtype)
    kept = x.clone()
    cleaned = wrapper(x)
    assert (cleaned.shape, cleaned.dtype, cleaned.device) == (x.shape, x.dtype, x.device)
    assert bool(((cleaned >= 0) & (cleaned <= 1)).all())
    assert not torch.equal(cleaned, x), "a wrapper that does nothing"
    assert torch.equal(x, kept), "the caller's pictures are written to"


@EVERY
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_black_stays_dark_and_white_stays_bright(wrapper: Wrapper, value: float) -> None:
    x = torch.full((2, 3, 16, 16), value)
    torch.testing.assert_close(wrapper(x), x, rtol=0, atol=0.05)


@EVERY
def test_each_picture_is_cleaned_by_itself(wrapper: Wrapper) -> None:
    x = pictures(6, dtype=torch.float32)
    together = wrapper(x)
    assert torch.equal(torch.cat([wrapper(x[i : i + 1]) for i in range(6)]), together)
    assert torch.equal(wrapper(x.flip(0)).flip(0), together)
    assert torch.equal(wrapper(x), together), "the same again"


@EVERY
@DTYPES
def test_the_answer_is_the_models_on_the_cleaned_picture_to_the_bit(wrapper: Wrapper, dtype: torch.dtype) -> None:
    model, x = conv_net(dtype=dtype), pictures(5, dtype=dtype)
    defended = defend(model, [wrapper])
    expected = model(wrapper(x))
    assert torch.equal(defended(x), expected)
    assert torch.equal(defended(x.clone().requires_grad_()), expected)
    assert not torch.equal(model(x), expected)


@EVERY
def test_the_gradient_is_the_declared_one(wrapper: Wrapper) -> None:
    model, x, direction = conv_net(), pictures(5, margin=0.05), pictures(5, (5,), seed=1)
    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((defend(model, [wrapper])(points) * direction).sum(), points)
    if wrapper.backward == "straight-through":
        cleaned = wrapper(x).requires_grad_()
        (expected,) = torch.autograd.grad((model(cleaned) * direction).sum(), cleaned)
        assert torch.equal(found, expected)
    else:
        for seed in range(3):
            way = pictures(5, seed=seed + 2) - 0.5
            ahead, behind = ((model(wrapper(x + h * way)) * direction).flatten(1).sum(1) for h in (1e-6, -1e-6))
            torch.testing.assert_close((found * way).flatten(1).sum(1), (ahead - behind) / 2e-6, rtol=1e-5, atol=1e-7)
    assert float(found.abs().sum()) > 0


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
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_defense(text)
    assert str(caught.value) == sentence
