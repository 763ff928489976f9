"""Learned denoisers: their networks, files, wrappers and the objectives that train them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, pictures
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from advkit import load_data, load_model
from advkit.attacks import PGD
from advkit.backbones.checkpoint import EMBEDDED, embedded
from advkit.catalog import DEFENSES
from advkit.core import L2, Linf
from advkit.core.defense import Wrapper
from advkit.core.rng import Rng, identify
from advkit.defenses._denoisers import Denoiser, DnCNN, NoiseNet, build_denoiser, signal_and_noise
from advkit.defenses._denoising import Denoising
from advkit.defenses._weights import read_denoiser, save_denoiser
from advkit.defenses.denoise import Denoise
from advkit.defenses.diffusion import Diffusion
from advkit.defenses.dncnn import DnCNNDenoiser
from advkit.defenses.logit_guided import LogitGuided
from advkit.defenses.noise_prediction import NoisePrediction
from advkit.defenses.stability import Stability
from advkit.engine.defend import build_defense, build_objective, defend
from advkit.errors import InputError, ModelError

KINDS = {"dae": "unet", "dncnn": "dncnn", "diffusion": "diffusion", "hgd": "unet"}
LEARNED = pytest.mark.parametrize("name", sorted(KINDS))


def fresh(kind: str, **settings: int) -> Denoiser:
    """A small network with weights and statistics of its own."""
    small = {"width": 4, "depth": 3} if kind == "dncnn" else {"width": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_denoiser(kind, {**small, **settings})
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
            elif isinstance(module, nn.Conv2d):
                module.reset_parameters()
    return net.eval()


@pytest.fixture
def files(tmp_path: Path) -> Mapping[str, Path]:
    """A file of small fresh weights for each of the defenses."""
    return {
        name: save_denoiser(tmp_path / f"{name}.safetensors", fresh(kind), {"recipe": "none"})
        for name, kind in KINDS.items()
    }


def made(name: str, files: Mapping[str, Path]) -> Wrapper:
    wrapper = DEFENSES.create(name, weights=str(files[name]))
    assert isinstance(wrapper, Wrapper)
    return wrapper


# Networks ----------------------------------------------------------------------------------------------------------------


def test_dncnn_has_the_published_size() -> None:
    """17 layers of 64 channels on grey pictures: 556 thousand weights (Zhang et al. 2017)."""
    count = sum(p.numel() for p in DnCNN(channels=1, width=64, depth=17).parameters())
    assert abs(count - 556_000) < 1000


@pytest.mark.parametrize("kind", ["dncnn", "unet"])
def test_a_network_that_finds_no_noise_leaves_the_picture(kind: str) -> None:
    net = fresh(kind)
    last = [module for module in net.modules() if isinstance(module, nn.Conv2d)][-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)  # type: ignore[arg-type]
    x = pictures(2, dtype=torch.float32)
    assert torch.equal(net(x), x)


def test_sizes_that_four_does_not_divide_are_filled_up_by_their_border() -> None:
    net, x = fresh("unet"), pictures(2, (3, 7, 9), dtype=torch.float32)
    padded = F.pad(x, (0, 3, 0, 1), mode="replicate")
    torch.testing.assert_close(net(x), net(padded)[:, :, :7, :9])


def test_signal_and_noise_are_those_of_the_variance_preserving_process() -> None:
    times = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    signal, noise = signal_and_noise(times)
    torch.testing.assert_close(signal**2 + noise**2, torch.ones(4, dtype=torch.float64))
    # The product of 1 - beta over small steps, with beta from 0.1 to 20.
    for time, found in zip(times, signal, strict=True):
        steps = torch.linspace(0, float(time), 200_001, dtype=torch.float64)
        betas = 0.1 + 19.9 * (steps[1:] + steps[:-1]) / 2
        assert float(found**2) == pytest.approx(math.exp(-float((betas * float(time) / 200_000).sum())), rel=1e-6)
    assert float(signal[1] ** 2) == pytest.approx(0.8963, abs=1e-4)


def test_the_noise_network_is_told_the_time_beside_the_picture() -> None:
    net, x = fresh("diffusion"), pictures(3, dtype=torch.float32)
    assert isinstance(net, NoiseNet)
    times = torch.tensor([0.05, 0.1, 0.2])
    told = torch.cat([x, times[:, None, None, None].expand(3, 1, 8, 8)], 1)
    torch.testing.assert_close(net(told), torch.cat([net.at(x[i : i + 1], times[i : i + 1]) for i in range(3)]))
    assert not torch.allclose(net(told), net.at(x, times.flip(0)))
    torch.testing.assert_close(net(x), net.at(x, torch.zeros(3)))


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("dncn", {}, "'dncn' is not a kind of denoiser; known: dncnn, unet, diffusion."),
        ("dncnn", {"depth": 1}, "depth is 1"),
        ("unet", {"width": 0}, "unet: width is 0; give a whole number from 1 to 1024."),
        ("unet", {"width": 10**9}, "width is 1000000000"),
        ("unet", {"depth": 3}, "unet has no setting 'depth'"),
        ("dncnn", {"width": 2.5}, "width is 2.5; give a whole number"),
        ("dncnn", {"width": True}, "width is True; give a whole number"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(kind: str, settings: Mapping[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_denoiser(kind, settings)


# Files -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dncnn", "unet", "diffusion"])
def test_a_denoiser_is_read_as_it_was_written(kind: str, tmp_path: Path) -> None:
    net, x = fresh(kind), pictures(2, dtype=torch.float32)
    again, facts = read_denoiser(save_denoiser(tmp_path / "a.safetensors", net, {"recipe": "by hand"}))
    assert type(again) is type(net)
    assert facts["recipe"] == "by hand"
    assert again.settings == net.settings
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())
    assert torch.equal(again(x), net(x))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_files_that_hold_no_such_denoiser_are_refused_by_a_sentence(files: Mapping[str, Path], tmp_path: Path) -> None:
    tensors = load_file(files["dncnn"])

    def file(name: str, metadata: dict[str, str], held: Mapping[str, Tensor] = tensors) -> Path:
        save_file(dict(held), tmp_path / name, metadata=metadata)
        return tmp_path / name

    settings = json.dumps({"channels": 3, "width": 4, "depth": 3})
    (tmp_path / "cut.safetensors").write_bytes(files["dncnn"].read_bytes()[:200])
    for path, said in [
        (file("plain.safetensors", {}), "plain.safetensors holds no denoiser; make one with advkit train-denoiser"),
        (file("odd.safetensors", {"denoiser": "gan"}), "odd.safetensors describes no denoiser of advkit: 'gan'"),
        (file("big.safetensors", {"denoiser": "dncnn", "settings": '{"width": 9999999}'}), "width is 9999999"),
        (file("text.safetensors", {"denoiser": "dncnn", "settings": "["}), "not a JSON dict"),
        (file("wide.safetensors", {"denoiser": "dncnn", "settings": "{}"}), "does not hold the tensors of the dncnn"),
        (
            file(
                "less.safetensors",
                {"denoiser": "dncnn", "settings": settings},
                {"noise.0.bias": tensors["noise.0.bias"]},
            ),
            "does not hold the tensors",
        ),
        (tmp_path / "cut.safetensors", "cut short"),
        (tmp_path / "none.safetensors", "there is no weight file"),
        (files["hgd"], "dncnn takes a denoiser of the kind dncnn; hgd.safetensors holds one of the kind unet."),
    ]:
        with pytest.raises(ModelError, match=r"^[^\n]*$") as caught:
            DnCNNDenoiser(str(path))(pictures(1))
        assert said in str(caught.value)


@LEARNED
def test_weights_that_are_no_file_of_weights_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: weights is 'net.pt'; give auto or a .safetensors file"):
        DEFENSES.create(name, weights="net.pt")


def test_a_file_that_is_written_anew_is_read_anew(files: Mapping[str, Path]) -> None:
    x, wrapper = pictures(2, dtype=torch.float32), made("dncnn", files)
    before = wrapper(x)
    save_denoiser(files["dncnn"], fresh("dncnn", width=5), {})
    assert not torch.equal(wrapper(x), before)


def test_weights_first_met_in_inference_mode_carry_gradients_afterwards(files: Mapping[str, Path]) -> None:
    x, wrapper = pictures(2, dtype=torch.float32), made("dae", files)
    with torch.inference_mode():
        wrapper(x)
    points = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(wrapper(points).sum(), points)
    assert float(grad.abs().sum()) > 0


# Wrappers ----------------------------------------------------------------------------------------------------------------


@LEARNED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 33, 17), (1, 16, 16), (3, 1, 1)], ids=str)
def test_pictures_of_any_size_and_type_are_cleaned(
    name: str, files: Mapping[str, Path], dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    wrapper, x = made(name, files), pictures(3, shape, dtype=dtype)
    kept = x.clone()
    cleaned = wrapper(x)
    assert (cleaned.shape, cleaned.dtype) == (x.shape, x.dtype)
    assert cleaned.is_contiguous()
    assert bool(((cleaned >= 0) & (cleaned <= 1)).all())
    assert not torch.equal(cleaned, x)
    assert torch.equal(x, kept)


@LEARNED
def test_each_picture_is_cleaned_by_itself(name: str, files: Mapping[str, Path]) -> None:
    wrapper, x = made(name, files), pictures(5, dtype=torch.float32)
    together = wrapper(x)
    alone = torch.cat([wrapper(x[i : i + 1]) for i in range(5)])
    # Kernels round by the size of the batch.
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-6)
    torch.testing.assert_close(wrapper(x.flip(0)).flip(0), together, rtol=0, atol=1e-6)


@LEARNED
def test_the_gradient_is_that_of_the_whole_network(name: str, files: Mapping[str, Path]) -> None:
    wrapper, x = made(name, files), pictures(3, margin=0.1)
    rng = Rng.of(0, identify(x))

    def clean(points: Tensor) -> Tensor:
        return wrapper.drawn(points, rng) if isinstance(wrapper, Diffusion) else wrapper(points)

    weigh, way = pictures(3, seed=1), pictures(3, seed=2) - 0.5
    points = x.clone().requires_grad_()
    (found,) = torch.autograd.grad((clean(points) * weigh).sum(), points)
    ahead, behind = (float((clean(x + h * way) * weigh).sum()) for h in (1e-6, -1e-6))
    assert float((found * way).sum()) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
    assert wrapper.backward == "exact"


def test_a_grey_picture_is_three_equal_channels_and_the_mean_of_what_becomes_of_them(files: Mapping[str, Path]) -> None:
    wrapper, x = made("dncnn", files), pictures(2, (1, 8, 8), dtype=torch.float32)
    net, _ = read_denoiser(files["dncnn"])
    torch.testing.assert_close(wrapper(x), net(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True).clamp(0, 1))


@pytest.mark.parametrize("name", ["dncnn", "diffusion"])
def test_a_network_for_grey_pictures_is_given_each_channel_by_itself(name: str, tmp_path: Path) -> None:
    path = save_denoiser(tmp_path / "grey.safetensors", fresh(KINDS[name], channels=1), {})
    wrapper, x = DEFENSES.create(name, weights=str(path)), pictures(2, dtype=torch.float32)
    assert isinstance(wrapper, Wrapper)
    assert wrapper(x).shape == x.shape
    if name == "dncnn":
        each = torch.cat([wrapper(x[:, i : i + 1]) for i in range(3)], 1)
        torch.testing.assert_close(wrapper(x), each)


def test_pictures_of_other_channels_are_refused(files: Mapping[str, Path]) -> None:
    with pytest.raises(InputError, match="for pictures of 3 channels; these have 4"):
        made("dncnn", files)(pictures(1, (4, 8, 8)))


# Diffusion ---------------------------------------------------------------------------------------------------------------


def gaussian_world(mean: float, deviation: float) -> object:
    """The best possible noise network where every pixel is drawn from N(mean, deviation^2), pixels in [-1, 1]."""

    def at(self: NoiseNet, diffused: Tensor, time: Tensor) -> Tensor:
        signal, noise = signal_and_noise(time[:, None, None, None])
        return noise * (diffused - signal * mean) / (signal**2 * deviation**2 + noise**2)

    return at


@pytest.mark.parametrize(("steps", "eta"), [(1, 1.0), (7, 1.0), (7, 0.0), (3, 0.5)])
def test_where_there_is_one_picture_only_purification_leaves_it(
    files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, steps: int, eta: float
) -> None:
    monkeypatch.setattr(NoiseNet, "at", gaussian_world(0.2, 0.0))
    purify = Diffusion(t=0.5, steps=steps, eta=eta, weights=str(files["diffusion"]))
    x = pictures(2)
    torch.testing.assert_close(purify(x), torch.full_like(x, 0.6), rtol=0, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_way_back_has_the_mean_and_the_spread_of_the_reverse_process(
    files: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch, eta: float
) -> None:
    mean, deviation, start, t = 0.1, 0.1, 0.3, 0.2
    monkeypatch.setattr(NoiseNet, "at", gaussian_world(mean, deviation))
    purify = Diffusion(t=t, steps=200, eta=eta, weights=str(files["diffusion"]))
    left = 2 * purify(torch.full((2, 3, 64, 64), (start + 1) / 2, dtype=torch.float64)) - 1
    signal, noise = (float(level) for level in signal_and_noise(torch.tensor(t, dtype=torch.float64)))
    seen = signal**2 * deviation**2 + noise**2
    if eta:  # a draw from the posterior of the picture, given the diffused one
        share = signal**2 * deviation**2 / seen
        spread = math.sqrt((share * noise / signal) ** 2 + deviation**2 * (1 - share))
    else:  # the flow that carries the diffused distribution to that of pictures
        share = signal * deviation / math.sqrt(seen)
        spread = deviation / math.sqrt(seen) * noise
    assert float(left.mean()) == pytest.approx(mean + share * (start - mean), abs=0.01 * abs(start - mean) + 0.003)
    assert float(left.std()) == pytest.approx(spread, rel=0.03)


def test_more_noise_leaves_less_of_the_picture(files: Mapping[str, Path]) -> None:
    x = pictures(2)
    moved = [float((Diffusion(t=t, weights=str(files["diffusion"]))(x) - x).norm()) for t in (0.001, 0.05, 0.5)]
    assert moved == sorted(moved)


def test_draws_are_of_the_picture_and_of_the_stream(files: Mapping[str, Path]) -> None:
    purify, x = Diffusion(weights=str(files["diffusion"])), pictures(2)
    one, other = (purify.drawn(x, Rng.of(seed, identify(x))) for seed in (0, 1))
    assert not torch.allclose(one, other)
    assert torch.equal(one, purify.drawn(x, Rng.of(0, identify(x))))
    model = conv_net()
    assert torch.equal(defend(model, [purify])(x), defend(model, [purify])(x))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("diffusion:t=0", "diffusion: t is 0.0; give a time above 0 and at most 1, such as 0.1."),
        ("diffusion:t=1.5", "diffusion: t is 1.5"),
        ("diffusion:steps=0", "diffusion: steps is 0; give 1 or more."),
        ("diffusion:eta=2", "diffusion: eta is 2.0; give a number from 0 to 1."),
        ("diffusion:draws=0", "diffusion: draws is 0"),
        ("diffusion:eot=-1", "eot -1"),
    ],
)
def test_settings_out_of_range_are_refused_by_a_sentence(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_defense(text)


def test_times_that_the_weights_do_not_know_are_refused(tmp_path: Path) -> None:
    for latest, said in (("0.2", "t is 0.3, and the weights know times up to 0.2"), ("x", "latest is 'x'")):
        path = save_denoiser(tmp_path / "a.safetensors", fresh("diffusion"), {"latest": latest})
        with pytest.raises(InputError, match=said):
            Diffusion(t=0.3, weights=str(path))(pictures(1))


# Objectives --------------------------------------------------------------------------------------------------------------

X = pictures(8, (3, 16, 16), dtype=torch.float32)
Y = torch.arange(8) % 5


def guide() -> nn.Module:
    """Ten numbers of a picture, smooth in its pixels."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Softplus(), nn.Flatten(), nn.Linear(196, 5))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return net


