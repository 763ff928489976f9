"""Denoisers learn, leave their guide alone, and are written with all that builds them again."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import conv_net, pictures, seeded
from torch import nn

from advkit.core.defense import Objective
from advkit.data import TensorData
from advkit.defenses._weights import read_denoiser
from advkit.defenses.denoise import Denoise
from advkit.defenses.diffusion import Diffusion
from advkit.defenses.hgd import HighLevelGuidedDenoiser
from advkit.defenses.logit_guided import LogitGuided
from advkit.defenses.noise_prediction import NoisePrediction
from advkit.defenses.stability import Stability
from advkit.defenses.standard import Standard
from advkit.engine.denoise import RECIPE, Trained, train_denoiser
from advkit.errors import InputError, ModelError

SHORT = replace(RECIPE, epochs=12, batch_size=16, learning_rate=0.01, shift=0, ema=0.9, bfloat16=False)


def smooth(count: int, seed: int = 0) -> TensorData:
    """Pictures (3, 16, 16) without a fine grain; where they are bright on the left is their label."""
    coarse = pictures(count, (3, 4, 4), seed=seed, dtype=torch.float32)
    x = F.interpolate(coarse, (16, 16), mode="bilinear").clamp(0, 1)
    return TensorData(x, (coarse[:, 0, :, :2].mean((1, 2)) > coarse[:, 0, :, 2:].mean((1, 2))).long())


DATA, TEST = smooth(96), smooth(32, seed=1)


def guide() -> nn.Module:
    """Exactly the rule that labels were made by, up to the interpolation."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, 2))
    with torch.no_grad():
        left = torch.zeros(3, 16, 16)
        left[0, :, :8], left[0, :, 8:] = 1, -1
        net[1].weight.copy_(torch.stack([-left.flatten(), left.flatten()]) / 4)
        net[1].bias.zero_()
    return net


def trained(tmp_path: Path, objective: Objective, kind: str = "dncnn", **more: object) -> Trained:
    small = {"width": 8, "depth": 4} if kind == "dncnn" else {"width": 4}
    given = {"held_out": TEST, "recipe": SHORT, "settings": small, **more}
    return train_denoiser(DATA, objective, tmp_path / "net.safetensors", denoiser=kind, **given)  # type: ignore[arg-type]


def test_noise_is_taken_away_and_the_classifier_behind_sees_better(tmp_path: Path) -> None:
    asked = guide()
    done = trained(tmp_path, Denoise(sigma=0.3), guide=asked, recipe=replace(SHORT, epochs=30, learning_rate=0.02))
    found = done.restored
    assert found.psnr_spoiled == pytest.approx(-20 * torch.tensor(0.3).log10().item(), abs=0.3)
    assert found.psnr_restored > found.psnr_spoiled + 6
    shares = [found.clean, found.clean_behind, found.spoiled, found.spoiled_behind]
    clean, clean_behind, spoiled, spoiled_behind = (share.value for share in shares if share is not None)
    assert clean > 0.95
    assert clean_behind > 0.85
    assert spoiled_behind >= spoiled
    best = done.training.best
    assert best is not None
    assert best.scores["psnr"] == pytest.approx(found.psnr_restored, abs=0.01)
    assert set(best.scores) == {"psnr", "agreement"}


@pytest.mark.parametrize(("objective", "kind"), [(LogitGuided(steps=1), "unet"), (Stability(), "dncnn")])
def test_a_guided_denoiser_is_chosen_by_how_often_the_guide_keeps_its_answer(
    tmp_path: Path, objective: Objective, kind: str
) -> None:
    asked = guide().train()
    before = copy.deepcopy(asked.state_dict())
    done = trained(tmp_path, objective, kind, guide=asked, recipe=replace(SHORT, epochs=3))
    assert next(iter(done.training.history[0].scores)) == "agreement"
    assert done.training.history[-1].loss < done.training.history[0].loss
    assert isinstance(done.wrapper, HighLevelGuidedDenoiser) == (kind == "unet")
    assert asked.training
    assert all(p.requires_grad and p.grad is None for p in asked.parameters())
    assert all(torch.equal(value, before[name]) for name, value in asked.state_dict().items())


def test_a_diffusion_model_learns_the_noise(tmp_path: Path) -> None:
    done = trained(tmp_path, NoisePrediction(latest=0.3), "diffusion", recipe=replace(SHORT, epochs=30))
    assert done.training.history[0].loss > 0.6
    assert done.training.history[-1].loss < 0.5
    assert done.restored.psnr_restored > done.restored.psnr_spoiled + 3
    assert isinstance(done.wrapper, Diffusion)
    x, _ = TEST.tensors()
    purified = replace(done.wrapper, t=0.3)(x)
    assert float((purified - x).square().mean()) < 0.03
    with pytest.raises(InputError, match=r"know times up to 0\.3"):
        replace(done.wrapper, t=0.31)(x)


