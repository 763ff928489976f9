"""The contract of wrappers that draw: by picture and draw, and by nothing else; and what each draws."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filters import photos
from helpers import conv_net, pictures
from safetensors.torch import save_file
from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import RandomWrapper
from advkit.core.rng import Rng, identify
from advkit.defenses._patch_bank import drawn_bank
from advkit.defenses._variation import differences, length
from advkit.defenses.crop_rescale import CropRescale
from advkit.defenses.pixel_deflection import PixelDeflection
from advkit.defenses.quilting import Quilting
from advkit.defenses.resize_pad import ResizePad
from advkit.defenses.tv_dropout import TotalVariationDropout
from advkit.engine.defend import Defended, build_defense
from advkit.errors import DataError, InputError

ENTRIES = [e for e in DEFENSES.entries() if issubclass(e.factory, RandomWrapper) and "weights" not in e.settings]


def small(wrapper: RandomWrapper) -> RandomWrapper:
    """With a small bank, which is quick to draw."""
    return dataclasses.replace(wrapper, size=500) if isinstance(wrapper, Quilting) else wrapper


RANDOM = [small(entry.create()) for entry in ENTRIES]
EVERY = pytest.mark.parametrize("wrapper", RANDOM, ids=repr)
EXACT = pytest.mark.parametrize("wrapper", [w for w in RANDOM if w.backward == "exact"], ids=repr)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def streams(x: Tensor, draw: int = 0) -> Rng:
    return Rng.of(0, identify(x)).fold(draw)


def test_the_registry_has_random_wrappers() -> None:
    known = {CropRescale, PixelDeflection, Quilting, ResizePad, TotalVariationDropout}
    assert {type(wrapper) for wrapper in RANDOM} >= known


@EVERY
@DTYPES
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 17), (1, 16, 16)], ids=str)
def test_a_draw_is_a_picture_of_the_same_shape_whatever_else_is_in_the_batch(
    wrapper: RandomWrapper, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    x = photos(6, shape, dtype=dtype, margin=0)
    kept, rng = x.clone(), streams(x)
    together = wrapper.drawn(x, rng)
    assert (together.shape, together.dtype, together.device) == (x.shape, x.dtype, x.device)
    assert bool(((together >= 0) & (together <= 1)).all())
    assert torch.equal(x, kept), "the caller's pictures are written to"
    alone = [wrapper.drawn(x[i : i + 1], rng.take(slice(i, i + 1))) for i in range(6)]
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(wrapper.drawn(x.flip(0), rng.take(torch.arange(5, -1, -1))).flip(0), together)
    assert torch.equal(wrapper(x), torch.cat([wrapper(x[:2]), wrapper(x[2:])]))


@EVERY
def test_draws_differ_between_streams_and_are_the_same_again(wrapper: RandomWrapper) -> None:
    x = photos(1, (3, 24, 24)).expand(5, -1, -1, -1)
    keyed = Rng.of(0, torch.arange(5))
    draws = wrapper.drawn(x, keyed)
    assert torch.equal(wrapper.drawn(x, keyed), draws)
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) >= 4, "pictures are drawn alike"
    assert not torch.equal(wrapper.drawn(x, keyed.fold(1)), draws), "draws are alike"


@EVERY
def test_torchs_generator_is_neither_read_nor_written(wrapper: RandomWrapper) -> None:
    x = photos(2, (3, 16, 16))
    before = torch.get_rng_state()
    first = wrapper(x)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        assert torch.equal(wrapper(x), first)


@EXACT
def test_the_gradient_under_a_draw_is_that_of_finite_differences(wrapper: RandomWrapper) -> None:
    x, direction = photos(3, (3, 16, 16)), pictures(3, (3, 16, 16), seed=1) - 0.5
    rng = streams(x)
    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((wrapper.drawn(points, rng) * direction).sum(), points)
    assert float(found.abs().sum()) > 0
    for seed in range(3):
        way = pictures(3, (3, 16, 16), seed=seed + 2) - 0.5
        ahead, behind = ((wrapper.drawn(x + h * way, rng) * direction).flatten(1).sum(1) for h in (1e-6, -1e-6))
        torch.testing.assert_close((found * way).flatten(1).sum(1), (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-6)


@EVERY
def test_the_answer_is_the_mean_of_the_probabilities_over_the_draws(wrapper: RandomWrapper) -> None:
    model, x = conv_net(), photos(4)
    few = dataclasses.replace(wrapper, draws=3)
    rng = Rng.of(0, identify(x)).fold("verdict")
    each = [model(few.drawn(x, rng.fold(draw).fold(0))).softmax(1) for draw in range(3)]
    torch.testing.assert_close(Defended(model, [few])(x).softmax(1), torch.stack(each).mean(0))


@EVERY
def test_a_random_wrapper_draws_at_least_once(wrapper: RandomWrapper) -> None:
    name = DEFENSES.name_of(wrapper)
    for text, sentence in (
        (f"{name}:draws=0", f"{name}: draws is 0; give 1 or more."),
        (f"{name}:eot=-1", f"{name}: eot is -1; give 1 or more, or 0 for as many as draws."),
    ):
        with pytest.raises(InputError) as caught:
            build_defense(text)
        assert str(caught.value) == sentence


def test_resize_pad_shows_the_whole_picture_at_every_size_and_place_alike() -> None:
    x = torch.ones(4000, 1, 10, 20)
    wrapper = ResizePad(smallest=0.8, fill=0.25)
    shown = wrapper.drawn(x, Rng.of(0, torch.arange(len(x))))
    assert set(shown.unique().tolist()) == {0.25, 1.0}
    inside = shown[:, 0] == 1
    wide, high = inside.any(1).sum(1), inside.any(2).sum(1)
    assert torch.equal(inside.flatten(1).sum(1), wide * high), "a rectangle"
    assert torch.equal(high, (wide / 2 + 0.5).floor().long()), "of the picture's proportions"
    counts = torch.bincount(wide, minlength=21)[16:]
    assert float((counts / len(x) - 1 / 5).abs().max()) < 0.03
    left = inside.any(1).to(torch.int64).argmax(1)[wide == 16]
    assert float((torch.bincount(left, minlength=5) / len(left) - 1 / 5).abs().max()) < 0.06


def test_resize_pad_takes_the_nearest_pixels() -> None:
    x = pictures(20, (3, 12, 12))
    shown = ResizePad(smallest=0.5).drawn(x, streams(x))
    for picture, seen in zip(x, shown, strict=True):
        inside = (seen != 0.5).all(0)
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        side = len(rows)
        expected = torch.nn.functional.interpolate(picture[None], (side, side), mode="nearest")[0]
        assert torch.equal(seen[:, rows[:, None], columns], expected)


def test_crop_rescale_of_a_ramp_is_a_part_of_it() -> None:
    ramp = torch.arange(16, dtype=torch.float64) / 15
    x = ramp.expand(2000, 1, 16, 16)
    seen = CropRescale(crop=0.5).drawn(x, Rng.of(0, torch.arange(len(x))))
    start = (seen[:, 0, 0, 0] * 15).round().long()
    torch.testing.assert_close(seen[:, 0, 0, -1], (start + 7).double() / 15)
    assert float((torch.bincount(start, minlength=9) / len(x) - 1 / 9).abs().max()) < 0.03
    torch.testing.assert_close(seen, seen[:, :, :1].expand_as(seen))


def test_crop_rescale_of_everything_changes_nothing() -> None:
    x = photos(2, (3, 9, 12))
    torch.testing.assert_close(CropRescale(crop=1.0)(x), x)


def test_pixel_deflection_moves_so_many_pixels_and_none_of_them_far() -> None:
    x = (torch.arange(24 * 24, dtype=torch.float64) / 575).reshape(1, 1, 24, 24).expand(200, 3, -1, -1)
    wrapper = PixelDeflection(share=0.1, window=3, sigma=0)
    deflected = wrapper.drawn(x, Rng.of(0, torch.arange(200)))
    assert torch.equal(deflected[:, :1].expand_as(deflected), deflected), "all channels of a pixel move together"
    source = (deflected[:, 0] * 575).round().long()
    places = torch.arange(24 * 24).reshape(24, 24)
    rows, columns = source // 24 - places // 24, source % 24 - places % 24
    moved = source != places
    assert int(moved.flatten(1).sum(1).max()) <= round(0.1 * 576)
    assert abs(float(moved.double().mean()) - 0.1 * 48 / 49) < 0.005, "now and then a pixel is its own neighbour"
    assert int(rows.abs().max()) == int(columns.abs().max()) == 3
    share = torch.bincount(rows[:, 6:18, 6:18][moved[:, 6:18, 6:18]] + 3, minlength=7) / moved[:, 6:18, 6:18].sum()
    assert float((share - torch.tensor([7, 7, 7, 6, 7, 7, 7]) / 48).abs().max()) < 0.03
    assert float(moved.double().mean(0).std()) < 0.04, "every pixel is as likely"


def test_the_wavelets_of_pixel_deflection_remove_noise_of_its_size() -> None:
    clean = photos(2, (3, 32, 32))
    noisy = clean + 0.04 * Rng.of(0, torch.arange(2)).normal(3, 32, 32, dtype=torch.float64)
    smoother = PixelDeflection(share=1e-3)(noisy.clamp(0, 1))
    assert float((smoother - clean).square().mean()) < 0.5 * float((noisy - clean).square().mean())


def energy(u: Tensor, x: Tensor, kept: Tensor, weight: float) -> Tensor:
    change = 0.5 * (kept * (u - x).square()).flatten(1).sum(1)
    return change + weight * length(*differences(u)).flatten(1).sum(1)


def test_tv_dropout_minimises_the_variation_of_what_half_of_the_values_leave() -> None:
    x = photos(2, (3, 12, 12), margin=0.2)
    wrapper = TotalVariationDropout(steps=20)
    rng = streams(x)
    kept = (rng.fold("kept").uniform(3, 12, 12) >= 0.5).double()
    assert abs(float(kept.mean()) - 0.5) < 0.05
    rebuilt = wrapper.drawn(x, rng)
    least = x.clone().requires_grad_()  # an independent minimiser of the same energy, slightly smoothed
    optimizer = torch.optim.LBFGS([least], max_iter=150, line_search_fn="strong_wolfe", tolerance_change=1e-12)

    def loss() -> Tensor:
        optimizer.zero_grad()
        below, after = differences(least)
        smooth = (below.square() + after.square() + 1e-8).sqrt().sum()
        total = 0.5 * (kept * (least - x).square()).sum() + wrapper.weight * smooth
        total.backward()
        return total

    optimizer.step(loss)
    optimum = energy(least.detach(), x, kept, wrapper.weight)
    found = energy(rebuilt, x, kept, wrapper.weight)
    assert bool((found <= 1.03 * optimum).all())
    exact = energy(dataclasses.replace(wrapper, steps=1000).drawn(x, rng), x, kept, wrapper.weight)
    assert bool((exact <= 1.001 * optimum).all())


def test_tv_dropout_never_sees_the_dropped_values() -> None:
    x = photos(2, (3, 16, 16))
    rng = streams(x)
    dropped = rng.fold("kept").uniform(3, 16, 16) < 0.5
    wrapper = TotalVariationDropout()
    assert torch.equal(wrapper.drawn(torch.where(dropped, 1 - x, x), rng), wrapper.drawn(x, rng))


def saved(path: Path, patches: np.ndarray) -> Path:
    np.savez(path, patches=patches)
    return path


def test_a_quilt_of_a_picture_whose_patches_are_in_the_bank_is_the_picture(tmp_path: Path) -> None:
    x = pictures(2, (3, 17, 14))
    cut = x.unfold(2, 5, 1).unfold(3, 5, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 5, 5)
    bank = saved(tmp_path / "bank.npz", cut.numpy())
    torch.testing.assert_close(Quilting(neighbours=1, bank=str(bank))(x), x, rtol=0, atol=0)
    assert not torch.equal(Quilting(neighbours=2, bank=str(bank))(x), x)


def test_a_quilt_of_one_patch_is_one_of_the_nearest_each_as_likely() -> None:
    x = photos(1, (3, 5, 5)).expand(600, -1, -1, -1)
    bank = drawn_bank(500, 5, 3)
    apart = (bank - x[0].reshape(-1)).square().sum(1)
    nearest = apart.argsort()[:4]
    quilts = Quilting(neighbours=4, size=500).drawn(x, Rng.of(0, torch.arange(600))).reshape(600, -1)
    which = (quilts[:, None] == bank[nearest]).all(2)
    assert bool((which.sum(1) == 1).all())
    assert float((which.double().mean(0) - 0.25).abs().max()) < 0.06


def cheapest(cost: np.ndarray) -> float:
    """The cost of the cheapest way down, by dynamic programming."""
    least = cost[0]
    for row in cost[1:]:
        beside = np.pad(least, 1, constant_values=np.inf)
        least = row + np.minimum(np.minimum(beside[:-2], beside[1:-1]), beside[2:])
    return float(least.min())


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_the_seams_of_a_quilt_cost_least(overlap: int, tmp_path: Path) -> None:
    patches = pictures(40, (1, 5, 5), seed=3)
    bank = saved(tmp_path / "bank.npz", patches.numpy())
    x = pictures(10, (1, 5, 10 - overlap), seed=4)
    quilts = Quilting(overlap=overlap, neighbours=1, bank=str(bank))(x)
    for picture, quilt in zip(x, quilts, strict=True):
        ends = (picture[..., :5], picture[..., -5:])
        left, right = (patches[(patches - end).square().flatten(1).sum(1).argmin()][0] for end in ends)
        assert torch.equal(quilt[0, :, : 5 - overlap], left[:, : 5 - overlap])
        old, new, seam = left[:, 5 - overlap :], right[:, :overlap], quilt[0, :, 5 - overlap : 5]
        assert torch.equal(quilt[0, :, 5:], right[:, overlap:])
        start = (seam == new).to(torch.int64).argmax(1)
        places = torch.arange(overlap)
        assert torch.equal(seam, torch.where(places >= start[:, None], new, old))
        paid = (old - new).square()[torch.arange(5), start].sum()
        assert float(paid) == pytest.approx(cheapest((old - new).square().numpy()))


def test_a_bank_of_bytes_in_safetensors_is_read_and_greyed(tmp_path: Path) -> None:
    file = tmp_path / "bank.safetensors"
    patches = (pictures(30, (3, 5, 5)) * 255).byte()
    save_file({"patches": patches}, file)
    grey = (patches.double() / 255).mean(1).reshape(30, -1)
    quilt = Quilting(bank=str(file))(pictures(1, (1, 5, 5))).reshape(-1)
    assert bool(((quilt - grey).abs().amax(1) < 1e-12).any())


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (lambda file: None, r"the bank .*bank.npz cannot be read \(there is no such file\)."),
        (lambda file: file.write_bytes(b"no pictures"), r"the bank .*bank.npz cannot be read as an .npz file"),
        (lambda file: np.savez(file, other=np.zeros(3)), r"the bank .*bank.npz has no array named 'patches'."),
        (lambda file: saved(file, np.zeros((20, 3, 4, 4))), r"holds patches of 20 x 3 x 4 x 4; give N x 3 x 5 x 5."),
        (lambda file: saved(file, np.full((20, 3, 5, 5), 255.0)), r"holds values outside of \[0, 1\]"),
    ],
)
def test_a_bank_that_is_none_is_refused_by_a_sentence(
    write: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "bank.npz"
    write(file)
    with pytest.raises(DataError, match=sentence):
        Quilting(bank=str(file))(pictures(1))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("resize-pad:smallest=0", "resize-pad: smallest is 0.0; give a number above 0, up to 1."),
        ("resize-pad:fill=2", "resize-pad: fill is 2.0; give a grey from 0 to 1."),
        ("crop-rescale:crop=1.5", "crop-rescale: crop is 1.5; give a number above 0, up to 1."),
        ("pixel-deflection:share=0", "pixel-deflection: share is 0.0; give a number above 0, up to 1."),
        ("pixel-deflection:window=0", "pixel-deflection: window is 0; give a number of pixels, 1 or more."),
        ("tv-dropout:drop=1", "tv-dropout: drop is 1.0; give a probability from 0, below 1."),
        ("quilting:patch=9", "quilting: patch is 9; give a number of pixels from 2 to 8."),
        ("quilting:overlap=5", "quilting: overlap is 5; give a number of pixels from 1 to 4."),
        ("quilting:size=10", "quilting: size is 10; give 18 patches or more."),
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_defense(text)
    assert str(caught.value) == sentence
