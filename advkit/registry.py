"""The only place that turns strings into code: a name, looked up, becomes a value. Imports no torch.

A registry knows nothing of its entries. It imports the modules of one package (so that a new file there is a new entry)
and the third-party packages that registered an entry point in its group, and it lets each entry describe itself: the
settings are the parameters of its factory, the summary is the first line of its docstring.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import numbers
import pkgutil
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, wraps
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from advkit.errors import InputError, UnknownName, nearest
from advkit.numbers import MOST, fraction_of, shortened, whole_of

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["Checked", "Entry", "Registry"]


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered thing: its name, what makes it, and facts for the lists (``paper`` ...)."""

    name: str
    factory: Callable[..., T]
    module: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the factory's docstring, without its markup."""
        return (inspect.getdoc(self.factory) or "").partition("\n")[0].replace("``", "")

    @property
    def settings(self) -> dict[str, inspect.Parameter]:
        """What can be set, by name."""
        parameters = inspect.signature(self.factory).parameters.values()
        return {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}

    def create(self, /, **settings: object) -> T:
        """Make the thing; texts among the settings are read by the type that the factory declares."""
        return self.factory(**self.read(settings))

    def read(self, settings: Mapping[str, object]) -> dict[str, object]:
        """The settings as the factory declares them. Raises InputError for one that it lacks, or of another type."""
        known = self.settings
        hints = _hints(self.factory)
        values = {}
        for key, value in settings.items():
            if key not in known:
                raise InputError(
                    f"{self.name} has no setting {key!r}.{nearest(key, known)} Known: {', '.join(known) or 'none'}."
                )
            what, hint = f"{self.name}: {key}", hints.get(key, Any)
            most = _most(key)
            values[key] = (
                _read(what, value, hint, most) if isinstance(value, str) else _fitting(what, value, hint, most)
            )
        return values


