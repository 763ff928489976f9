"""Every attack of torchattacks (Kim 2020) as ``torchattacks:NAME``."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks._bridge import ANY, Bridge, Bridged, Peer, is_targeted, kebab
from advkit.core.attack import Tells
from advkit.core.goal import Goal
from advkit.core.threat import L0, L1, L2, Ball, Linf
from advkit.errors import InputError

__all__ = ["BRIDGE"]

_NEEDS_OTHERS = {"MultiAttack", "LGV"}  # made of attacks, or of training pictures
_RADII = ("eps", "max_epsilon", "pixels")
_STEPS = ("alpha",)
_SET_HERE = {"model", "norm", *_RADII, "verbose", "seed"}
_NEAREST: dict[str, type[Ball]] = {
    "CW": L2, "DeepFool": L2, "SparseFool": L0, "JSMA": L0, "Pixle": L0, "EADL1": L1, "EADEN": L1,
}  # fmt: skip
_IN_NORMS: dict[str, tuple[type[Ball], ...]] = {"FAB": (Linf, L2, L1)}
_TELLS: dict[str, Tells] = {
    "Square": "scores", "SPSA": "scores", "OnePixel": "scores", "Pixle": "scores", "GN": "decisions", "VANILA": "decisions",
}  # fmt: skip


@dataclass(frozen=True)
class TorchAttacks(Bridged):
    """An attack of torchattacks."""

    @classmethod
    def bridge(cls) -> Bridge:
        """That of torchattacks."""
        return BRIDGE

    def perturb(self, model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
        """As calling the attack gives it; an ``alpha`` that is not set keeps its proportion to the radius."""
        parameters = inspect.signature(self.peer.maker).parameters
        eps = float(self.threat.eps)
        more: dict[str, Any] = {key: eps for key in ("eps", "max_epsilon") if key in parameters and not self.minimal}
        if "pixels" in parameters:
            more["pixels"] = int(eps)
        if "norm" in parameters:
            more["norm"] = type(self.threat).__name__
        if "n_classes" in parameters:
            with torch.no_grad():
                more["n_classes"] = model(x[:1]).shape[1]
        if "seed" in parameters:
            more["seed"] = int(torch.randint(2**31 - 1, ()))  # its own would be the same for every batch
        attack = self.made(model, **more)
        attack.device = x.device
        if is_targeted(goal, self.name):
            if "targeted" not in attack.supported_mode:
                raise InputError(f"{self.name} cannot be targeted.")
            attack.set_mode_targeted_by_label(quiet=True)
        found: Tensor = attack(x, goal.classes)
        return found


class _TorchAttacks(Bridge):
    prefix, package, title, value = "torchattacks", "torchattacks", "torchattacks", TorchAttacks

    def found(self) -> list[Peer]:
        """What ``torchattacks`` exports, but for what is made of other attacks."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import torchattacks
        return [_peer(name, getattr(torchattacks, name)) for name in torchattacks.__all__ if name not in _NEEDS_OTHERS]


def _peer(name: str, maker: Any) -> Peer:
    parameters = inspect.signature(maker).parameters
    radius = next((key for key in _RADII if key in parameters), None)
    usual = parameters[radius].default if radius is not None else None
    scaled = {key: parameters[key].default / usual for key in _STEPS if key in parameters and usual}
    hidden = _SET_HERE | ({"n_classes"} if "n_classes" in parameters else set())
    settings = {key: p for key, p in parameters.items() if key not in hidden}
    minimal = radius is None
    return Peer(
        kebab(name), maker, _balls(name, parameters, minimal), minimal, _TELLS.get(name, "gradient"), settings, scaled
    )


def _balls(name: str, parameters: Any, minimal: bool) -> tuple[type[Ball], ...]:
    if minimal:
        return (_NEAREST[name],) if name in _NEAREST else ANY
    if "pixels" in parameters:
        return (L0,)
    if "norm" in parameters:
        return _IN_NORMS.get(name, (Linf, L2))
    return (L2,) if name.endswith("L2") else (Linf,)


BRIDGE = _TorchAttacks()
