"""What the bridges to other libraries share: from an attack's constructor to an entry of the registry."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import inf
from typing import Any

from advkit.core.attack import Attack, Tells
from advkit.core.external import External
from advkit.core.goal import Diverge, Goal, Targeted
from advkit.core.threat import Ball
from advkit.errors import InputError, MissingExtra, UnknownName
from advkit.numbers import fraction_of, whole_of
from advkit.registry import Entry

__all__ = ["ANY", "Bridge", "Bridged", "Peer", "is_targeted", "kebab"]

ANY: tuple[type[Ball], ...] = Attack.balls
"""Any ball: the engine measures what comes back in it."""

_MEAN_LITTLE_ALONE = ("AutoAttack", "GenAttack")
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Peer:
    """One attack of another library."""

    name: str  # in kebab case
    maker: Callable[..., Any]
    balls: tuple[type[Ball], ...]
    minimal: bool
    """It looks for the nearest adversarial picture and takes no radius."""
    tells: Tells = "gradient"
    settings: Mapping[str, inspect.Parameter] = field(default_factory=dict)
    """What may be set: parameters of its constructor, but for those that the bridge sets."""
    scaled: Mapping[str, float] = field(default_factory=dict)
    """Step sizes in the unit of the radius, as fractions of it: where they are not set, they follow the radius."""


class Bridge(ABC):
    """The attacks of another library by name. It is imported when one of them is asked for, and not before."""

    prefix: str
    package: str
    title: str
    value: type[Bridged]

    @abstractmethod
    def found(self) -> list[Peer]:
        """Import the library and look through its attacks. Raises ImportError where it cannot be imported."""

    def peers(self) -> dict[str, Peer]:
        """Every attack by its name. Raises MissingExtra where the library is not installed."""
        return _peers_of(self)

    def names(self) -> list[str]:
        """Every name with its prefix, sorted."""
        return sorted(f"{self.prefix}:{name}" for name in self.peers())

    def installed(self) -> bool:
        """Whether the library is there; it is not imported."""
        try:
            return bool(version(self.package))
        except PackageNotFoundError:
            return False

    def peer(self, name: str) -> Peer:
        """The attack of a name with its prefix; case, dashes and the word attack at the end do not matter."""
        asked = _squeezed(name.partition(":")[2])
        for own, peer in self.peers().items():
            if _squeezed(own) == asked:
                return peer
        raise UnknownName("attack", name, self.names())

    def entry(self, name: str) -> Entry[Any]:
        """The registry's entry of a name with its prefix."""
        peer = self.peer(name)
        full = f"{self.prefix}:{peer.name}"
        ball = peer.balls[0] if peer.balls != ANY else _usual()
        default = ball(inf if peer.minimal else ball.usual)

        def make(threat: Ball = default, **settings: object) -> Bridged:
            given = {key: _typed(f"{full}: {key}", value, peer.settings[key]) for key, value in settings.items()}
            missing = [key for key, p in peer.settings.items() if p.default is p.empty and key not in given]
            if missing:
                raise InputError(
                    f"{full} needs {', '.join(missing)}; give --set {missing[0]}=VALUE, or settings in Python."
                )
            whole = {key: p.default for key, p in peer.settings.items() if key not in peer.scaled} | given
            return self.value(
                threat, full, tuple(sorted(whole.items())), version(self.package), peer.minimal, peer.tells
            )

        make.__doc__ = f"{self.title}'s {peer.maker.__name__}{', the nearest picture' if peer.minimal else ''}."
        threat = inspect.Parameter("threat", inspect.Parameter.KEYWORD_ONLY, default=default)
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in peer.settings.values()]
        make.__signature__ = inspect.Signature([threat, *parameters])  # type: ignore[attr-defined]
        make.__annotations__ = {"threat": Ball}
        make.balls, make.tells = peer.balls, peer.tells  # type: ignore[attr-defined]
        return Entry(full, make, type(self).__module__)


@cache
def _peers_of(bridge: Bridge) -> dict[str, Peer]:
    try:
        return {peer.name: peer for peer in bridge.found()}
    except ImportError:
        raise MissingExtra(bridge.package, "parity", f"An attack of {bridge.title}") from None


@dataclass(frozen=True)
class Bridged(External):
    """An attack found by a bridge."""

    def __post_init__(self) -> None:
        peer = self.peer
        if not isinstance(self.threat, peer.balls):
            names = ", ".join(ball.__name__ for ball in peer.balls)
            raise InputError(f"{self.name} works in {names}, not in {type(self.threat).__name__}.")
        if not self.minimal and self.threat.eps == inf:
            raise InputError(f"{self.name} needs a radius; {self.threat.label} has none.")

    @property
    def peer(self) -> Peer:
        """What the bridge knows of it."""
        return self.bridge().peer(self.name)

    @classmethod
    @abstractmethod
    def bridge(cls) -> Bridge:
        """The bridge to its library."""

    def arguments(self) -> dict[str, Any]:
        """The settings of the constructor, step sizes in the unit of the radius among them."""
        steps = {key: share * float(self.threat.eps) for key, share in self.peer.scaled.items()}
        return steps | dict(self.settings)

    def made(self, *arguments: object, **more: object) -> Any:
        """The other library's own object. What its constructor refuses is refused in its words."""
        try:
            return self.peer.maker(*arguments, **{**self.arguments(), **more})
        except (TypeError, ValueError, AssertionError) as error:
            raise InputError(
                f"{self.name} refuses its settings: {str(error).rstrip('.') or type(error).__name__}."
            ) from error


def is_targeted(goal: Goal, name: str) -> bool:
    """Whether classes are to be reached, or to be left. Raises InputError for what other libraries know nothing of."""
    if isinstance(goal, Diverge):
        raise InputError(f"{name} moves away from a class or towards one; it knows nothing of distributions.")
    return isinstance(goal, Targeted)


def kebab(name: str) -> str:
    """LinfProjectedGradientDescentAttack -> linf-projected-gradient-descent."""
    name = name.replace("LInf", "Linf").replace("PyTorch", "Pytorch")
    if name not in _MEAN_LITTLE_ALONE:
        name = name.removesuffix("Attack")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower()


def _usual() -> type[Ball]:
    from advkit.core.threat import Linf

    return Linf


def _squeezed(name: str) -> str:
    return name.replace("-", "").replace("_", "").lower().removesuffix("attack")


def _typed(what: str, value: object, parameter: inspect.Parameter) -> object:
    """A value of a setting, read by the type of its default. Raises InputError for another type."""
    default = parameter.default
    if isinstance(default, bool):
        found = _TRUTHS.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(found, bool):
            raise InputError(f"{what} is {value!r}; give true or false.")
        return found
    if isinstance(default, int | float):
        found = _number(value) if isinstance(value, str) else value
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise InputError(f"{what} is {value!r}; give a number such as {default}.")
        if parameter.annotation in (int, "int", "'int'") and not isinstance(found, int):
            raise InputError(f"{what} is {value!r}; give a whole number.")
        return found
    if isinstance(default, str) or not isinstance(value, str):
        return value
    if "," in value:
        return tuple(_guessed(part) for part in value.split(","))
    return _guessed(value)


def _guessed(text: str) -> object:
    """What a text means where no default says its type."""
    if text == "none":
        return None
    number = _number(text)
    return _TRUTHS.get(text.lower(), text) if number is None else number


def _number(text: str) -> int | float | None:
    try:
        return whole_of(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else float(fraction_of(text))
    except (ValueError, ArithmeticError):
        return None
