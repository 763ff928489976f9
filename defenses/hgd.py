"""The high-level guided denoiser in front of a model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._denoisers import UNet
from advkit.defenses._weights import check_weights, cleaned


@DEFENSES.register("hgd", paper="arXiv:1712.02976")
@dataclass(frozen=True)
class HighLevelGuidedDenoiser(Wrapper):
    """High-level guided denoiser, a U-Net trained by a model's logits (Liao et al. 2018).

    Trained by ``logit-guided``: the model that guided it is to answer as it does without the perturbation.
    ``weights`` is auto (those that ship with advkit, trained on its signs) or a file of ``advkit train-denoiser``.
    """

    weights: str = "auto"

    def __post_init__(self) -> None:
        check_weights("hgd", self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Every picture through the network."""
        return cleaned("hgd", UNet, self.weights, x)