class Registry(Generic[T]):
    """Names of one kind of thing (``kind``), found in the modules of ``package`` and in an entry-point group.

    ``makes`` names the type: settings declared with it are looked up here. ``chain`` names the class that chains things.
    ``bridges`` names, by prefix, modules whose ``BRIDGE`` finds entries such as ``foolbox:pgd`` in another library, which is
    imported when one of them is asked for; ``names`` and ``entries`` leave them out.
    """

    _all: typing.ClassVar[dict[str, Registry[Any]]] = {}

    def __init__(
        self,
        kind: str,
        package: str,
        *,
        makes: str = "",
        group: str = "",
        chain: str = "",
        bridges: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self._chain = chain
        self._bridges = dict(bridges or {})
        self._package = package
        self._group = group
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False
        if makes:
            Registry._all[makes] = self

    def register(self, name: str, **facts: str) -> Callable[[F], F]:
        """Decorate a class or function: it makes what ``name`` stands for."""

        def add(factory: F) -> F:
            old = self._entries.get(name)
            if old is not None:
                raise RuntimeError(
                    f"the {self.kind} {name!r} is registered twice, by {old.module} and by {factory.__module__}. "
                    f"Import it as {self._package}.{factory.__module__.rpartition('.')[2]}, and under one name only."
                )
            self._entries[name] = Entry(name, factory, factory.__module__, facts)
            return factory

        return add

    def __getitem__(self, name: str) -> Entry[T]:
        if (bridge := self._bridge_of(name)) is not None:
            found: Entry[T] = bridge.entry(name)
            return found
        self._load()
        if name not in self._entries:
            raise UnknownName(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        if (bridge := self._bridge_of(name)) is not None:
            try:
                return bool(bridge.entry(name))
            except InputError:
                return False
        self._load()
        return name in self._entries

    def names(self) -> list[str]:
        """Every name, sorted."""
        self._load()
        return sorted(self._entries)

    def entries(self) -> list[Entry[T]]:
        """Every entry, sorted by name."""
        return [self[name] for name in self.names()]

    def bridged(self) -> list[Entry[T]]:
        """The entries in other libraries, of those that are installed; this imports them."""
        bridges = [importlib.import_module(module).BRIDGE for module in self._bridges.values()]
        return [bridge.entry(name) for bridge in bridges if bridge.installed() for name in bridge.names()]

    def _bridge_of(self, name: str) -> Any:
        """The bridge that a name's prefix asks for, or None."""
        prefix, colon, _ = name.partition(":")
        module = self._bridges.get(prefix) if colon else None
        return None if module is None else importlib.import_module(module).BRIDGE

    def create(self, name: str, /, **settings: object) -> T:
        """Look up a name and make the thing; where things can be chained, ``a+b`` makes the chain."""
        if self._chain and "+" in name:
            parts = tuple(self.create(part) for part in name.split("+"))
            chained: T = getattr(importlib.import_module(self._package), self._chain)(parts)
            return chained
        return self[name].create(**settings)

    def build(self, text: str, /, **more: object) -> T:
        """Make the thing that a text describes: ``jpeg``, ``jpeg:75`` (by place) or ``jpeg:quality=75`` (by name).

        ``more`` settings are given beside the text.
        """
        name, _, arguments = text.partition(":")
        entry = self[name]
        places = list(entry.settings)
        given: dict[str, object] = dict(more)
        for place, argument in enumerate(filter(None, arguments.split(","))):
            key, equals, value = argument.partition("=")
            if not equals or not key.replace("-", "_").isidentifier():  # by its place; an address may hold an = too
                if place >= len(places):
                    raise InputError(
                        f"the {self.kind} {text!r} has more settings than {name} takes "
                        f"({len(places)}: {', '.join(places) or 'none'})."
                    )
                key, value = places[place], argument
            key = key.replace("-", "_")
            if key in given:
                raise InputError(f"the {self.kind} {text!r} says {key} twice; say it once.")
            given[key] = value
        return entry.create(**given)

    def name_of(self, value: object) -> str:
        """The name under which the class of ``value`` is registered or was found, else the class's own name."""
        self._load()
        known = next((e.name for e in self._entries.values() if e.factory is type(value)), None)
        given = str(getattr(value, "name", ""))
        return known or (given if given.partition(":")[0] in self._bridges else type(value).__name__)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", [])):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self._package}.{module.name}")
        for point in entry_points(group=self._group) if self._group else ():
            try:
                point.load()
            except Exception as error:  # a broken plugin must not take the toolkit down, nor pass unseen
                warnings.warn(f"the plugin {point.name!r} ({point.value}) cannot be loaded: {error}", stacklevel=2)


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    """The declared types of the settings. A dataclass's are those of its fields, which may stand in a base's module."""
    if dataclasses.is_dataclass(factory):
        return typing.get_type_hints(factory)
    target = factory.__init__ if inspect.isclass(factory) else factory
    return typing.get_type_hints(target)


def _read(what: str, text: str, hint: Any, most: float) -> object:
    """Read a text as the declared type; types with a registry of their own are looked up there."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        if text == "none" and len(kinds) < len(typing.get_args(hint)):
            return None
        hint = kinds[0]
    registry = Registry._all.get(getattr(hint, "__name__", ""))
    if registry is not None:
        return registry.create(text)
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        if text not in allowed:
            raise InputError(f"{what} is {text!r};{nearest(text, allowed)} allowed: {', '.join(map(str, allowed))}.")
        return text
    try:
        if hint is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if hint is int:
            return _checked(what, whole_of(text), hint, most)
        if hint is float:
            return float(fraction_of(text))
    except InputError:
        raise
    except (ValueError, KeyError, ArithmeticError):
        raise InputError(f"{what} is {shortened(text)}; give {_PLAIN[hint]}.") from None
    return text


def _fitting(what: str, value: Any, hint: Any, most: float) -> object:
    """A value that is no text, if it is of the declared type; a whole number will do where a number is declared."""
    if isinstance(value, list):  # files know no tuples
        value = tuple(value)
    if not isinstance(value, bool | int | float | tuple):
        return value
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    kinds = [kind for kind in (typing.get_args(hint) if union else (hint,)) if kind is not type(None)]
    if type(value) is int and float in kinds and int not in kinds:
        return float(value)
    registry = Registry._all.get(getattr(kinds[0], "__name__", ""))
    if registry is not None:
        raise InputError(f"{what} is {_spelled(value)}; give the name of a {registry.kind}.")
    return _checked(what, value, hint, most)


class Checked:
    """What is made of settings: every one that has another type than its field declares is refused, in a sentence.

    A base of frozen dataclasses. Their own ``__post_init__`` finds the types right, numbers finite (but where the field's own
    default is infinite) and counts below a billion.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        own = cls.__dict__.get("__post_init__")
        if own is None:
            return

        @wraps(own)
        def first_checked(self: Any) -> None:
            if type(self).__post_init__ is first_checked:  # and not called by that of a subclass, which did it
                _check_fields(self)
            own(self)

        cls.__post_init__ = first_checked  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        _check_fields(self)


def _check_fields(made: Any) -> None:
    """Raise InputError where a field of a dataclass holds what it does not declare."""
    for name, hint, endless in _fields_of(type(made)):  # type: ignore[arg-type]  # a class is hashable
        _checked(f"{type(made).__name__}: {name}", getattr(made, name), hint, _most(name), endless)


@cache
def _fields_of(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Of each field its name, its declared type, and whether its default is infinite."""
    if not dataclasses.is_dataclass(kind):
        return ()
    try:
        hints = typing.get_type_hints(kind)
    except NameError:  # a class of the caller's own, whose types only type checkers see
        return ()
    found = [each for each in dataclasses.fields(kind) if each.init]
    return tuple((each.name, hints[each.name], each.default == math.inf) for each in found)


def _most(name: str) -> float:
    """The largest whole number for a setting of this name: seeds are not counted to."""
    return math.inf if name == "seed" else MOST


def _checked(what: str, value: Any, hint: Any, most: float, endless: bool = False) -> Any:
    """The value, if it is of the declared type and ``most`` at most. What only a type checker can tell is taken as it is."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    kinds = typing.get_args(hint) if union else (hint,)
    if any(_fits(value, kind) for kind in kinds):
        if float in kinds and isinstance(value, float) and not math.isfinite(value) and not endless:
            raise InputError(f"{what} is {value}; give a finite number.")
        if _is_a(value, int) and abs(value) > most:
            raise InputError(f"{what} is {shortened(value)}; give at most {most:,}.")
        if isinstance(value, tuple) and (inner := _inner(kinds)) is not None:
            for number, part in enumerate(value):
                _checked(f"{what}, number {number + 1}", part, inner, most)
        return value
    first = next((kind for kind in kinds if kind is not type(None)), hint)
    if typing.get_origin(first) is typing.Literal:
        allowed = typing.get_args(first)
        raise InputError(
            f"{what} is {_spelled(value)};{nearest(str(value), map(str, allowed))} allowed: {', '.join(map(str, allowed))}."
        )
    name = getattr(first, "__name__", str(first))
    told = _PLAIN.get(typing.get_origin(first) or first, f"a {name}")
    raise InputError(f"{what} is {_spelled(value)}; give {told}.")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a declared type, as far as that can be told."""
    origin = typing.get_origin(kind)
    if kind is Any:
        return True
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in typing.get_args(kind))
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is type(None):
        return value is None
    if kind is tuple or origin is tuple:
        return isinstance(value, tuple)
    if not isinstance(kind, type) or origin is not None or getattr(kind, "_is_protocol", False):
        return True
    return isinstance(value, kind)


def _inner(kinds: tuple[Any, ...]) -> Any:
    """The type of the parts of a tuple of any length, where one is declared."""
    for kind in kinds:
        parts = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
        if len(parts) == 2 and parts[1] is Ellipsis:
            return parts[0]
    return None


_PLAIN: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number such as 0.1 or 8/255",
    str: "a text",
    tuple: "a tuple, such as (0.25, 0.5)",
}


def _is_a(value: object, kind: type) -> bool:
    """As isinstance, but true and false are no numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else shortened(value)