@pytest.mark.parametrize("name", ["denoise", "stability", "logit-guided", "noise-prediction"])
def test_an_objective_is_a_scalar_with_a_gradient_and_asks_no_label(name: str) -> None:
    objective = build_objective(name)
    assert isinstance(objective, Denoising)
    asked = guide()
    aim = objective.guided(asked)
    assert aim == objective
    assert "guide" not in repr(aim)
    net = fresh("diffusion" if name == "noise-prediction" else "unet").train()
    values = [aim(net, X, labels, seed) for labels, seed in ((Y, 0), (Y.flip(0), 0), (Y, 1))]
    assert values[0].shape == ()
    torch.testing.assert_close(values[0], values[1], rtol=1e-4, atol=0)
    assert not torch.allclose(values[0], values[2], rtol=1e-4)
    values[0].backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(p.grad is None and p.requires_grad for p in asked.parameters())
    assert asked.training


def test_what_denoise_shows_has_the_noise_that_is_asked_for() -> None:
    still = nn.Identity()
    assert float(Denoise(sigma=0.25)(still, X, Y, 0)) == pytest.approx(0.25**2, rel=0.05)
    x = pictures(200, (3, 16, 16), dtype=torch.float32)
    sigmas = (Denoise(sigma=0.4, sigma_least=0.1).examples(still, x, Y, 0) - x).flatten(1).std(1)
    assert 0.09 < float(sigmas.min()) < 0.13
    assert 0.37 < float(sigmas.max()) < 0.44
    assert float(sigmas.mean()) == pytest.approx(0.25, abs=0.02)
    alone = Denoise().examples(still, x[3:4], Y, 7)
    assert torch.equal(Denoise().examples(still, x, Y, 7)[3:4], alone)


