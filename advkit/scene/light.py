"""Light: sRGB values and linear light, and how a sign is lit."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.core.types import expand
from advkit.errors import InputError

__all__ = ["linear", "percentile_light", "relight", "srgb"]

_DARK = 1e-8  # of light: below it the root's slope is held, or it would be infinite at black


def linear(value: Tensor) -> Tensor:
    """Linear light of sRGB values in [0, 1], by the square."""
    return value * value


class _Root(torch.autograd.Function):
    """The square root with a slope that stays finite at 0."""

    @staticmethod
    def forward(light: Tensor) -> Tensor:
        # Through float64, where there is something finer: the root of a square is then the value itself, to the last bit.
        return light.double().sqrt().to(light.dtype)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        root: Tensor = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        return grad / (2 * root.clamp(min=_DARK**0.5))


def srgb(light: Tensor) -> Tensor:
    """sRGB values of linear light, which is cut to [0, 1] first. The inverse of ``linear``, to the last bit."""
    root: Tensor = _Root.apply(light.clamp(0.0, 1.0))
    return root


def relight(light: Tensor, gain: Tensor, bias: Tensor, cover: Tensor | None = None) -> Tensor:
    """Light (B, 3, H, W) times ``gain`` (B, 3) plus ``bias`` (B,), never below 0; ``cover`` where it is premultiplied."""
    gain, bias = gain.to(light.dtype)[..., None, None], expand(bias.to(light.dtype), light)
    return (gain * light + (bias if cover is None else bias * cover)).clamp(min=0.0)


def percentile_light(light: Tensor, mask: Tensor, share: float = 0.2) -> tuple[Tensor, Tensor]:
    """The gain (B, 3) and bias (B,) that a sign is lit by, from its own pixels (REAP: Hingun et al. 2023).

    The darkest and the brightest ``share`` of the masked pixels of light (B, 3, H, W) are taken for black and white:
    gain is their difference and bias the darker one, both common to the channels. ``mask`` (B, H, W), true on the sign.
    """
    if not 0 <= share < 0.5:
        raise InputError(f"percentile_light: share is {share}; give one from 0 to below 0.5.")
    if not bool(mask.flatten(1).any(1).all()):
        raise InputError("percentile_light: a mask holds no pixel of the sign.")
    hidden = light.masked_fill(~mask[:, None].bool(), float("nan")).flatten(1)
    ends = torch.nanquantile(hidden.double(), torch.tensor([share, 1 - share], dtype=torch.float64), dim=1)
    dark, bright = ends.to(light.dtype)
    return (bright - dark)[:, None].expand(-1, 3), dark
