"""What a cell of a sweep fits, kept in files beside its shards: fitted once, and the same for all of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path

from advkit.core.attack import Attack
from advkit.core.fitted import Applied, Fitted
from advkit.data import load_data
from advkit.engine.fitting import load_fitted, save_fitted
from advkit.engine.span import Stages
from advkit.errors import InputError
from advkit.hashes import sha256, sha256_of_file
from advkit.paths import expanded

__all__ = ["attack_hash", "fit_files", "ready"]


def fit_files(stages: Stages) -> dict[str, tuple[str, Fitted]]:
    """What is to be fitted, by the name of its file: the stage's name and the attack."""
    return {
        f"fitted-{s}-{r}.safetensors": (name, attack)
        for s, (name, attacks, _) in enumerate(stages)
        for r, attack in enumerate(attacks)
        if isinstance(attack, Fitted) and not attack.threat.is_point
    }


def ready(stages: Stages, place: Callable[[str], Path], fit: Callable[[str, Fitted], Applied]) -> Stages:
    """The stages with what is fitted in place of what is to be: read from its file, or fitted and written there.

    Where several fit at once, all of them use what the first has written: a cell has one thing, whoever made it.
    """
    made = {file: _made(place(file), name, attack, fit) for file, (name, attack) in fit_files(stages).items()}
    return [
        (name, [made.get(f"fitted-{s}-{r}.safetensors", attack) for r, attack in enumerate(attacks)], nested)
        for s, (name, attacks, nested) in enumerate(stages)
    ]


def _made(path: Path, name: str, attack: Fitted, fit: Callable[[str, Fitted], Applied]) -> Applied:
    if path.exists():
        try:
            return load_fitted(path)
        except InputError:  # damaged, as a shard may be; it is made again
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
    save_fitted(fit(name, attack), path, first=True)
    return load_fitted(path)


def attack_hash(attacks: Iterable[Attack]) -> str:
    """A hash of the files and data that the attacks' settings name; empty where they name none."""
    found: dict[str, str] = {}
    for attack in attacks:
        for name in (each.name for each in fields(attack)):  # type: ignore[arg-type]
            value = getattr(attack, name)
            if not isinstance(value, str) or not value or value in found:
                continue
            path = expanded(value)
            if (path.suffix or len(path.parts) > 1) and path.is_file():  # a word is none, whatever lies beside it
                found[value] = sha256_of_file(path)
            elif isinstance(attack, Fitted) and name == "fitted_on" and value != "auto":
                found[value] = load_data(value).fingerprint()
    return sha256(repr(sorted(found.values())))[:16] if found else ""
