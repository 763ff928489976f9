"""Smoothing by noise: closed forms, bounds, the confidence in them, and certificates that belong to the example."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import SHAPE, Spy, conv_net, linear, pictures
from scipy.special import ndtr
from scipy.stats import beta, binomtest
from torch import Tensor, nn

from advkit.core.defense import Certificate
from advkit.core.rng import Rng, identify
from advkit.defenses._smoothing import ByNoise, lower_bound, upper_bound
from advkit.defenses.smoothing import Smoothing
from advkit.defenses.smoothing_l1 import SmoothingL1
from advkit.engine.defend import build_certifier
from advkit.errors import InputError, ModelError, PassError

KINDS = [Smoothing(), SmoothingL1(), SmoothingL1(noise_kind="laplace")]
EVERY = pytest.mark.parametrize("by", KINDS, ids=["gaussian", "uniform", "laplace"])


def certify(by: ByNoise, model: nn.Module, x: Tensor, *, seed: int = 0, batch_size: int = 64) -> Certificate:
    return by.certify(model, x, Rng.of(seed, identify(x)), batch_size)


class Halfspace(nn.Module):
    """Class 1 where w x + b > 0: a linear model, which knows its own margin."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        size = math.prod(SHAPE)
        w = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.register_buffer("w", w / w.norm())
        self.bias = -0.5 * float(self.w.sum())

    def score(self, x: Tensor) -> Tensor:
        return x.flatten(1).double() @ self.w + self.bias

    def forward(self, x: Tensor) -> Tensor:
        score = self.score(x)
        return torch.stack([-score, score], 1)


class Sometimes(nn.Module):
    """Class 1 where the first value, uniform noise around it, is below the quantile ``p`` of that noise; else class 0."""

    def __init__(self, p: float, sigma: float) -> None:
        super().__init__()
        self.limit = 0.5 + 3**0.5 * sigma * (2 * p - 1)

    def forward(self, x: Tensor) -> Tensor:
        below = (x[:, 0, 0, 0] < self.limit).float()
        return torch.stack([1 - below, below], 1)


# ---------------------------------------------------------------------- closed forms


@pytest.mark.parametrize(("n", "radius"), [(100_000, 3.811), (1_000, 2.463), (100, 1.500)])
def test_where_every_draw_agrees_the_radius_is_the_published_one(n: int, radius: float) -> None:
    for sigma in (0.25, 1.0):
        assert Smoothing(sigma, n=n).largest == pytest.approx(radius * sigma, abs=5e-4 * sigma)


def test_a_model_of_one_answer_is_certified_at_the_largest_radius() -> None:
    certificate = certify(Smoothing(0.5, n=100), linear(1), pictures(2))
    assert certificate.prediction.tolist() == [0, 0]
    assert certificate.radius.tolist() == [Smoothing(0.5, n=100).largest] * 2
    assert certificate.forwards.tolist() == [200, 200]


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_on_a_linear_model_the_true_probability_gives_the_distance_to_the_boundary(sigma: float) -> None:
    model, x = Halfspace(), pictures(20)
    distance = model.score(x).abs().numpy()
    distance = distance[distance < 5 * sigma]  # beyond, the probability is 1 in float64
    assert len(distance) >= 3
    np.testing.assert_allclose(Smoothing(sigma).radius_at(ndtr(distance / sigma)), distance, rtol=1e-6)


def test_on_a_linear_model_the_certificate_is_below_the_distance_and_comes_close() -> None:
    model, x, sigma, n = Halfspace(), pictures(24), 1.0, 4000
    distance = model.score(x).abs()
    certificate = certify(Smoothing(sigma, n=n), model, x)
    right = certificate.prediction == (model.score(x) > 0).long()
    assert bool((right | (certificate.prediction == -1)).all())
    assert bool((certificate.radius <= distance).all())
    # What Clopper and Pearson take away at the true probability, plus four standard deviations of the count.
    p = ndtr(distance.numpy() / sigma)
    fewest = np.floor(n * p - 4 * np.sqrt(n * p * (1 - p)))
    least = np.maximum(Smoothing(sigma).radius_at(lower_bound(fewest, n, 0.001)), 0)
    assert bool((certificate.radius.numpy() >= least - 1e-12).all())
    assert float(certificate.radius.max()) > 0.5