@pytest.mark.parametrize("threat", [Linf(0.05), L2(1.0)])
def test_adversarial_noise_stays_in_its_ball_and_turns_the_guide_away(threat: Linf | L2) -> None:
    asked = guide()
    shown = Denoise(noise="adversarial", threat=threat).guided(asked).examples(nn.Identity(), X, Y, 0)
    distance = threat.distance(shown, X)
    assert bool((distance <= float(threat.eps) + 1e-5).all())
    assert float(distance.min()) < 0.5 * float(threat.eps) < float(distance.max()), "anywhere between"
    answered = asked(X).argmax(1)
    assert F.cross_entropy(asked(shown), answered) > F.cross_entropy(asked(X), answered) * 1.05


def test_stability_is_cross_entropy_to_the_guides_own_answer() -> None:
    asked, aim = guide(), Stability(sigma=0.1).guided(guide())
    shown = aim.examples(nn.Identity(), X, Y, 3)
    expected = F.cross_entropy(asked(shown), asked(X).argmax(1))
    torch.testing.assert_close(aim(nn.Identity(), X, Y, 3), expected)


def test_the_logit_guided_loss_is_the_l1_distance_of_logits() -> None:
    asked, aim = guide(), LogitGuided(steps=2).guided(guide())
    shown = aim.examples(nn.Identity(), X, Y, 3)
    torch.testing.assert_close(aim(nn.Identity(), X, Y, 3), (asked(shown) - asked(X)).abs().mean())
    assert float(aim.loss(nn.Identity(), X, X, Y)) == 0


