"""A study file: a sweep as TOML, checked key by key, and a sweep written as the file that asks for it again.

[study]      what is measured: data, samples, norm, eps, defenses, seed ...
[data]       settings of the data set
[[model]]    one for each model: model, weights, normalize, name, seed, settings
[[surrogate]]  the same for models that attacks are made on, to be shown to the others
[[attack]]   one for each attack: attack, label; every other key is a setting of the attack
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch

from advkit.backbones.classifier import normalisation
from advkit.backbones.load import admit
from advkit.backbones.wish import MODEL_FILES
from advkit.catalog import ATTACKS, BACKBONES, DATASETS
from advkit.core.units import Eps
from advkit.data import load_data
from advkit.documents import DocumentError, DocumentMissing, parse_toml, read_text
from advkit.engine.defend import Against, read_defense
from advkit.engine.precision import checked_precision
from advkit.engine.specs import AttackSpec, DataSpec, ModelSpec, check_model, settings_of, usual_ball
from advkit.engine.sweep import Sweep
from advkit.engine.toml import toml_table, toml_value
from advkit.errors import InputError, nearest
from advkit.paths import check_path, expanded
from advkit.trust import NOTHING, Trust

__all__ = ["parse_study", "read_study", "write_study"]


@dataclass(frozen=True)
class _Key:
    """What a key may hold: in words, and as a test."""

    allowed: str
    fits: Callable[[Any], bool]


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _one_or_all(value: object, fits: Callable[[object], bool]) -> bool:
    return fits(value) or (isinstance(value, list) and bool(value) and all(map(fits, value)))


_TEXT = _Key("a text", lambda value: isinstance(value, str) and bool(value))
_TRUTH = _Key("true or false", lambda value: isinstance(value, bool))
_COUNT = _Key("a whole number of 1 or more", lambda value: _is_whole(value, 1))
_SEED = _Key("a whole number from 0 to 2^63 - 1", lambda value: _is_whole(value, 0) and value < 2**63)
_CLASS = _Key("the name or number of a class", lambda value: isinstance(value, str) or _is_whole(value, 0))
_SETTING = _Key("a text, a number, true, false or a list of these", lambda value: _one_or_all(value, _is_plain))

_STUDY: dict[str, _Key] = {
    "data": _TEXT,
    "samples": _Key('a whole number of 1 or more, or "all"', lambda value: value == "all" or _is_whole(value, 1)),
    "norm": _TEXT,
    "eps": _Key(
        'a radius such as "8/255", or a list of them',
        lambda value: _one_or_all(value, lambda one: isinstance(one, str) or _is_number(one)),
    ),
    "defenses": _Key(
        'a text such as "jpeg:75", or a list of texts',
        lambda value: _one_or_all(value, lambda one: isinstance(one, str) and bool(one)),
    ),
    "target": _Key("next, random, least-likely, or the name or number of a class", _CLASS.fits),
    "seed": _SEED,
    "independent": _TRUTH,
    "transfer": _TRUTH,
    "against": _Key("both, adaptive or oblivious", lambda value: value in get_args(Against)),
    "precision": _TEXT,
    "shard": _COUNT,
    "batch_size": _COUNT,
    "device": _TEXT,
    "pictures": _Key("a whole number of 0 or more", lambda value: _is_whole(value, 0)),
    "exclude": _Key(
        "the name or number of a class, or a list of them",
        lambda value: value == [] or _one_or_all(value, _CLASS.fits),
    ),
}
_MODEL: dict[str, _Key] = {
    "model": _TEXT,
    "name": _TEXT,
    "weights": _TEXT,
    "normalize": _TEXT,
    "seed": _SEED,
    "settings": _Key("a table such as { width = 64 }", lambda value: isinstance(value, dict)),
}
_ATTACK: dict[str, _Key] = {"attack": _TEXT, "label": _TEXT}
_FILE: dict[str, _Key] = {
    "study": _Key("one table, written [study]", lambda value: isinstance(value, dict)),
    "data": _Key(
        'one table of settings, written [data]; the name stands in [study], data = "signs"',
        lambda value: isinstance(value, dict),
    ),
    "model": _Key("tables, one for each model, each written [[model]] with two brackets", lambda v: _are_tables(v)),
    "surrogate": _Key(
        "tables, one for each model that attacks are made on, each written [[surrogate]] with two brackets",
        lambda v: _are_tables(v),
    ),
    "attack": _Key("tables, one for each attack, each written [[attack]] with two brackets", lambda v: _are_tables(v)),
}


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def read_study(path: Path, trust: Trust = NOTHING) -> Sweep:
    """The sweep that a study file asks for. Raises InputError, with file, table and key, for what cannot be used.

    Code that it names is imported only where ``trust`` holds it too: a study may be somebody else's.

    Relative paths in it are relative to the file if they exist there, else to the current folder.
    """
    try:
        text = read_text(path)
    except DocumentError as error:
        hint = f"; advkit init {path} writes one to start from" if isinstance(error, DocumentMissing) else ""
        raise InputError(f"the study {path} cannot be read: {error.why}{hint}.") from None
    with _at(str(path)):
        return parse_study(text, path.parent, trust)


def parse_study(text: str, folder: Path = Path(), trust: Trust = NOTHING) -> Sweep:
    """The sweep that the text of a study file asks for; ``folder`` is where the file would stand."""
    try:
        tables = parse_toml(text, "the study")
    except DocumentError as error:
        raise InputError(f"{error.why}. Texts stand in quotes, lists in [ ].") from None
    tables = _checked(tables, _FILE)
    with _at("[study]"):
        study = _checked(tables.get("study", {}), _STUDY)
        seed = int(study.get("seed", 0))
        norm, radii = _threat(study)
        defenses = tuple(_listed(study.get("defenses", "none")))
        for defense in defenses:
            read_defense(defense, trust)
        precision = checked_precision(study.get("precision", "auto"))
    samples = study.get("samples", Sweep.samples)
    return Sweep(
        models=tuple(_each("model", tables, lambda table: _model(table, folder, seed, trust))),
        attacks=tuple(_each("attack", tables, lambda table: _attack(table, norm, radii))),
        radii=radii,
        data=_data(study, tables.get("data", {}), folder),
        norm=norm,
        defenses=defenses,
        samples=None if samples == "all" else samples,
        goal=str(study.get("target", Sweep.goal)),
        seed=seed,
        independent=study.get("independent", Sweep.independent),
        transfer=study.get("transfer", Sweep.transfer),
        against=study.get("against", Sweep.against),
        surrogates=tuple(
            _each("surrogate", tables, lambda table: _model(table, folder, seed, trust))
            if "surrogate" in tables
            else ()
        ),
        precision=precision,
        shard=study.get("shard"),
        batch_size=study.get("batch_size"),
        device=study.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"),
        keep_pictures=study.get("pictures", Sweep.keep_pictures),
        trust=trust,
    )


def write_study(sweep: Sweep) -> str:
    """The text of a study file from which an equal sweep is read; its command and what is noted about it are left out.

    Raises InputError where a model, an attack or the data was made in Python: a text cannot say how.
    """
    for what, made in (
        ("data", sweep.data),
        *(("model", m) for m in (*sweep.models, *sweep.surrogates)),
        *(("attack", a) for a in sweep.attacks),
    ):
        if getattr(made, "made", None) is not None:
            name = getattr(made, "model", None) or getattr(made, "name", "")
            raise InputError(f"the {what} {name} was made in Python, which a study file cannot say; give it by name.")
    study = {
        "data": sweep.data.name,
        "exclude": sweep.data.exclude or None,
        "samples": "all" if sweep.samples is None else sweep.samples,
        "norm": sweep.norm,
        "eps": tuple(Eps(radius).exact for radius in sweep.radii),
        "defenses": sweep.defenses,
        "target": None if sweep.goal == Sweep.goal else sweep.goal,
        "seed": sweep.seed,
        "independent": sweep.independent,
        "transfer": sweep.transfer,
        "against": sweep.against,
        "precision": sweep.precision,
        "shard": sweep.shard,
        "batch_size": sweep.batch_size,
        "device": sweep.device,
        "pictures": sweep.keep_pictures,
    }
    parts = [toml_table("[study]", study)]
    if sweep.data.settings:
        parts.append(toml_table("[data]", dict(sweep.data.settings)))
    for kind, spec in (*(("model", m) for m in sweep.models), *(("surrogate", m) for m in sweep.surrogates)):
        model = {
            "model": spec.model,
            "name": spec.name,
            "weights": None if spec.weights == ModelSpec.weights else spec.weights,
            "normalize": spec.normalize,
            "seed": None if spec.seed == sweep.seed else spec.seed,
            "settings": dict(spec.settings) or None,
        }
        parts.append(toml_table(f"[[{kind}]]", model))
    parts += [
        toml_table("[[attack]]", {"attack": attack.name, "label": attack.label, **dict(attack.settings)})
        for attack in sweep.attacks
    ]
    return "\n".join(parts)


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Put the place before what is wrong there."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _checked(table: Mapping[str, Any], schema: Mapping[str, _Key], other: _Key | None = None) -> dict[str, Any]:
    """The table, if every key is known and holds what it may; ``other`` is what keys outside the schema may hold."""
    found: dict[str, Any] = {}
    for written, value in table.items():
        key = written.replace("-", "_")
        allowed = schema.get(key, other)
        if allowed is None:
            place = " It belongs under [study]." if schema is _FILE and key in _STUDY else nearest(key, schema)
            raise InputError(f"there is no key {written!r} here.{place} Known: {', '.join(schema)}.")
        if not allowed.fits(value):
            raise InputError(f"{written} is {toml_value(value)}; give {allowed.allowed}.")
        if key in found:
            raise InputError(f"{key} is given twice, once with a dash; give it once.")
        found[key] = value
    return found


def _threat(study: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    norm = study.get("norm", Sweep.norm)
    ball = usual_ball(norm)
    if "eps" not in study:
        raise InputError('eps is missing; give the radii to attack at, for example eps = ["2/255", "4/255", "8/255"].')
    given = [part for one in _listed(study["eps"]) for part in (one.split(",") if isinstance(one, str) else [one])]
    radii = tuple(Eps(radius).exact for radius in given)
    for radius in radii:
        ball(radius)
    return norm.lower(), radii


def _data(study: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> DataSpec:
    name: str = study.get("data", DataSpec.name)
    with _at("[data]"):
        settings = _checked(settings, {}, _SETTING)
        if name in DATASETS:
            DATASETS[name].read(settings)
    if name not in DATASETS:
        name = _placed(name, folder)
        if not expanded(name).exists():
            load_data(name)  # raises DataError
    exclude = tuple(str(one) for one in _listed(study.get("exclude", [])))
    return DataSpec(name, settings_of(settings), exclude)


def _each(kind: str, tables: Mapping[str, Any], build: Callable[[Mapping[str, Any]], Any]) -> Iterator[Any]:
    """What the tables of one kind ask for."""
    found: Sequence[Mapping[str, Any]] = tables.get(kind, ())
    key = "attack" if kind == "attack" else "model"
    example = {"model": "resnet", "surrogate": "vgg", "attack": "pgd"}[kind]
    if not found:
        raise InputError(f'there is no {kind}; add a table [[{kind}]] with {key} = "{example}".')
    for number, table in enumerate(found, 1):
        with _at(f"[[{kind}]]" if len(found) == 1 else f"[[{kind}]] number {number}"):
            if key not in table:
                hint = "".join(f" Is {given!r} meant?" for given in table if nearest(given, [key]))
                raise InputError(f'the key {key} is missing; write for example {key} = "{example}".{hint}')
            yield build(table)


def _model(table: Mapping[str, Any], folder: Path, seed: int, trust: Trust) -> ModelSpec:
    table = _checked(table, _MODEL)
    model, weights, normalize = table["model"], table.get("weights", ModelSpec.weights), table.get("normalize")
    settings = _checked(table.get("settings", {}), {}, _SETTING)
    place = _placed_code(model, folder)
    admit(place, trust)
    check_model(model, settings)
    if (
        model not in BACKBONES
        and ":" not in model
        and not expanded(place).exists()
        and Path(model).suffix not in (*MODEL_FILES, ".py")
    ):
        BACKBONES[model]  # raises UnknownName
    if normalize is not None:
        mean, colon, std = normalize.partition(":")
        normalisation(mean, std if colon else mean, None)
    return ModelSpec(
        place,
        _placed(weights, folder) if Path(weights).suffix or len(Path(weights).parts) > 1 else weights,
        normalize,
        settings_of(settings),
        table.get("seed", seed),
        # The same weights get the same name on a command line, so that results of either serve the other.
        table.get("name") or (f"{model}@{weights}" if "weights" in table else model if place != model else None),
        trust=trust,
    )


def _attack(table: Mapping[str, Any], norm: str, radii: Sequence[str]) -> AttackSpec:
    table = _checked(table, _ATTACK, _SETTING)
    entry = ATTACKS[table["attack"]]
    given = {key: value for key, value in table.items() if key not in _ATTACK}
    known = [key for key in entry.settings if key != "threat"]
    for key in given:
        if key in ("threat", "norm", "eps"):
            raise InputError(f"{key} is not set here: every attack gets the norm and the eps of [study].")
        if key not in known:
            raise InputError(
                f"{entry.name} has no setting {key!r}.{nearest(key, (*known, *_ATTACK))} "
                f"Known: {', '.join((*_ATTACK, *known))}."
            )
    spec = AttackSpec(entry.name, settings_of(given), table.get("label"))
    ball = usual_ball(norm)
    for radius in radii:
        spec.stages(ball(radius))
    return spec


def _placed(text: str, folder: Path) -> str:
    """A relative path that exists in ``folder`` as an absolute one, any other text as it is."""
    check_path("the path", text)
    if os.path.realpath(folder) == os.getcwd() or not os.path.exists(folder / text):
        return text
    return os.path.realpath(folder / text)


def _placed_code(text: str, folder: Path) -> str:
    """The same for a model: a file, or FILE.py:FACTORY."""
    file, colon, rest = text.partition(":")
    return f"{_placed(file, folder)}{colon}{rest}" if Path(file).suffix and text not in BACKBONES else text


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