@pytest.mark.parametrize("p", [0.6, 0.9, 0.99])
def test_radii_in_l1_are_those_of_the_papers(p: float) -> None:
    side = 3**0.5 * 0.5  # uniform in [-side, side]: sigma is the standard deviation
    assert SmoothingL1(0.5).radius_at(p) == pytest.approx(2 * side * (p - 0.5))
    scale = 0.5 / 2**0.5
    assert SmoothingL1(0.5, noise_kind="laplace").radius_at(p) == pytest.approx(scale * math.log(1 / (2 * (1 - p))))


@pytest.mark.parametrize("kind", ["uniform", "laplace"])
def test_radii_in_l1_are_attained_by_a_threshold_on_one_value(kind: str) -> None:
    """Moved by the radius, the class of a threshold on one value has a probability of a half."""
    sigma, p = 0.5, 0.8
    by = SmoothingL1(sigma, noise_kind=kind)  # type: ignore[arg-type]
    draws = sigma * by.noise(torch.zeros(1000, dtype=torch.float64), 3, 0, 320).flatten()
    threshold = draws.quantile(p)
    moved = ((draws + float(by.radius_at(p))) < threshold).double().mean()
    assert float(moved) == pytest.approx(0.5, abs=0.01)


@EVERY
def test_noise_has_the_deviation_and_mean_it_says(by: ByNoise) -> None:
    draws = by.noise(torch.zeros(64, 64), 7, 0, 96)
    assert float(draws.mean()) == pytest.approx(0, abs=0.01)
    assert float(draws.std()) == pytest.approx(1, abs=0.01)
    kurtosis = {"Smoothing": 3.0, "uniform": 1.8, "laplace": 6.0}[getattr(by, "noise_kind", "Smoothing")]
    assert float(draws.double().pow(4).mean()) == pytest.approx(kurtosis, rel=0.05)


# ---------------------------------------------------------------------- confidence


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (55, 100), (100, 100), (99_000, 100_000)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_bounds_are_those_of_clopper_and_pearson(hits: int, n: int, alpha: float) -> None:
    interval = binomtest(hits, n).proportion_ci(1 - 2 * alpha, "exact")
    assert float(lower_bound(hits, n, alpha)) == pytest.approx(interval.low, abs=1e-12)
    assert float(upper_bound(hits, n, alpha)) == pytest.approx(interval.high, abs=1e-12)
    if hits:
        assert float(lower_bound(hits, n, alpha)) == pytest.approx(beta.ppf(alpha, hits, n - hits + 1), rel=1e-9)


@pytest.mark.parametrize("radii", [(), (0.3,)], ids=["at the end", "four looks"])
def test_the_bound_fails_no_more_often_than_alpha(radii: tuple[float, ...]) -> None:
    """20,000 counts of each probability, looked at as the certifier does."""
    by = Smoothing(1.0, n=1000, alpha=0.05, radii=radii)
    generator = np.random.default_rng(0)
    for p in (0.5, 0.6, 0.8, 0.97):
        best, before, hits = np.zeros(20_000), 0, np.zeros(20_000)
        for look in by.looks:
            hits = hits + generator.binomial(look - before, p, len(hits))
            best, before = np.maximum(best, lower_bound(hits, look, by.alpha / len(by.looks))), look
        wrong = float((best > p).mean())
        assert wrong <= by.alpha + 4 * math.sqrt(by.alpha / len(hits)), p
        assert wrong >= 0.2 * by.alpha, "far from alpha: sound, but wasteful"


