"""Blur, and the views of pictures that are photographs already."""

import pytest
import torch

from advkit.core.rng import Rng
from advkit.errors import InputError
from advkit.scene import PICTURE_VIEWS, View, Views, disturb
from advkit.scene.optics import blur, disk, line
from advkit.scene.sensor import compress, enlarge, integrate


def test_a_disk_has_its_radius_and_a_line_its_length_and_direction():
    r = torch.tensor([0.0, 2.0, 5.0])
    off = torch.arange(-5, 6).double()
    second = (disk(r) * off[:, None] ** 2).sum((1, 2))
    assert torch.allclose(second[1:], r[1:].double() ** 2 / 4 + 1 / 12, rtol=0.08)
    assert second[0] == 0
    assert disk(r)[0, 5, 5] == 1
    level, upright = line(torch.tensor([9.0, 9.0]), torch.tensor([0.0, 90.0]))
    assert torch.allclose(level, upright.T)
    assert float(level[level.shape[0] // 2].sum()) == pytest.approx(1.0)
    spread = (level.sum(0) * torch.arange(-4, 5).double() ** 2).sum()
    assert float(spread) == pytest.approx(81 / 12, rel=0.05)


def test_blur_keeps_the_light_and_leaves_sharp_rows_alone():
    light = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    light[:, :, :8], light[:, :, -8:], light[..., :8], light[..., -8:] = 0, 0, 0, 0
    zero = torch.zeros(3)
    out = blur(light, torch.tensor([0.0, 1.5, 0.7]), torch.tensor([0.0, 4.0, 0.0]), zero + 30)
    assert torch.equal(out[0], light[0])
    assert torch.allclose(out.sum((2, 3)), light.sum((2, 3)), rtol=1e-4)
    assert float(out[1].std()) < float(out[2].std()) < float(light[2].std())


def test_coarse_pixels_hold_the_mean_and_are_drawn_large_again():
    light = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    count = torch.tensor([[4, 3], [5, 7]])
    gathered = integrate(light, count)
    assert torch.allclose(gathered[0, :, :3, :4], torch.nn.functional.avg_pool2d(light[0], (4, 3)))
    assert torch.allclose(gathered[1, :, :7, :5].mean((1, 2)), light[1].mean((1, 2)))
    large = enlarge(gathered, count)
    theirs = torch.nn.functional.interpolate(gathered[1:, :, :7, :5], (12, 12), mode="bilinear", align_corners=False)
    assert torch.allclose(large[1:], theirs)


def test_the_codec_is_close_to_pillows():
    import io

    from PIL import Image

    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(0, 1)
    levels = (picture[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "JPEG", quality=75, subsampling=2)
    theirs = torch.frombuffer(bytearray(Image.open(file).convert("RGB").tobytes()), dtype=torch.uint8).reshape(
        64, 64, 3
    )
    ours = compress(picture, torch.tensor([75.0]))
    error = (ours[0].permute(1, 2, 0) - theirs.float() / 255).square().mean()
    assert -10 * float(error.log10()) > 32


def test_a_picture_that_nothing_disturbs_comes_back_exactly():
    x = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))
    assert torch.equal(disturb(x, View.of(distance=[2.0, 50.0])), x)


def test_pictures_are_disturbed_each_by_its_own_view():
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    views = PICTURE_VIEWS.draw(Rng.of(0, torch.arange(5)))
    together = disturb(x, views)
    alone = torch.cat([disturb(x[i : i + 1], views.take(slice(i, i + 1))) for i in range(5)])
    assert torch.allclose(together, alone, atol=2e-6)
    assert bool(((together >= 0) & (together <= 1)).all())
    assert float((together - x).abs().flatten(1).mean(1).min()) > 0.02


def test_a_closer_crop_magnifies_the_middle():
    # in linear light, which is what edges mix in
    x = torch.zeros(1, 3, 32, 32)
    x[..., 12:20, 12:20] = 1
    near, far = (float(disturb(x, View.of(crop_scale=scale)).square().sum()) for scale in (0.5, 2.0))
    assert near == pytest.approx(4 * 192, rel=0.02)
    assert far == pytest.approx(192 / 4, rel=0.02)


def test_gradients_of_a_disturbed_picture_are_right():
    x = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.6 + 0.2
    views = Views(jpeg=(0.0, 0.0), noise=(0.0, 0.001), shot=(0.0, 1e-5), gain=(0.9, 1.1), bias=(0.0, 0.01)).draw(
        Rng.of(1, torch.arange(1))
    )
    weights = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: (disturb(p, views) * weights).sum(), (x.requires_grad_(),), eps=1e-7, atol=1e-5
    )


def test_as_many_views_as_pictures():
    with pytest.raises(InputError, match="disturb"):
        disturb(torch.rand(2, 3, 8, 8), View.of())
