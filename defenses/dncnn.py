"""DnCNN in front of a model, which makes it one to certify by smoothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from advkit.catalog import DEFENSES
from advkit.core.defense import Wrapper
from advkit.defenses._denoisers import DnCNN
from advkit.defenses._weights import check_weights, cleaned


@DEFENSES.register("dncnn", paper="arXiv:2003.01908")
@dataclass(frozen=True)
class DnCNNDenoiser(Wrapper):
    """DnCNN trained on Gaussian noise, for denoised smoothing (Salman et al. 2020).

    In front of a model that never saw noise, it makes smoothing certify something: ``--defense dncnn --by smoothing``.
    ``weights`` is auto (those that ship with advkit, trained on its signs) or a file of ``advkit train-denoiser``.
    """

    weights: str = "auto"

    def __post_init__(self) -> None:
        check_weights("dncnn", self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        """Every picture through the network."""
        return cleaned("dncnn", DnCNN, self.weights, x)