@pytest.mark.parametrize("radii", [(), (0.25,)], ids=["at the end", "early"])
def test_certificates_of_a_known_probability_are_wrong_no_more_often_than_alpha(radii: tuple[float, ...]) -> None:
    """The whole certifier, on 1,000 examples whose true radius is known."""
    by = SmoothingL1(0.5, n0=20, n=100, alpha=0.1, radii=radii)
    p = 0.7
    x = pictures(1000, (1, 2, 2), dtype=torch.float32)
    x[:, 0, 0, 0] = 0.5
    certificate = certify(by, Sometimes(p, by.sigma), x, batch_size=4096)
    truth = torch.where(certificate.prediction == 1, float(by.radius_at(p)), 0.0)
    wrong = float(((certificate.radius > truth) & (certificate.prediction >= 0)).double().mean())
    assert wrong <= by.alpha + 3 * math.sqrt(by.alpha * (1 - by.alpha) / len(x))
    assert float((certificate.prediction == 1).double().mean()) > 0.5, "certifies nothing"


def test_a_coin_is_abstained_from() -> None:
    by = SmoothingL1(0.5, n0=20, n=200)
    x = pictures(50, (1, 2, 2), dtype=torch.float32)
    x[:, 0, 0, 0] = 0.5
    rng = Rng.of(0, identify(x))
    assert by.certify(Sometimes(0.5, 0.5), x, rng, 4096).prediction.tolist() == [-1] * 50
    assert by.predict(Sometimes(0.5, 0.5), x, rng, 4096).tolist() == [-1] * 50
    assert by.certify(Sometimes(0.5, 0.5), x, rng, 4096).radius.tolist() == [0.0] * 50


def test_predictions_are_the_likelier_class_where_the_binomial_test_is_sure() -> None:
    x = pictures(300, (1, 2, 2), dtype=torch.float32)
    x[:, 0, 0, 0] = 0.5
    by = SmoothingL1(0.5, n=50, alpha=0.05)
    answers = by.predict(Sometimes(0.65, 0.5), x, Rng.of(0, identify(x)), 4096)
    counts = range(51)
    odds = {k: math.comb(50, k) * 0.65**k * 0.35 ** (50 - k) for k in counts}
    sure = {k for k in counts if binomtest(max(k, 50 - k), 50, 0.5).pvalue <= 0.05}
    for answer, expected in (
        (1, sum(odds[k] for k in sure if k > 25)),
        (-1, 1 - sum(odds[k] for k in sure)),
    ):
        assert float((answers == answer).double().mean()) == pytest.approx(expected, abs=0.1)


# ---------------------------------------------------------------------- early answers


def test_an_answer_about_one_radius_takes_few_draws_where_it_is_plain() -> None:
    model, x = Halfspace(), pictures(40)
    distance = model.score(x).abs()
    asked = float(distance.median())
    by = Smoothing(1.0, n=10_000, radii=(asked,))
    certificate = certify(by, model, x, batch_size=512)
    reached = certificate.radius >= asked
    assert not bool((reached & (distance < asked)).any())
    plain = (distance - asked).abs() > 0.3
    assert bool((reached == (distance >= asked))[plain].all())
    assert float(certificate.forwards[plain].double().mean()) < 0.3 * (by.n0 + by.n)
    assert bool((certificate.radius <= distance).all())


def test_looks_end_with_all_draws_and_share_alpha() -> None:
    assert Smoothing(n=100_000).looks == (100_000,)
    assert Smoothing(n=100_000, radii=(0.5,)).looks == (1568, 6272, 25024, 100_000)
    assert Smoothing(n=10, radii=(0.5,)).looks == (10,)
    assert Smoothing(n=100_000, radii=(0.5,)).largest < Smoothing(n=100_000).largest


# ---------------------------------------------------------------------- whose draws they are


