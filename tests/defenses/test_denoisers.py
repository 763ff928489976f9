"""Each pixel filter against an independent implementation: SciPy, NumPy, and kornia and scikit-image where installed."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from filters import photos
from helpers import pictures
from PIL import Image
from scipy import ndimage
from torch import Tensor

from advkit.data.signs import Signs
from advkit.defenses._haar import denoised, from_ycbcr, shrunk, to_ycbcr
from advkit.defenses.bilateral import Bilateral
from advkit.defenses.gaussian_blur import GaussianBlur
from advkit.defenses.jpeg import Jpeg
from advkit.defenses.lgs import LocalGradientsSmoothing
from advkit.defenses.low_pass import LowPass
from advkit.defenses.mean import Mean
from advkit.defenses.median import Median
from advkit.defenses.nlm import NonLocalMeans
from advkit.defenses.tv import TotalVariation
from advkit.defenses.wavelet import Wavelet
from advkit.defenses.webp import WebP

SHAPES = pytest.mark.parametrize("shape", [(3, 16, 16), (3, 21, 13), (1, 9, 32)], ids=str)


def each(x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """A function of pictures (H, W, C), picture by picture."""
    done = [function(picture) for picture in x.permute(0, 2, 3, 1).numpy()]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2)


def close(found: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@SHAPES
@pytest.mark.parametrize("size", [3, 5])
def test_the_mean_is_scipys(shape: tuple[int, ...], size: int) -> None:
    x = pictures(3, shape)
    close(Mean(size)(x), each(x, lambda p: ndimage.uniform_filter(p, (size, size, 1), mode="mirror")))


@SHAPES
@pytest.mark.parametrize(("sigma", "size"), [(0.5, 3), (1.0, 5), (1.5, 7)])
def test_the_gaussian_blur_is_scipys(shape: tuple[int, ...], sigma: float, size: int) -> None:
    x = pictures(3, shape)
    blur = GaussianBlur(sigma, size)
    radius = (size // 2, size // 2, 0)
    close(blur(x), each(x, lambda p: ndimage.gaussian_filter(p, sigma, mode="mirror", radius=radius)))


@SHAPES
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_the_median_is_scipys_as_xu_calls_it(shape: tuple[int, ...], size: int) -> None:
    x = pictures(3, shape)
    close(Median(size)(x), each(x, lambda p: ndimage.median_filter(p, (size, size, 1), mode="reflect")), 0)


def test_the_gradient_of_the_median_reaches_one_pixel_of_a_window() -> None:
    x = pictures(1, (1, 20, 20)).requires_grad_()
    (grad,) = torch.autograd.grad(Median(3)(x)[0, 0, 10, 10], x)
    assert int((grad != 0).sum()) == 1
    assert float(grad.sum()) == 1
    (grad,) = torch.autograd.grad(Median(3)(x).sum(), x)
    assert 0.2 < float((grad != 0).double().mean()) < 0.7, "the reason to try the straight-through gradient too"


def nonlocal_means(picture: np.ndarray, h: float, patch: int, search: int) -> np.ndarray:
    height, width, _ = picture.shape
    reach, half = search // 2, patch // 2
    wide = np.pad(picture, ((reach + half,) * 2, (reach + half,) * 2, (0, 0)), mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(wide, (patch, patch), axis=(0, 1))
    out = np.zeros_like(picture)
    for row in range(height):
        for column in range(width):
            near = patches[row : row + search, column : column + search]
            apart = ((near - patches[row + reach, column + reach]) ** 2).mean((2, 3, 4))
            weight = np.exp(-apart / h**2)
            out[row, column] = (weight[..., None] * near[..., half, half]).sum((0, 1)) / weight.sum()
    return out


@pytest.mark.parametrize(("h", "patch", "search"), [(4 / 255, 3, 13), (0.1, 3, 5), (0.05, 5, 7)])
def test_nonlocal_means_are_those_of_the_formula(h: float, patch: int, search: int) -> None:
    x = photos(1, (3, 8, 9))
    close(NonLocalMeans(h, patch, search)(x), each(x, lambda p: nonlocal_means(p, h, patch, search)))


@SHAPES
@pytest.mark.parametrize("radius", [0.25, 0.5, 0.9])
def test_the_low_pass_keeps_the_low_frequencies_alone(shape: tuple[int, ...], radius: float) -> None:
    x = photos(3, shape, margin=0.3)

    def low(picture: np.ndarray) -> np.ndarray:
        rows, columns = (np.fft.fftfreq(size) * 2 for size in picture.shape[:2])
        kept = np.hypot(rows[:, None], columns) <= radius
        return np.fft.ifft2(np.fft.fft2(picture, axes=(0, 1)) * kept[..., None], axes=(0, 1)).real

    close(LowPass(radius)(x), each(x, low))


def test_a_low_pass_of_all_frequencies_changes_nothing() -> None:
    x = pictures(2, (3, 15, 16))
    close(LowPass(1.5)(x), x)


def test_the_colours_of_the_wavelets_are_those_of_bt601_and_come_back() -> None:
    x = pictures(2, (3, 8, 8))
    theirs = each(x, lambda p: np.asarray(Image.fromarray((p * 255).round().astype(np.uint8)).convert("YCbCr")) / 255)
    ours = to_ycbcr((x * 255).round() / 255) + torch.tensor([0, 128 / 255, 128 / 255])[:, None, None]
    close(ours, theirs, 1.01 / 255)
    close(from_ycbcr(to_ycbcr(x)), x)


def test_wavelets_remove_noise_and_keep_what_has_none() -> None:
    clean = Signs(count=4, size=64).pictures(range(4)).double()
    noise = 0.05 * (pictures(4, (3, 64, 64), seed=1) - 0.5) * 12**0.5
    noisy = clean + noise
    cleaner = denoised(noisy)
    assert float((cleaner - clean).square().mean()) < 0.6 * float(noise.square().mean())
    flat = torch.full((1, 3, 16, 16), 0.3, dtype=torch.float64)
    flat[..., 8:] = 0.7
    close(Wavelet()(flat), flat)


@pytest.mark.parametrize(("window", "overlap"), [(15, 5), (7, 2), (5, 0)])
def test_lgs_is_that_of_the_paper(window: int, overlap: int) -> None:
    x = photos(3, (3, 33, 32))
    x[:, :, 4:12, 5:14] = pictures(3, (3, 8, 9))  # a patch

    def smoothed(picture: np.ndarray) -> np.ndarray:
        grey = picture.mean(2)
        down, right = np.zeros_like(grey), np.zeros_like(grey)
        down[:-1], right[:, :-1] = np.diff(grey, axis=0), np.diff(grey, axis=1)
        slope = np.hypot(down, right)
        slope = (slope - slope.min()) / (slope.max() - slope.min())
        kept = np.zeros_like(slope)
        step = window - overlap
        for row in {*range(0, 33 - window + 1, step), 33 - window}:
            for column in {*range(0, 32 - window + 1, step), 32 - window}:
                place = (slice(row, row + window), slice(column, column + window))
                if slope[place].mean() > 0.1:
                    kept[place] = slope[place]
        return picture * (1 - np.clip(2.3 * kept, 0, 1))[..., None]

    cleaned = LocalGradientsSmoothing(window, overlap)(x)
    close(cleaned, each(x, smoothed))
    assert float((cleaned - x)[:, :, 4:12, 5:14].abs().mean()) > 10 * float((cleaned - x)[:, :, 20:].abs().mean())


def test_lgs_scales_gradients_in_each_picture_not_in_the_batch() -> None:
    x = photos(2, (3, 32, 32))
    x[1] = pictures(1, (3, 32, 32))[0]
    assert torch.equal(LocalGradientsSmoothing()(x)[:1], LocalGradientsSmoothing()(x[:1]))


@pytest.mark.parametrize("channels", [1, 3])
def test_webp_is_what_pillow_makes_of_it(channels: int) -> None:
    x = (Signs(count=3).pictures(range(3))[:, :channels] * 255).round() / 255

    def coded(picture: np.ndarray) -> np.ndarray:
        file = BytesIO()
        levels = (picture * 255).round().astype(np.uint8)
        Image.fromarray(np.broadcast_to(levels, (*levels.shape[:2], 3)).copy()).save(file, "WEBP", quality=60)
        return np.asarray(Image.open(file), dtype=np.float32)[..., :channels] / 255

    close(WebP(60)(x), each(x, coded), 3 / 255)


def test_the_box_gaussian_and_bilateral_filters_are_kornias() -> None:
    filters = pytest.importorskip("kornia.filters")
    x = pictures(3, (3, 19, 14))
    close(Mean(5)(x), filters.box_blur(x, (5, 5)))
    close(GaussianBlur(0.8, 5)(x), filters.gaussian_blur2d(x, (5, 5), (0.8, 0.8)))
    smooth = photos(3, (3, 19, 14))
    close(Bilateral()(smooth), filters.bilateral_blur(smooth, (5, 5), 0.1, (1.5, 1.5)))
    close(Bilateral(3, 0.3, 1.0)(x[:, :1]), filters.bilateral_blur(x[:, :1], (3, 3), 0.3, (1.0, 1.0)))


@SHAPES
@pytest.mark.parametrize(("weight", "steps"), [(0.1, 20), (0.03, 3), (0.5, 1)])
def test_total_variation_is_scikit_images(shape: tuple[int, ...], weight: float, steps: int) -> None:
    restoration = pytest.importorskip("skimage.restoration")
    x = pictures(2, shape)
    kept = {"weight": weight, "eps": 0, "max_num_iter": steps + 1, "channel_axis": -1}
    close(TotalVariation(weight, steps)(x), each(x, lambda p: restoration.denoise_tv_chambolle(p, **kept)))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 33, 17), (3, 64, 48), (1, 32, 32)], ids=str)
@pytest.mark.parametrize("sigma", [None, 0.04])
def test_the_wavelets_are_scikit_images(shape: tuple[int, ...], sigma: float | None) -> None:
    restoration = pytest.importorskip("skimage.restoration")
    pytest.importorskip("pywt")
    x = pictures(2, shape)

    def cleaned(picture: np.ndarray) -> np.ndarray:
        if picture.shape[2] == 1:
            return restoration.denoise_wavelet(picture[..., 0], sigma=sigma)[..., None]
        return restoration.denoise_wavelet(picture, sigma=sigma, convert2ycbcr=True, channel_axis=-1)

    # Theirs cuts each of luma and chroma to the range that it had, which changes a pixel now and then.
    apart = (denoised(x, sigma).clamp(0, 1) - each(x, cleaned)).abs()
    assert float((apart > 1e-6).double().mean()) < 0.03


@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 33, 17), (3, 64, 48)], ids=str)
@pytest.mark.parametrize("sigma", [None, 0.04])
def test_shrinkage_is_that_of_pywavelets_haar(shape: tuple[int, ...], sigma: float | None) -> None:
    pywt = pytest.importorskip("pywt")
    x = pictures(2, shape)

    def channel(picture: np.ndarray) -> np.ndarray:
        levels = max(pywt.dwt_max_level(min(picture.shape), 2) - 3, 1)
        coarse, *details = pywt.wavedec2(picture, "haar", level=levels)
        finest = np.abs(details[-1][2])  # 0 where an odd row or column is taken twice: not counted
        noise = np.median(finest[finest > 1e-5]) / 0.6744897501960817 if sigma is None else sigma
        soft = []
        for level in details:
            signal = [np.sqrt(max((band**2).mean() - noise**2, np.finfo(float).eps)) for band in level]
            soft.append([pywt.threshold(b, noise**2 / s, "soft") for b, s in zip(level, signal, strict=True)])
        return pywt.waverec2([coarse, *soft], "haar")[: picture.shape[0], : picture.shape[1]]

    noise = None if sigma is None else torch.full((1, shape[0], 1, 1), sigma, dtype=x.dtype)
    close(shrunk(x, noise), each(x, lambda p: np.stack([channel(p[..., c]) for c in range(p.shape[2])], -1)))


@pytest.mark.parametrize("quality", [25, 75])
def test_the_smooth_jpeg_is_near_kornias_and_nearer_to_pillows(quality: int) -> None:
    enhance = pytest.importorskip("kornia.enhance")
    x = Signs(count=4).pictures(range(4)).double()
    wrapper = Jpeg(quality, "surrogate")
    real, ours = wrapper(x), wrapper.surrogate(x)
    theirs = enhance.jpeg_codec_differentiable(x, torch.full((4,), float(quality), dtype=x.dtype))
    assert float((ours - theirs).square().mean()) < 3e-4  # 35 dB
    assert float((ours - real).square().mean()) < float((theirs - real).square().mean())