def test_the_true_noise_has_no_loss_and_no_noise_a_loss_of_one() -> None:
    aim = NoisePrediction(latest=0.2)
    x = X.double()
    shown = aim.examples(nn.Identity(), x, Y, 0)
    time = shown[:, 3:]
    assert bool((time == time[:, :, :1, :1]).all())
    assert 0 < float(time.min()) < float(time.max()) <= 0.2
    signal, noise = signal_and_noise(time)
    true = (shown[:, :3] - signal * (2 * x - 1)) / noise

    class Known(nn.Module):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, seen: Tensor) -> Tensor:
            return self.share * true

    assert float(aim.loss(Known(1), x, shown, Y)) < 1e-12
    assert float(aim.loss(Known(0), x, shown, Y)) == pytest.approx(1, rel=0.05)
    torch.testing.assert_close(aim.restored(Known(1), shown, x), x)
    torch.testing.assert_close(aim.spoiled(shown, x), x + noise / signal * true / 2)


@pytest.mark.parametrize("name", ["stability", "logit-guided", "denoise:noise=adversarial"])
def test_objectives_that_ask_a_classifier_say_so(name: str) -> None:
    objective = build_objective(name)
    assert isinstance(objective, Denoising)
    assert objective.needs_guide
    with pytest.raises(InputError, match="asks a trained classifier"):
        objective(nn.Identity(), X, Y, 0)


