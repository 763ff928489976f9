"""A denoising autoencoder in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._denoisers import UNet
from advkit.defenses._weights import check_weights, cleaned


@DEFENSES.register("dae", paper="arXiv:1412.5068")
@dataclass(frozen=True)
class DenoisingAutoencoder(Wrapper):
    """Denoising autoencoder, a U-Net trained to undo noise (Gu & Rigazio 2015).

    Trained by ``denoise``: the squared error to the picture without its noise.
    ``weights`` is auto (those that ship with advkit, trained on its signs) or a file of ``advkit train-denoiser``.
    """

    weights: str = "auto"

    def __post_init__(self) -> None:
        check_weights("dae", self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Every picture through the network."""
        return cleaned("dae", UNet, self.weights, x)