@EVERY
def test_the_same_certificate_alone_in_any_order_and_at_any_pass(by: ByNoise) -> None:
    model, x = conv_net(dtype=torch.float32), pictures(5, dtype=torch.float32)
    by = replace(by, sigma=1.5, n=150, n0=30)
    together = certify(by, model, x)
    for batch_size in (1, 7, 1000):
        assert all(map(torch.equal, certify(by, model, x, batch_size=batch_size), together))
    for place in range(5):
        alone = certify(by, model, x[place : place + 1])
        assert all(torch.equal(a, b[place : place + 1]) for a, b in zip(alone, together, strict=True))
    assert all(torch.equal(a.flip(0), b) for a, b in zip(certify(by, model, x.flip(0)), together, strict=True))
    assert len(set(together.radius.tolist())) > 1


def test_another_seed_draws_other_noise_and_the_global_state_stays() -> None:
    model, x, state = conv_net(), pictures(5), torch.random.get_rng_state()
    by = Smoothing(1.5, n=500)
    assert not torch.equal(certify(by, model, x).radius, certify(by, model, x, seed=1).radius)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_stream_is_the_same_in_pieces() -> None:
    x = pictures(1)[0]
    for by in KINDS:
        whole = by.noise(x, 5, 0, 100)
        assert torch.equal(torch.cat([by.noise(x, 5, 0, 33), by.noise(x, 5, 33, 64), by.noise(x, 5, 64, 100)]), whole)
        assert not torch.equal(by.noise(x, 6, 0, 100), whole)
        assert len(whole.flatten(1).unique(dim=0)) == 100, "draws repeat"


def test_guess_count_and_prediction_have_draws_of_their_own() -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.flatten(1))
            return torch.stack([x.sum((1, 2, 3)), -x.sum((1, 2, 3))], 1)

    x, by = pictures(1), Smoothing(n0=40, n=96)
    certify(by, Watch(), x)
    by.predict(Watch(), x, Rng.of(0, identify(x)), 64)
    # 232 draws; a pass below 32 rows is filled up with its own
    assert len(torch.cat(seen).unique(dim=0)) == 40 + 96 + 96


def test_passes_are_full_and_never_larger_than_allowed() -> None:
    model = Spy(conv_net())
    certify(Smoothing(n0=10, n=200), model, pictures(5), batch_size=64)
    assert model.largest == 64
    assert model.calls == 1 + 16  # 50 rows, then 1,000
    assert model.forwards == 50 + 15 * 64 + 40


def test_what_an_attack_is_told_has_a_gradient_and_follows_the_smoothed_class() -> None:
    model, x = Halfspace(), pictures(6)
    points = x.clone().requires_grad_()
    logits = Smoothing(1.0).searched(model)(points)
    (grad,) = torch.autograd.grad(logits[:, 1].sum(), points)
    cosine = torch.cosine_similarity(grad.flatten(1), model.w[None], dim=1)
    assert bool((cosine > 0.999).all())
    logits = logits.detach()
    assert torch.equal(Smoothing(1.0).searched(model)(x), logits)
    assert float(logits.exp().sum(1).sub(1).abs().max()) < 1e-9


# ---------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("smoothing:0", "smoothing: sigma is 0.0; give the noise's standard deviation, above 0, such as 0.25."),
        ("smoothing:n0=0", "smoothing: n0 is 0; give 1 or more."),
        ("smoothing-l1:n=0", "smoothing: n is 0; give 1 or more."),
        ("smoothing:alpha=1", "smoothing: alpha is 1.0; give a probability above 0 and below 1, such as 0.001."),
        ("smoothing:radii=1", "Smoothing: radii is '1'; give a tuple, such as (0.25, 0.5)."),
        ("smoothing-l1:noise_kind=cauchy", "smoothing-l1: noise_kind is 'cauchy'; allowed: uniform, laplace."),
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        build_certifier(text)
    assert str(caught.value) == sentence


def test_a_model_that_answers_nonsense_is_refused() -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((len(x), 3), math.nan)

    with pytest.raises(PassError, match="NaN"):
        certify(Smoothing(), Nan(), pictures(1))
    with pytest.raises(ModelError, match=r"\(B, K\)"):
        certify(Smoothing(), nn.Identity(), pictures(1))
