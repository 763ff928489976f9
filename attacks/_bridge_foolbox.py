"""Every attack of Foolbox (Rauber et al. 2017, 2020) as ``foolbox:NAME``; and an advkit model as one of Foolbox's."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks._bridge import ANY, Bridge, Bridged, Peer, is_targeted, kebab
from advkit.core.goal import Goal
from advkit.core.threat import L0, L1, L2, Ball, Linf
from advkit.errors import InputError, MissingExtra, ModelError

__all__ = ["BRIDGE", "foolbox_model"]

_SET_HERE = {"distance", "init_attack", "tensorboard", "constraint"}
_NOT_PICTURES = {"DatasetAttack", "SpatialAttack"}  # needs other pictures; moves and turns them, which no norm measures
_FROM_A_START = ("HopSkipJump", "BoundaryAttack", "BrendelBethge", "Pointwise", "BinarizationRefinement")
_BY_DECISIONS = (
    "Boundary", "HopSkipJump", "Pointwise", "Noise", "Contrast", "Blur", "Inversion", "Binarization",
)  # fmt: skip
_CONSTRAINTS: dict[type[Ball], str] = {L2: "l2", Linf: "linf"}


@dataclass(frozen=True)
class Foolbox(Bridged):
    """An attack of Foolbox."""

    @classmethod
    def bridge(cls) -> Bridge:
        """Foolbox's."""
        return BRIDGE

    def perturb(self, model: nn.Module, x: Tensor, goal: Goal) -> Tensor:
        """As ``run`` of Foolbox's attack gives it, before it is clipped."""
        foolbox: Any = import_module("foolbox")
        named = foolbox_model(model, x.device)
        maker = self.peer.maker
        criteria = foolbox.criteria
        kind = criteria.TargetedMisclassification if is_targeted(goal, self.name) else criteria.Misclassification
        more: dict[str, Any] = {}
        if "constraint" in inspect.signature(maker).parameters:
            more["constraint"] = _CONSTRAINTS[type(self.threat)]
        attack = self.made(**more)
        try:
            if not self.minimal:
                return _run(attack, named, x, kind(goal.classes), epsilon=float(self.threat.eps))
            if not any(part in maker.__name__ for part in _FROM_A_START):
                return _run(attack, named, x, kind(goal.classes))
            # Where none of the directions that are tried leads to a start, Foolbox gives up the whole batch.
            first = foolbox.attacks.LinearSearchBlendedUniformNoiseAttack(steps=50)
            start = _run(first, named, x, kind(goal.classes))
            with torch.no_grad():
                begun = goal.reached(model(start)).nonzero().squeeze(1)
            if not len(begun):
                return x
            found = _run(attack, named, x[begun], kind(goal.classes[begun]), starting_points=start[begun])
            return x.index_put((begun,), found)
        except ValueError as error:
            if "unsupported criterion" not in str(error):
                raise
            aim = (
                "cannot be targeted"
                if is_targeted(goal, self.name)
                else "must be targeted: give --targeted or --target"
            )
            raise InputError(f"{self.name} {aim}.") from error


def _run(attack: Any, model: Any, x: Tensor, criterion: Any, **more: object) -> Tensor:
    found: Tensor = attack.run(model, x, criterion, **more)
    return found


class _Foolbox(Bridge):
    prefix, package, title, value = "foolbox", "foolbox", "Foolbox", Foolbox

    def found(self) -> list[Peer]:
        """The concrete classes that ``foolbox.attacks`` exports, aliases too."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attacks: Any = import_module("foolbox.attacks")
            fixed, nearest = attacks.base.FixedEpsilonAttack, attacks.base.MinimizationAttack
            names = [
                name
                for name, each in vars(attacks).items()
                if inspect.isclass(each) and issubclass(each, (fixed, nearest)) and not inspect.isabstract(each)
                if each.__name__ not in _NOT_PICTURES
            ]
            return [_peer(name, getattr(attacks, name), issubclass(getattr(attacks, name), nearest)) for name in names]


def _peer(name: str, maker: Any, minimal: bool) -> Peer:
    parameters = inspect.signature(maker).parameters
    settings = {
        key: p
        for key, p in parameters.items()
        if key not in _SET_HERE and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    tells: Any = "gradient"
    if any(part in maker.__name__ for part in _BY_DECISIONS):
        tells = "decisions"
    elif maker.__name__ == "GenAttack":
        tells = "scores"
    balls = tuple(_CONSTRAINTS) if "constraint" in parameters else _balls(maker, settings)
    return Peer(kebab(name), maker, balls, minimal, tells, settings)


def _balls(maker: Any, settings: dict[str, inspect.Parameter]) -> tuple[type[Ball], ...]:
    """That of the distance that the attack declares; any where it declares none, for the engine measures what comes back."""
    distance: Any = getattr(maker, "distance", None)
    if isinstance(distance, property):
        needed = {key: 1 for key, p in settings.items() if p.default is p.empty}
        try:
            distance = maker(**needed).distance
        except (ValueError, AttributeError):  # one that is given by the caller, and was not
            distance = None
    of: dict[str, type[Ball]] = {"0": L0, "1": L1, "2": L2, "inf": Linf}
    ball = of.get(str(getattr(distance, "p", "")))
    return ANY if ball is None else (ball,)


BRIDGE = _Foolbox()


def foolbox_model(model: nn.Module, device: torch.device | str | None = None) -> Any:
    """The model as ``foolbox.PyTorchModel`` with bounds (0, 1), to be given to Foolbox's own attacks.

    An advkit model normalises inside, so there is no preprocessing. ``device`` is, by default, where the weights are.
    Raises MissingExtra where Foolbox is not installed.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the model was given as {type(model).__name__}; give a torch module, or what load_model returns."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            foolbox: Any = import_module("foolbox")
    except ImportError:
        raise MissingExtra("foolbox", "parity", "A model of Foolbox") from None
    weight = next(chain(model.parameters(), model.buffers()), None)
    place = device if device is not None else "cpu" if weight is None else weight.device
    return foolbox.PyTorchModel(model, bounds=(0, 1), device=place)