def test_the_file_builds_the_network_again(tmp_path: Path) -> None:
    done = trained(tmp_path, Denoise(), recipe=replace(SHORT, epochs=1))
    net, facts = read_denoiser(tmp_path / "net.safetensors")
    x, _ = TEST.tensors()
    torch.testing.assert_close(net(x), done.net(x))
    assert not done.net.training
    assert net.settings == {"channels": 3, "width": 8, "depth": 4}
    assert facts["data"] == "tensors"
    assert facts["sigma"] == "0.25"
    assert "Denoise(sigma=0.25" in facts["recipe"]
    assert "adamw" in facts["recipe"]
    assert facts["measured"].startswith(
        f"PSNR {done.restored.psnr_spoiled:.2f} -> {done.restored.psnr_restored:.2f} dB"
    )
    assert "32 held-out" in facts["measured"]
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_same_seed_gives_the_same_weights_to_the_bit_and_training_goes_on(tmp_path: Path) -> None:
    recipe = replace(SHORT, epochs=1)
    nets = []
    for seed in (1, 1, 2):
        torch.rand(3)  # what the caller draws has no say
        nets.append(trained(tmp_path, Denoise(), recipe=replace(recipe, seed=seed)).net.state_dict())
    one, again, other = nets
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)
    first = trained(tmp_path, Denoise(), recipe=replace(recipe, epochs=6)).restored.psnr_restored
    start = tmp_path / "net.safetensors"
    further = train_denoiser(
        DATA, Denoise(), tmp_path / "b.safetensors", denoiser="dncnn", recipe=recipe, held_out=TEST, start=start
    )
    assert further.restored.psnr_restored > first - 1
    assert f"from {start}" in read_denoiser(further.path)[1]["recipe"]


def test_without_held_out_data_the_last_tenth_is_held_out(tmp_path: Path) -> None:
    trained(tmp_path, Denoise(), held_out=None, recipe=replace(SHORT, epochs=1))
    facts = read_denoiser(tmp_path / "net.safetensors")[1]
    assert "on 87 examples" in facts["recipe"]
    assert "9 held-out" in facts["measured"]


def test_what_does_not_fit_is_refused_by_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    grey = TensorData(pictures(12, (1, 16, 16), dtype=torch.float32), torch.zeros(12).long())
    trained(tmp_path, Denoise(), recipe=replace(SHORT, epochs=1))
    start = tmp_path / "net.safetensors"
    for data, objective, given, said in [
        (DATA, Standard(), {}, "standard trains classifiers"),
        (DATA, Stability(), {}, "stability asks a trained classifier"),
        (DATA, Denoise(noise="adversarial"), {}, "denoise asks a trained classifier"),
        (DATA, NoisePrediction(), {"denoiser": "unet"}, "noise-prediction does not train a denoiser of the kind unet"),
        (DATA, Denoise(), {"denoiser": "diffusion"}, "denoise does not train a denoiser of the kind diffusion"),
        (DATA, Denoise(), {"settings": {"channels": 1}}, "leave them out"),
        (DATA, Denoise(), {"denoiser": "gan"}, "'gan' is not a kind of denoiser"),
        (DATA, Denoise(), {"held_out": grey}, "3 channels and the held-out ones of 1"),
        (grey, Denoise(), {"held_out": grey, "denoiser": "dncnn", "start": start}, "is for pictures of 3 channels"),
        (DATA, Denoise(), {"start": start}, "holds a denoiser of the kind dncnn"),
        (DATA.head(5), Denoise(), {}, "has 5 examples"),
    ]:
        with pytest.raises(InputError, match=r"^[^\n]*\.$") as caught:
            train_denoiser(data, objective, out, **given)  # type: ignore[arg-type]
        assert said in str(caught.value)
    with pytest.raises(InputError, match="does not end so"):
        train_denoiser(DATA, Denoise(), tmp_path / "a.pt")
    with pytest.raises(ModelError, match="there is no weight file"):
        train_denoiser(DATA, Denoise(), out, start=tmp_path / "none.safetensors")
    assert not out.exists()


def test_a_guide_with_batchnorm_is_asked_in_eval_mode() -> None:
    net = seeded(nn.Sequential(nn.BatchNorm2d(3), conv_net(dtype=torch.float32)), dtype=torch.float32)
    x = pictures(4, dtype=torch.float32)
    expected = net(x)
    assert torch.equal(Stability().guided(net.train()).of_guide(x), expected)
    assert net.training
