"""Networks that map a noisy picture to a cleaner one, small enough to ship. Each is built again from its settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.errors import InputError

__all__ = ["Denoiser", "DenoiserName", "DnCNN", "NoiseNet", "UNet", "build_denoiser", "signal_and_noise"]

DenoiserName = Literal["dncnn", "unet", "diffusion"]

_MOST = 1024  # of any setting: a file must not make a machine run out of memory
_FEATURES = 32  # in which a time is spelled


class Denoiser(nn.Module):
    """A network whose ``settings`` are the whole numbers that it is built from again."""

    kind: DenoiserName

    def __init__(self, /, **settings: int) -> None:
        super().__init__()
        for name, value in settings.items():
            if not 1 <= value <= _MOST:
                raise InputError(f"{self.kind}: {name} is {value}; give a whole number from 1 to {_MOST}.")
        self.settings = settings


class DnCNN(Denoiser):
    """Convolutions with BatchNorm that find the noise, which is subtracted (Zhang et al. 2017: 17 layers of 64 channels)."""

    kind: DenoiserName = "dncnn"

    def __init__(self, channels: int = 3, width: int = 32, depth: int = 8) -> None:
        super().__init__(channels=channels, width=width, depth=depth)
        if depth < 2:
            raise InputError(f"dncnn: depth is {depth}; it has a first and a last layer, so give 2 or more.")
        layers: list[nn.Module] = [_conv(channels, width), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [_conv(width, width, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.noise = nn.Sequential(*layers, _conv(width, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Pictures without their noise, (B, C, H, W), not clipped."""
        cleaned: Tensor = x - self.noise(x)
        return cleaned


class UNet(Denoiser):
    """Residual blocks at full, half and quarter size, joined across; what they find is subtracted (Ronneberger et al. 2015)."""

    kind: DenoiserName = "unet"

    def __init__(self, channels: int = 3, width: int = 28) -> None:
        super().__init__(channels=channels, width=width)
        self.body = _Body(channels, width, told=0)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures without their noise, (B, C, H, W), not clipped."""
        cleaned: Tensor = x - self.body(x, None)
        return cleaned


class NoiseNet(Denoiser):
    """A U-Net that is told the time and finds the noise of a diffused picture (Ho et al. 2020)."""

    kind: DenoiserName = "diffusion"

    def __init__(self, channels: int = 3, width: int = 28) -> None:
        super().__init__(channels=channels, width=width)
        self.told = nn.Sequential(
            nn.Linear(_FEATURES, 2 * width), nn.SiLU(), nn.Linear(2 * width, 2 * width), nn.SiLU()
        )
        self.body = _Body(channels, width, told=2 * width)

    def forward(self, shown: Tensor) -> Tensor:
        """The noise, (B, C, H, W), in ``shown``: the diffused picture, and one more channel that holds its time t.

        Without that channel the picture is taken for a clean one, of time 0.
        """
        channels = self.settings["channels"]
        time = shown[:, channels, 0, 0] if shown.shape[1] > channels else shown.new_zeros(len(shown))
        return self.at(shown[:, :channels], time)

    def at(self, diffused: Tensor, time: Tensor) -> Tensor:
        """The noise in pictures at the times (B,), or at one time (1,) that is that of all."""
        octaves = torch.arange(_FEATURES // 2, device=time.device, dtype=time.dtype)
        angles = time[:, None] * (2.0 ** (octaves / 2)) * math.pi  # from half a turn to 90 turns over all of time
        found: Tensor = self.body(diffused, self.told(torch.cat([angles.sin(), angles.cos()], 1)))
        return found


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the picture and of the noise there is at a time in [0, 1]: sqrt(alpha_bar) and sqrt(1 - alpha_bar).

    The variance-preserving process with beta from 0.1 to 20 (Song et al. 2021), on pictures in [-1, 1].
    """
    logarithm = -(0.1 * time + 0.5 * (20 - 0.1) * time**2)
    return (logarithm / 2).exp(), (-torch.expm1(logarithm)).sqrt()


def build_denoiser(kind: str, settings: Mapping[str, object]) -> Denoiser:
    """A denoiser with fresh weights. Raises InputError for a kind or a setting that there is not."""
    known: dict[str, type[Denoiser]] = {"dncnn": DnCNN, "unet": UNet, "diffusion": NoiseNet}
    if kind not in known:
        raise InputError(f"{kind!r} is not a kind of denoiser; known: {', '.join(get_args(DenoiserName))}.")
    names = {"channels", "width", "depth"} if kind == "dncnn" else {"channels", "width"}
    numbers: dict[str, int] = {}
    for name, value in settings.items():
        if name not in names:
            raise InputError(f"{kind} has no setting {name!r}; it has {', '.join(sorted(names))}.")
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{kind}: {name} is {value!r}; give a whole number.")
        numbers[name] = value
    return known[kind](**numbers)


class _Body(nn.Module):
    """The U-Net: widths w, 2w and 3w; sizes that four does not divide are filled up by their last row and column."""

    def __init__(self, channels: int, width: int, told: int) -> None:
        super().__init__()
        half, quarter = 2 * width, 3 * width
        self.enter = _conv(channels, width)
        self.high = _Block(width, told)
        self.down_half = nn.Conv2d(width, half, 2, stride=2)
        self.middle = _Block(half, told)
        self.down_quarter = nn.Conv2d(half, quarter, 2, stride=2)
        self.low = _Block(quarter, told)
        self.up_half = nn.ConvTranspose2d(quarter, half, 2, stride=2)
        self.middle_again = _Block(half, told)
        self.up_full = nn.ConvTranspose2d(half, width, 2, stride=2)
        self.high_again = _Block(width, told)
        self.leave = _conv(width, channels)
        # At first it finds nothing: a classifier behind sees the picture, and its gradient is of use from the first step.
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        height, width = x.shape[2:]
        high = self.high(self.enter(F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")), told)
        middle = self.middle(self.down_half(high), told)
        low = self.low(self.down_quarter(middle), told)
        middle = self.middle_again(self.up_half(low) + middle, told)
        high = self.high_again(self.up_full(middle) + high, told)
        found: Tensor = self.leave(high)
        return found[:, :, :height, :width]


class _Block(nn.Module):
    """x plus two convolutions of it; ``told`` numbers about the picture move the channels between the two."""

    def __init__(self, width: int, told: int) -> None:
        super().__init__()
        self.first, self.norm = _conv(width, width, bias=False), nn.BatchNorm2d(width)
        self.second = _conv(width, width)
        self.told = nn.Linear(told, width) if told else None

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:
        inside = self.norm(self.first(x))
        if self.told is not None and told is not None:
            inside = inside + self.told(told)[:, :, None, None]
        return x + self.second(F.silu(inside))  # type: ignore[no-any-return]


def _conv(entering: int, leaving: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 3, padding=1, bias=bias)
