"""The evasion attacks of ART (Nicolae et al. 2018) on classifiers of pictures as ``art:NAME``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advkit.attacks._bridge import ANY, Bridge, Bridged, Peer, is_targeted, kebab
from advkit.core.attack import Tells
from advkit.core.goal import Goal
from advkit.core.threat import L0, L1, L2, Ball, Linf
from advkit.errors import InputError

__all__ = ["BRIDGE"]

_STEPS = ("eps_step",)
_SET_HERE = {
    "self", "estimator", "classifier", "norm", "eps", "targeted", "verbose", "batch_size", "summary_writer", "estimator_orig",
}  # fmt: skip
# They make patches, change tables, films or colours by laws of their own, or work on another library's models.
_NO_PICTURES_IN_A_BALL = (
    "AdversarialPatch", "TensorFlow", "LowProFool", "Flickering", "FeatureAdversaries", "Composite", "SpatialTransformation",
    "Wasserstein",
)  # fmt: skip
_OF_PROBABILITIES = ("SimBA", "VirtualAdversarialMethod")
_TOLD_TARGETS = ("SaliencyMapMethod", "TargetedUniversalPerturbation")  # take every label for a target
_NEAREST: dict[str, type[Ball]] = {
    "DeepFool": L2, "CarliniL2Method": L2, "CarliniLInfMethod": Linf, "CarliniL0Method": L0, "ElasticNet": L1,
    "NewtonFool": L2, "BoundaryAttack": L2, "ZooAttack": L2, "SaliencyMapMethod": L0, "PixelAttack": L0,
    "ThresholdAttack": Linf, "SignOPTAttack": L2,
}  # fmt: skip
_FIXED: dict[str, type[Ball]] = {"BasicIterativeMethod": Linf, "VirtualAdversarialMethod": L2}
_TELLS: dict[str, Tells] = {
    "SquareAttack": "scores", "ZooAttack": "scores", "SimBA": "scores", "PixelAttack": "scores", "ThresholdAttack": "scores",
    "BoundaryAttack": "decisions", "HopSkipJump": "decisions", "SignOPTAttack": "decisions", "GeoDA": "decisions",
}  # fmt: skip
_NORMS: dict[type[Ball], float] = {Linf: np.inf, L2: 2, L1: 1}


@dataclass(frozen=True)
class ART(Bridged):
    """An attack of ART."""

    @classmethod
    def bridge(cls) -> Bridge:
        """ART's."""
        return BRIDGE

    def perturb(self, model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
        """As ``generate`` gives it; an ``eps_step`` that is not set keeps its proportion to the radius."""
        classification: Any = import_module("art.estimators.classification")
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        likely = self.peer.maker.__name__ in _OF_PROBABILITIES
        estimator = classification.PyTorchClassifier(
            nn.Sequential(model, nn.Softmax(1)) if likely else model,
            loss=nn.CrossEntropyLoss(),
            input_shape=tuple(x.shape[1:]),
            nb_classes=classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        parameters = inspect.signature(self.peer.maker).parameters
        targeted, told = is_targeted(goal, self.name), self.peer.maker.__name__ in _TOLD_TARGETS
        if targeted and not told and "targeted" not in parameters:
            raise InputError(f"{self.name} cannot be targeted.")
        known = {
            "norm": _NORMS.get(type(self.threat), np.inf),
            "eps": float(self.threat.eps),
            "targeted": targeted,
            "verbose": False,
            "batch_size": len(x),
        }
        if self.peer.maker.__name__ == "SimBA":
            del known["batch_size"]  # it takes no other than its own
        more = {key: value for key, value in known.items() if key in parameters}
        with _as_numpy_was():
            attack = self.made(estimator, **more)
            labels = nn.functional.one_hot(goal.classes, classes).cpu().numpy().astype(np.float32)
            given = labels if targeted or not told else None
            found = attack.generate(x=x.detach().cpu().numpy().astype(np.float32), y=given)
        return torch.from_numpy(np.ascontiguousarray(found)) if isinstance(found, np.ndarray) else x[:0]


@contextmanager
def _as_numpy_was() -> Iterator[None]:
    """A few of ART's attacks ask numpy for a function that 2.0 removed: it is lent to them, and taken back."""
    if hasattr(np, "asfarray"):
        yield
        return
    name, numpy = "asfarray", vars(np)
    numpy[name] = lambda values, dtype=np.float64: np.asarray(values, dtype=dtype)
    try:
        yield
    finally:
        del numpy[name]


class _Art(Bridge):
    prefix, package, title, value = "art", "adversarial-robustness-toolbox", "ART", ART

    def found(self) -> list[Peer]:
        """The evasion attacks whose demands a PyTorchClassifier meets."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attacks: Any = import_module("art.attacks")
            evasion: Any = import_module("art.attacks.evasion")
            classification: Any = import_module("art.estimators.classification")

        def demands(maker: Any) -> Any:
            return maker._estimator_requirements

        makers = {
            name: each
            for name, each in vars(evasion).items()
            if inspect.isclass(each) and issubclass(each, attacks.EvasionAttack) and not inspect.isabstract(each)
            if not any(word in name for word in _NO_PICTURES_IN_A_BALL)
            if all(issubclass(classification.PyTorchClassifier, demand) for demand in demands(each))
        }
        peers = [_peer(name, maker) for name, maker in makers.items()]
        return [peer for peer in peers if all(p.default is not p.empty for p in peer.settings.values())]


def _peer(name: str, maker: Any) -> Peer:
    parameters = inspect.signature(maker).parameters
    usual = parameters["eps"].default if "eps" in parameters else None
    scaled = {key: parameters[key].default / usual for key in _STEPS if key in parameters and usual}
    settings = {key: p for key, p in parameters.items() if key not in _SET_HERE}
    if name in _NEAREST:
        balls: tuple[type[Ball], ...] = (_NEAREST[name],)
    elif "norm" in parameters:
        balls = (L2, Linf) if parameters["norm"].default == 2 else (Linf, L2, L1)
    else:
        balls = (_FIXED[name],) if name in _FIXED else ANY
    return Peer(kebab(name), maker, balls, "eps" not in parameters, _TELLS.get(name, "gradient"), settings, scaled)


BRIDGE = _Art()