def test_a_classifier_is_not_trained_as_a_denoiser() -> None:
    with pytest.raises(InputError, match="answers \\(8, 5\\); denoisers are trained by advkit train-denoiser"):
        Denoise()(guide(), X, Y, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("denoise:sigma=0", "denoise: sigma is 0.0"),
        ("denoise:sigma_least=0.5", "denoise: sigma_least is 0.5; give 0 or more, up to sigma"),
        ("denoise:noise=rain", "'rain'"),
        ("stability:sigma=-1", "stability: sigma is -1.0"),
        ("logit-guided:steps=0", "logit-guided: steps is 0"),
        ("noise-prediction:latest=2", "noise-prediction: latest is 2.0"),
    ],
)
def test_objectives_that_cannot_be_followed_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        build_objective(text)


# What ships --------------------------------------------------------------------------------------------------------------


HGD = pytest.param(
    "hgd",
    marks=pytest.mark.skipif(not (EMBEDDED / "denoiser-hgd-signs.safetensors").exists(), reason="not trained yet"),
)


@pytest.mark.parametrize("name", ["dae", "dncnn", "diffusion", HGD])
def test_a_denoiser_for_signs_ships_and_says_how_it_was_made(name: str) -> None:
    path = EMBEDDED / f"denoiser-{name}-signs.safetensors"
    assert path.stat().st_size < 1_500_000
    net, facts = read_denoiser(path)
    assert net.kind == KINDS[name]
    assert facts["data"] == "signs"
    assert facts["recipe"]
    assert facts["measured"]


