"""From the flags of a command line to attacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from advkit.cli._shared import pairs
from advkit.errors import InputError, UnknownName, nearest

if TYPE_CHECKING:
    from advkit.core import Attack, Ball, Ensemble
    from advkit.engine.specs import AttackSpec
    from advkit.registry import Entry

__all__ = ["attack_specs", "balls_of", "build_attacks", "named", "norm_of"]


def named(names: tuple[str, ...], flags: Mapping[str, object], settings: tuple[str, ...]) -> tuple[str, ...]:
    """The attacks asked for; without one, that whose number is to be reported. It has nothing to set: who sets something
    means PGD, and has the ensemble of it."""
    told = bool(settings) or any(value is not None for value in flags.values())
    return names or ("worst-case" if told else "standard",)


def build_attacks(
    names: tuple[str, ...],
    norm: str | None,
    eps: tuple[str, ...],
    flags: Mapping[str, object],
    settings: tuple[str, ...],
) -> list[Attack | Ensemble]:
    """Every attack at every radius. A flag or setting reaches the attacks that have it, and must reach one."""
    from advkit.core import BALLS
    from advkit.core.attack import check_bounded

    entries, ball, given = _chosen(names, norm, flags, settings)
    threats = list(dict.fromkeys(BALLS[ball](radius) for radius in _radii(eps, ball, entries)))
    made = [
        entry.create(threat=threat, **{key: value for key, value in given.items() if key in entry.settings})
        for threat in threats
        for entry in entries
    ]
    for attack in made:
        check_bounded(attack)
    return made


def attack_specs(
    names: tuple[str, ...],
    norm: str | None,
    eps: tuple[str, ...],
    flags: Mapping[str, object],
    settings: tuple[str, ...],
) -> tuple[str, tuple[str, ...], tuple[AttackSpec, ...]]:
    """The same as texts: the norm, the radii, and the attacks without a ball."""
    from advkit.engine.specs import AttackSpec, settings_of

    build_attacks(names, norm, eps, flags, settings)  # what is wrong with them is to be said in the words of the flags
    entries, ball, given = _chosen(names, norm, flags, settings)
    return (
        ball,
        tuple(_radii(eps, ball, entries)),
        tuple(
            AttackSpec(entry.name, settings_of({key: value for key, value in given.items() if key in entry.settings}))
            for entry in entries
        ),
    )


def norm_of(names: tuple[str, ...], norm: str | None) -> str:
    """The norm asked for, else one in which these attacks work; linf where none is named."""
    from advkit.catalog import ATTACKS

    return _name(_ball([ATTACKS[name] for name in names], norm)) if names or norm else "linf"


def _chosen(
    names: tuple[str, ...], norm: str | None, flags: Mapping[str, object], settings: tuple[str, ...]
) -> tuple[list[Entry[Attack | Ensemble]], str, dict[str, Any]]:
    """The attacks, the norm, and what is set."""
    from advkit.catalog import ATTACKS

    entries = [ATTACKS[name] for name in names]
    ball = _name(_ball(entries, norm))
    given = {key: value for key, value in flags.items() if value is not None}
    for key, value in pairs(settings, "--set").items():
        if key in given:
            raise InputError(f"{key} is given twice, as {_option(key, flags)} and with --set; give it once.")
        given[key] = value
    known = sorted({name for entry in entries for name in entry.settings} - {"threat"})
    for key in given:
        if key == "threat":
            raise InputError("the threat is set by --norm and --eps, for example --norm linf --eps 8/255.")
        if key not in known:
            raise InputError(
                f"{_option(key, flags)} reaches no attack: {', '.join(dict.fromkeys(names))} can be given "
                f"{', '.join(known) or 'nothing'}."
                f"{nearest(key, known)} Leave it out, or choose an attack that has it (advkit list attacks --settings)."
            )
    return entries, ball, given


def _radii(eps: tuple[str, ...], ball: str, entries: list[Entry[Attack | Ensemble]]) -> list[str]:
    """The radii asked for; else the attacks' own where they agree on one in this norm; else what is usual in it."""
    from advkit.core import BALLS

    own = {getattr(entry.settings.get("threat"), "default", None) for entry in entries}
    agreed = own.pop() if len(own) == 1 else None
    usual = agreed.eps.exact if type(agreed) is BALLS[ball] else BALLS[ball].usual
    return [part for text in eps for part in text.split(",")] or [usual]


def _option(key: str, flags: Mapping[str, object]) -> str:
    return f"--{key.replace('_', '-')}" if flags.get(key) is not None else f"--set {key}"


def _ball(entries: list[Entry[Attack | Ensemble]], norm: str | None) -> type[Ball]:
    """The norm asked for, or Linf where all attacks work in it, else the first that all share."""
    from advkit.core import BALLS, Linf

    if norm is not None:
        if norm.lower() not in BALLS:
            raise UnknownName("norm", norm, BALLS)
        return BALLS[norm.lower()]
    first = sorted(map(balls_of, entries), key=len)[0]
    shared = [ball for ball in first if all(issubclass(ball, balls_of(entry)) for entry in entries)]
    if not shared:
        works = "; ".join(f"{e.name} in {', '.join(b.__name__ for b in balls_of(e))}" for e in entries)
        raise InputError(f"these attacks share no norm ({works}); a table compares attacks in one. Run them apart.")
    return Linf if Linf in shared else shared[0]


def balls_of(entry: Entry[Any]) -> tuple[type[Ball], ...]:
    """The norms that an attack says it works in; those of PGD where it does not say."""
    from advkit.core import BALLS, L1, L2, Ball, Linf

    told: tuple[type[Ball], ...] = getattr(entry.factory, "balls", (Linf, L2, L1))
    return tuple(BALLS.values()) if told == (Ball,) else told


def _name(ball: type[Ball]) -> str:
    return ball.__name__.lower()
