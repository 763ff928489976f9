"""Train a diffusion model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.catalog import DEFENSES
from advkit.core.rng import Rng, identify
from advkit.core.types import expand
from advkit.defenses._denoisers import signal_and_noise
from advkit.defenses._denoising import Denoising
from advkit.errors import InputError


@DEFENSES.register("noise-prediction", paper="arXiv:2006.11239")
@dataclass(frozen=True)
class NoisePrediction(Denoising):
    """Trains a diffusion model: squared error to the noise of a diffused picture (Ho et al. 2020).

    Times are drawn up to ``latest``: one that only purifies needs none that leave nothing of the picture.
    """

    latest: float = 0.3  # of 1

    def __post_init__(self) -> None:
        if not 0 < self.latest <= 1:
            raise InputError(f"noise-prediction: latest is {self.latest}; give a time above 0 and at most 1.")

    def examples(self, model: nn.Module, x: Tensor, y: Tensor, seed: int, memory: Tensor | None = None) -> Tensor:
        """Diffused pictures in [-1, 1] plus noise, and one more channel that holds the time: (B, C + 1, H, W)."""
        rng = Rng.of(seed, identify(x))
        time = expand(self.latest * rng.fold("time").uniform(dtype=x.dtype), x)
        signal, noise = signal_and_noise(time)
        diffused = signal * (2 * x - 1) + noise * rng.fold("noise").normal(*x.shape[1:], dtype=x.dtype)
        return torch.cat([diffused, time.expand(len(x), 1, *x.shape[2:])], 1)

    def loss(self, model: nn.Module, x: Tensor, shown: Tensor, y: Tensor) -> Tensor:
        """Mean squared error over pixels and pictures."""
        diffused, signal, noise = _parts(shown)
        return F.mse_loss(self.cleaned(model, shown, x), (diffused - signal * (2 * x - 1)) / noise)

    def spoiled(self, shown: Tensor, x: Tensor) -> Tensor:
        """The diffused pictures at the scale of the picture."""
        diffused, signal, _ = _parts(shown)
        return (diffused / signal + 1) / 2

    def restored(self, model: nn.Module, shown: Tensor, x: Tensor) -> Tensor:
        """The picture that the predicted noise leaves, in one step."""
        diffused, signal, noise = _parts(shown)
        return ((diffused - noise * self.cleaned(model, shown, x)) / signal + 1) / 2


def _parts(shown: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Diffused pictures, and how much signal and noise (B, 1, 1, 1) is in them."""
    return shown[:, :-1], *signal_and_noise(shown[:, -1:, :1, :1])