@pytest.fixture(scope="module")
def signs() -> tuple[nn.Module, Tensor, Tensor]:
    """The shipped classifier, and signs that it was not trained on."""
    data = load_data("signs", samples=64)
    return load_model("resnet", data=data), *data.tensors()


def right(model: nn.Module, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float((model(x).argmax(1) == y).float().mean())


@pytest.mark.parametrize(("name", "sigma", "gain"), [("dncnn", 0.25, 9), ("dae", 0.1, 5), ("dae", 0.05, 2)])
def test_what_ships_takes_noise_away(
    signs: tuple[nn.Module, Tensor, Tensor], name: str, sigma: float, gain: float
) -> None:
    model, x, y = signs
    noisy = x + sigma * Rng.of(0, identify(x)).normal(*x.shape[1:])
    (wrapper,) = build_defense(name)
    left = wrapper(noisy)
    assert 10 * float(((noisy - x).square().mean() / (left - x).square().mean()).log10()) > gain
    if name == "dncnn":
        assert right(model, left, y) > right(model, noisy, y) + 0.15


@pytest.mark.parametrize("name", ["dae", HGD, "diffusion:draws=1"])
def test_what_ships_leaves_signs_to_be_read(signs: tuple[nn.Module, Tensor, Tensor], name: str) -> None:
    model, x, y = signs
    left = right(defend(model, build_defense(name)), x[:32], y[:32])
    assert left > (0.6 if name.startswith("diffusion") else 0.93)


@pytest.mark.parametrize("name", [HGD])
def test_the_guided_denoiser_stops_replayed_examples_and_falls_to_an_attack_that_knows_it(
    signs: tuple[nn.Module, Tensor, Tensor], name: str
) -> None:
    model, x, y = (part[:24] if isinstance(part, Tensor) else part for part in signs)
    defended = defend(model, build_defense(name))
    attack = PGD(Linf(8 / 255), steps=8)
    replayed, adaptive = (attack(asked, x, y, seed=0, keep="last") for asked in (model, defended))
    assert right(model, replayed, y) < 0.2
    assert right(defended, replayed, y) > 0.6
    assert right(defended, adaptive, y) < 0.3


def test_classifiers_are_looked_for_among_classifiers() -> None:
    assert embedded()
    assert all(found.backbone for found in embedded())
