"""What a sweep is asked for: by the flags of its command, or by a study file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from advkit.cli._attacks import attack_specs, named
from advkit.cli._shared import DataChoice, ModelChoice, checked_device
from advkit.errors import InputError
from advkit.trust import Trust

if TYPE_CHECKING:
    from advkit.engine.defend import Against
    from advkit.engine.sweep import Sweep

__all__ = ["save_study", "wanted_by_file", "wanted_by_flags"]

_SAMPLES = 200
_RUN = ("study", "out", "on", "workers", "on_settings", "ray_address", "track", "dry_run", "save_study", "resume", "form",
        "quiet")  # fmt: skip
"""What says how a sweep is run; everything else says what is evaluated, and belongs into the study file where there is one."""


def wanted_by_file(context: click.Context, study: Path, trust: Trust) -> Sweep:
    """The study of a file, with the code that the caller trusts; flags that say what is evaluated would contradict it."""
    from advkit.engine.study import read_study

    for parameter in context.command.params:
        name = parameter.name or ""
        if (
            name not in (*_RUN, "device", "trust_code")
            and context.get_parameter_source(name) == ParameterSource.COMMANDLINE
        ):
            flag = parameter.opts[0]
            raise InputError(
                f"{flag} says what to evaluate, and so does {study}; write it there, or leave the file out."
            )
    wanted = read_study(study, trust)
    return replace(wanted, device=checked_device(context.params["device"] or wanted.device))


def wanted_by_flags(models: tuple[ModelChoice, ...], pictures_of: DataChoice, given: dict[str, Any]) -> Sweep:
    """What the flags of the command ask for."""
    from advkit.engine.defend import read_defense
    from advkit.engine.precision import checked_precision
    from advkit.engine.specs import check_model
    from advkit.engine.sweep import Sweep

    flags = {name: given[name] for name in ("steps", "step_size", "restarts", "loss")}
    attacks = named(given["attacks"], flags, given["settings"])
    norms = tuple(dict.fromkeys(given["norms"])) or (None,)
    if len(norms) > 1:
        raise InputError(
            f"--norm is given as {' and '.join(map(str, norms))}; a sweep is in one norm, so run them apart."
        )
    norm, radii, specs = attack_specs(attacks, norms[0], given["eps"], flags, given["settings"])
    defenses = given["defenses"] or ("none",)
    for text in defenses:
        read_defense(text, Trust.of(text))
    if given["batch_size"] is not None and given["batch_size"] < 1:
        raise InputError(f"--batch-size is {given['batch_size']}; give 1 or more, or leave it out to have it chosen.")
    against = _against(given["oblivious"], given["adaptive"], defenses)
    first = models[0]
    asked = tuple(choice.spec() for choice in models)
    for spec in asked:
        check_model(spec.model, dict(spec.settings))
    return Sweep(
        models=asked,
        attacks=specs,
        radii=radii,
        data=pictures_of.spec(given["exclude"]),
        norm=norm,
        defenses=defenses,
        samples=_samples(given["samples"]),
        goal=given["target"] or "untargeted",
        seed=first.seed,
        independent=given["independent"],
        transfer=given["transfer"],
        against=against,
        surrogates=tuple(first.another(name).spec() for name in given["surrogates"]),
        precision=checked_precision(given["precision"]),
        shard=given["shard"],
        batch_size=given["batch_size"],
        device=first.device_name,
        keep_pictures=given["pictures"],
        trust=Trust.of(*defenses),
    )


def _samples(text: str | None) -> int | None:
    """How many examples; None for all."""
    if text is None or text == "all":
        return _SAMPLES if text is None else None
    if not text.removeprefix("-").isdecimal():
        raise InputError(f"--samples is {text!r}; give a whole number of 1 or more, or all.")
    return int(text)


def _against(oblivious: bool, adaptive: bool, defenses: Sequence[str]) -> Against:
    """What a defense is attacked by."""
    if oblivious and adaptive:
        raise InputError(
            "--oblivious and --adaptive each leave the other out; give one of them, or neither to show both."
        )
    if oblivious and all(text == "none" for text in defenses):
        raise InputError("--oblivious says what a defense is attacked by, and there is none; give --defense.")
    return "oblivious" if oblivious else "adaptive" if adaptive else "both"


def save_study(text: str, path: Path) -> None:
    """A study file of what the flags ask for."""
    from advkit.atomic import put_whole

    if path.suffix != ".toml":
        raise InputError(f"--save-study is {path}; a study is written as TOML, so give a name that ends in .toml.")
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(f"--save-study: {path} exists and holds something else; give another name, or remove it.")
    put_whole(path, text.encode())
