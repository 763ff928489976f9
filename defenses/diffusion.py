"""A diffusion model that purifies what a model is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from advkit.catalog import DEFENSES
from advkit.core.defense import RandomWrapper
from advkit.core.rng import Rng
from advkit.defenses._denoisers import NoiseNet, signal_and_noise
from advkit.defenses._weights import Rows, check_weights, denoiser, number
from advkit.errors import InputError


@DEFENSES.register("diffusion", paper="arXiv:2205.07460")
@dataclass(frozen=True)
class Diffusion(RandomWrapper):
    """Diffusion purification: noise up to the time ``t``, then ``steps`` back (DiffPure: Nie et al. 2022).

    ``eta`` 1 draws in every step back, as the process does (Ho et al. 2020); 0 draws none there (DDIM: Song et al. 2021).
    The gradient passes through the whole chain; its steps are computed a second time instead of being kept.
    ``weights`` is auto (those that ship with advkit, trained on its signs) or a file of ``advkit train-denoiser``.
    """

    draws: int = 4
    t: float = 0.1  # of 1, where nothing is left of the picture
    steps: int = 5
    eta: float = 1.0
    weights: str = "auto"

    def __post_init__(self) -> None:
        if self.draws < 1 or self.eot < 0:
            raise InputError(f"diffusion: draws is {self.draws} and eot {self.eot}; give at least 1 and at least 0.")
        if not 0 < self.t <= 1:
            raise InputError(f"diffusion: t is {self.t}; give a time above 0 and at most 1, such as 0.1.")
        if self.steps < 1:
            raise InputError(f"diffusion: steps is {self.steps}; give 1 or more.")
        if not 0 <= self.eta <= 1:
            raise InputError(f"diffusion: eta is {self.eta}; give a number from 0 to 1.")
        check_weights("diffusion", self.weights)

    def drawn(self, x: Tensor, rng: Rng) -> Tensor:
        """The pictures as the reverse process leaves them, clipped to [0, 1]."""
        net, facts = denoiser("diffusion", NoiseNet, self.weights, x)
        latest = number(facts, "latest", 1.0)
        if self.t > latest:
            raise InputError(f"diffusion: t is {self.t}, and the weights know times up to {latest}; give no more.")
        rows = Rows.of(x, net)
        times = torch.linspace(self.t, 0, self.steps + 1, dtype=torch.float64)
        signals, noises = (levels.tolist() for levels in signal_and_noise(times))

        def noise(step: int) -> Tensor:
            return rows.split(rng.fold(step).normal(*rows.wide, dtype=rows.working))

        def back(diffused: Tensor, step: int) -> Tensor:
            """One step of the reverse process, to the next of the times."""
            signal, noisy, signal_then, noisy_then = signals[step], noises[step], signals[step + 1], noises[step + 1]
            found = net.at(diffused, diffused.new_full((1,), float(times[step])))
            picture = (diffused - noisy * found) / signal
            spread = self.eta * noisy_then / noisy * math.sqrt(1 - (signal / signal_then) ** 2)
            further: Tensor = signal_then * picture + math.sqrt(max(0.0, noisy_then**2 - spread**2)) * found
            return further + spread * noise(step + 1) if spread else further

        diffused = signals[0] * rows.split(2 * x - 1) + noises[0] * noise(0)
        for step in range(self.steps):
            if torch.is_grad_enabled() and diffused.requires_grad:
                # Of a step only its start is kept, so that memory does not grow with what the network holds.
                diffused = checkpoint(back, diffused, step, use_reentrant=False, preserve_rng_state=False)
            else:
                diffused = back(diffused, step)
        return rows.join((diffused + 1) / 2).clamp(0, 1)
