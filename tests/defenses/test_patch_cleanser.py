"""Masks that cover every place of a patch, and answers that no patch changes where they are certified."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from helpers import Spy, pictures, seeded, trained
from torch import Tensor, nn

from advkit.backbones.classifier import Classifier
from advkit.core.defense import Certificate
from advkit.core.rng import Rng, identify
from advkit.defenses._masks import fill_of, mask_places, mask_size, square_masks, square_side
from advkit.defenses.patch_cleanser import PatchCleanser
from advkit.engine.defend import build_certifier
from advkit.errors import DataError, InputError


def certify(certifier: PatchCleanser, model: nn.Module, x: Tensor, batch_size: int = 128) -> Certificate:
    return certifier.certify(model, x, Rng.of(0, identify(x)), batch_size)


def predict(certifier: PatchCleanser, model: nn.Module, x: Tensor) -> Tensor:
    return certifier.predict(model, x, Rng.of(0, identify(x)), 512)


# ---- masks


@pytest.mark.parametrize(
    ("size", "patch", "k", "mask", "stride", "count"),
    [
        (32, 3, 6, 7, 5, 36),
        (32, 5, 6, 9, 5, 36),
        (224, 32, 6, 64, 33, 36),
        (224, 32, 3, 96, 65, 9),
        (32, 5, 3, 14, 10, 9),
    ],
)
def test_mask_sets_are_those_of_the_paper_and_cover_every_place(
    size: int, patch: int, k: int, mask: int, stride: int, count: int
) -> None:
    assert mask_size(size, patch, k) == (mask, stride)
    masks = square_masks(size, size, patch, k)
    assert len(masks) == count
    assert masks.flatten(1).sum(1).tolist() == [mask**2] * count
    # A mask covers the patch where the least of it over the patch's square is true.
    covered = -F.max_pool2d(-masks[:, None].float(), patch, 1)
    assert covered.shape[-1] == size - patch + 1
    assert bool((covered.amax(0) == 1).all())


@pytest.mark.parametrize("size", [8, 13, 32])
@pytest.mark.parametrize("k", [1, 2, 5, 6, 40])
def test_every_place_along_an_axis_is_covered_whatever_the_numbers(size: int, k: int) -> None:
    for patch in range(1, size + 1):
        mask = mask_size(size, patch, k)[0]
        for at in range(size - patch + 1):
            assert any(begin <= at and at + patch <= begin + mask for begin in mask_places(size, patch, k))


def test_pictures_that_are_no_squares_are_covered_too() -> None:
    masks = square_masks(12, 7, 3, 3)
    assert bool((-F.max_pool2d(-masks[:, None].float(), 3, 1)).amax(0).eq(1).all())


@pytest.mark.parametrize(
    ("patch", "size", "side"),
    [("2%", 224, 32), ("2.4%", 32, 5), ("5", 32, 5), (7, 32, 7), ("100%", 9, 9), ("0.1%", 9, 1)],
)
def test_a_patch_is_pixels_or_a_share_of_the_picture(patch: str | int, size: int, side: int) -> None:
    assert square_side(patch, size, size) == side


# ---- the fill


def test_the_fill_is_the_models_mean_or_a_grey_level_and_never_the_pictures() -> None:
    x = pictures(2)
    model = Classifier(nn.Flatten(), name="net", mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert fill_of("mean", nn.Sequential(model), x).flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert fill_of("mean", nn.Flatten(), x).flatten().tolist() == [0.5]
    assert fill_of("0.25", model, x).flatten().tolist() == [0.25]
    assert "fill='mean'" in repr(PatchCleanser())


# ---- certificates


class Corner(nn.Module):
    """Class 1 where any of the pixels given is bright."""

    def __init__(self, *pixels: tuple[int, int]) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        bright = torch.stack([x[:, 0, i, j] for i, j in self.pixels]).amax(0)
        return torch.stack([torch.full_like(bright, 0.7), bright], 1)


def test_one_pixel_that_decides_is_no_certificate_and_four_far_apart_are() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 0, 0] = x[0, 0, 0, 15] = x[0, 0, 15, 0] = x[0, 0, 15, 15] = 1
    certifier = PatchCleanser(3, k=4)
    one = certify(certifier, Corner((0, 0)), x)
    four = certify(certifier, Corner((0, 0), (0, 15), (15, 0), (15, 15)), x)
    assert (one.radius.tolist(), four.radius.tolist()) == ([0.0], [3.0])
    assert four.prediction.tolist() == [1]


def test_the_second_round_brings_back_the_answer_under_a_patch() -> None:
    x = torch.zeros(1, 1, 16, 16)
    certifier, model = PatchCleanser(3, k=4), Corner(*((i, j) for i in range(16) for j in range(16)))
    assert certify(certifier, model, x).radius.tolist() == [3.0]
    attacked = x.clone()
    attacked[0, 0, 6:9, 4:7] = 1
    assert model(attacked).argmax(1).tolist() == [1]
    assert predict(certifier, model, attacked).tolist() == [0]


def patched(x: Tensor, patch: Tensor, top: int, left: int) -> Tensor:
    side = patch.shape[-1]
    attacked = x.clone()
    attacked[..., top : top + side, left : left + side] = patch
    return attacked


def optimised(model: nn.Module, x: Tensor, y: Tensor, side: int, top: int, left: int) -> Tensor:
    """A patch at this place that raises the loss, by signs of the gradient."""
    place = (..., slice(top, top + side), slice(left, left + side))
    attacked = x
    for step in range(15):
        points = attacked.clone().requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(points), y, reduction="sum"), points)
        attacked = attacked.clone()
        attacked[place] = (attacked[place] + (1.0 if step == 0 else 0.3) * grad[place].sign()).clamp(0, 1)
    return attacked


@pytest.mark.parametrize(("patch", "k"), [(1, 4), (2, 3), (3, 2)])
def test_no_patch_changes_a_certified_answer(patch: int, k: int) -> None:
    model, x, _ = trained()
    certifier = PatchCleanser(patch, k)
    found = certify(certifier, model, x)
    assert torch.equal(found.prediction, predict(certifier, model, x))
    certified = found.radius > 0
    assert int(certified.sum()) >= 8
    sure, answer = x[certified], found.prediction[certified]
    tried = fooled = 0
    for top in range(9 - patch):
        for left in range(9 - patch):
            noise = pictures(len(sure), (3, patch, patch), seed=10 * top + left)
            for attacked in (
                patched(sure, noise, top, left),
                patched(sure, noise.round(), top, left),
                optimised(model, sure, answer, patch, top, left),
            ):
                assert int((attacked != sure).any(1).flatten(1).sum(1).max()) <= patch**2
                tried += len(sure)
                fooled += int((model(attacked).argmax(1) != answer).sum())
                assert torch.equal(predict(certifier, model, attacked), answer)
    assert tried >= 3 * 36 * 8
    if patch > 1:
        assert fooled > 0, "patches that turn nobody show nothing"


def test_the_same_certificate_alone_and_in_any_batch_with_few_rows_at_once() -> None:
    model, x, _ = trained()
    certifier = PatchCleanser(2, 3)
    together = certify(certifier, model, x)
    assert 0 < int((together.radius > 0).sum()) < len(x), "both kinds must be there"
    spy = Spy(model)
    again = certify(certifier, spy, x, 7)
    assert spy.largest == 7
    assert spy.forwards == int(again.forwards.sum())
    assert all(torch.equal(a, b) for a, b in zip(again, together, strict=True))
    for i in range(4):
        assert all(
            torch.equal(a, b[i : i + 1]) for a, b in zip(certify(certifier, model, x[i : i + 1]), together, strict=True)
        )


def test_an_example_is_left_as_soon_as_two_masks_disagree() -> None:
    model, x, _ = trained()
    found = certify(PatchCleanser(3, 3), model, x)
    assert bool((found.forwards[found.radius > 0] == 9 + 36).all())
    assert int(found.forwards[found.radius == 0].min()) < 9 + 36


def test_a_patch_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(DataError, match=r"9 pixels does not fit pictures of 8 x 8"):
        certify(PatchCleanser(9), seeded(nn.Sequential(nn.Flatten(), nn.Linear(192, 2))), pictures(1))


def test_it_is_found_by_name() -> None:
    assert build_certifier("patch-cleanser:2%,k=3") == PatchCleanser("2%", 3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("patch=0", "patch-cleanser: patch is '0'; give its side in pixels, such as 5, or its area, such as 2%."),
        ("patch=2.5", "patch-cleanser: patch is '2.5'; give its side in pixels, such as 5, or its area, such as 2%."),
        ("patch=big", "patch-cleanser: patch is 'big'; give its side in pixels, such as 5, or its area, such as 2%."),
        ("k=0", "patch-cleanser: k is 0; give 1 mask or more along a side."),
        ("fill=2", "patch-cleanser: fill is '2'; give a grey level from 0 to 1, or mean."),
    ],
)
def test_settings_out_of_range_are_refused(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_certifier(f"patch-cleanser:{text}")
    assert str(caught.value) == sentence
