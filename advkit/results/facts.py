"""The facts of an evaluation as JSON, and the evaluation of such facts: what is stored is enough to count again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit.core import BALLS
from advkit.documents import MISFIT
from advkit.errors import AdvkitError, DataError, InputError
from advkit.results.manifest import check_files
from advkit.results.outcome import Control, Evaluation, Outcome, Reloaded, Surrogate
from advkit.results.run_folder import FACTS
from advkit.results.sealed import Broken, read_sealed
from advkit.results.statistics import Share, share

__all__ = ["FACTS", "Saved", "facts_json", "read_facts_of"]

_OF_OUTCOMES = ("attacked", "success", "prediction", "distance", "steps", "forwards", "backwards")
_OF_FILES = ("success", "prediction", "distance", "over")
_TYPES = {"attacked": torch.bool, "success": torch.bool, "over": torch.bool, "distance": torch.float64}


def facts_json(result: Evaluation, folders: Sequence[str]) -> dict[str, Any]:
    """What the figures are counted from; the outcomes with the folders of their pictures."""
    return {
        "goal": result.goal,
        "precision": result.precision,
        "device": result.device,
        "facts": result.facts,
        "defense": result.defense,
        "classes": list(result.classes),
        "labels": result.labels.tolist(),
        "predictions": result.clean.tolist(),
        "targets": None if result.targets is None else result.targets.tolist(),
        "repeated": None if result.repeated is None else result.repeated.tolist(),
        "outcomes": [_outcome(outcome, folder) for outcome, folder in zip(result.outcomes, folders, strict=True)],
    }


def _outcome(outcome: Outcome, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "attack": outcome.name,
        "eps": outcome.threat.eps.exact,
        "settings": outcome.attack,
        "tells": outcome.tells,
        "surrogate": outcome.surrogate,
        "folder": folder,
        "follows": outcome.follows or None,
        "seconds": outcome.seconds,
        **{fact: getattr(outcome, fact).tolist() for fact in _OF_OUTCOMES},
        "controls": {each.name: each.success.tolist() for each in outcome.controls},
        "repeated": None if outcome.repeated is None else outcome.repeated.tolist(),
    }
    if outcome.reloaded is not None:
        found["reloaded"] = {fact: getattr(outcome.reloaded, fact).tolist() for fact in _OF_FILES}
        found["reloaded"]["files"] = list(outcome.reloaded.files)
    return found


class Saved:
    """A folder of ``advkit attack --save``: its facts, the evaluation that they make, and where its pictures are."""

    def __init__(self, folder: Path, found: dict[str, Any], covered: bool = False) -> None:
        self.folder, self.found, self.covered = folder, found, covered
        self.run: Mapping[str, Any] = found["run"]
        self.result = _evaluation(found)
        names = [str(each["folder"]) for each in found["outcomes"]]
        if any(Path(name).name != name for name in names):
            raise ValueError(f"pictures outside of {folder}")
        self.places: list[Path] = [folder / name for name in names]

    @property
    def path(self) -> Path:
        """The file of the facts."""
        return self.folder / FACTS

    def whole(self) -> Saved:
        """The same, every file of which is what was written. Raises DataError at the first that is not."""
        for broken in check_files(self.folder, self.found["files"]):
            raise DataError(f"{broken}; advkit results check {self.folder} names all that does not hold.")
        return self

    def of(self, outcome: Outcome) -> Path:
        """The folder of an outcome's pictures."""
        return next(place for place, each in zip(self.places, self.result.outcomes, strict=True) if each is outcome)


def read_facts_of(folder: Path) -> Saved:
    """What ``--save`` wrote to a folder. Raises InputError where it is none, DataError where it is not whole."""
    path = folder / FACTS
    try:
        found, covered = read_sealed(path)
    except Broken as error:
        if error.kind == "missing":
            raise InputError(
                f"{folder} holds no {FACTS}; give the folder that advkit attack --save, or advkit sweep --out, wrote."
            ) from None
        raise DataError(f"{error}; attack again with --save.") from None
    if not isinstance(found, dict) or "run" not in found:
        raise DataError(
            f"{path} does not say how it was made: it is of another advkit, or none of advkit's; attack again with --save."
        )
    try:
        return Saved(folder, found, covered)
    except AdvkitError as error:
        raise DataError(f"{path} says what cannot be: {error}") from None
    except (*MISFIT, RuntimeError) as error:
        said = f"lacks {error}" if isinstance(error, KeyError) else f"holds facts that do not fit each other ({error})"
        raise DataError(f"{path} {said}.") from None


def _evaluation(found: Mapping[str, Any]) -> Evaluation:
    labels, clean = _column(found["labels"], "label"), _column(found["predictions"], "prediction")
    count = found["n"]
    _check_length("labels", labels, count)
    _check_length("predictions", clean, count)
    targets = None if found["targets"] is None else _column(found["targets"], "target")
    before, other = found.get("undefended"), found.get("surrogate")
    result = Evaluation(
        model=found["model"],
        weights=found["weights"],
        data=found["data"],
        norm=found["norm"],
        seed=found["seed"],
        device=found["device"],
        precision=found["precision"],
        classes=tuple(found["classes"]),
        labels=labels,
        clean=clean,
        outcomes=(),
        goal=found["goal"],
        targets=targets,
        facts=found["facts"],
        defense=found["defense"],
        undefended=None if before is None else _share(before, count),
        surrogate=None if other is None else Surrogate(other["model"], other["weights"], _share(other, count)),
    )
    ball = BALLS[found["norm"]]
    outcomes = []
    for each in found["outcomes"]:
        columns = {fact: _column(each[fact], fact) for fact in _OF_OUTCOMES}
        for fact, column in columns.items():
            _check_length(f"{each['attack']}: {fact}", column, count)
        outcomes.append(
            Outcome(
                name=each["attack"],
                attack=each["settings"],
                threat=ball(each["eps"]),
                **columns,
                seconds=each["seconds"],
                follows=each["follows"] or "",
                controls=tuple(Control(name, _column(one, "success")) for name, one in each["controls"].items()),
                tells=each["tells"],
                repeated=_repeated(each, count),
                surrogate=each.get("surrogate", ""),
                reloaded=_reloaded(each, count),
            )
        )
    return replace(result, outcomes=tuple(outcomes))


def _reloaded(found: Mapping[str, Any], count: int) -> Reloaded | None:
    if "reloaded" not in found:
        return None
    columns = {fact: _column(found["reloaded"][fact], fact) for fact in _OF_FILES}
    for fact, column in columns.items():
        _check_length(f"{found['attack']}, reloaded: {fact}", column, count)
    files = tuple(map(str, found["reloaded"]["files"]))
    if len(files) != count:
        raise ValueError(f"{found['attack']}: {len(files)} files for {count} examples")
    return Reloaded(**columns, files=files)


def _repeated(found: Mapping[str, Any], count: int) -> Tensor | None:
    if found.get("repeated") is None:
        return None
    times = torch.tensor(found["repeated"], dtype=torch.bool)
    if times.ndim != 2 or times.shape[1] != count:
        raise ValueError(f"repeats of {tuple(times.shape)} for {count} examples")
    return times


def _column(values: Sequence[Any], fact: str) -> Tensor:
    return torch.tensor(values, dtype=_TYPES.get(fact, torch.long))


def _check_length(what: str, column: Tensor, count: int) -> None:
    if column.shape != (count,):
        raise ValueError(f"{what}: {len(column)} values for {count} examples")


def _share(found: Mapping[str, float], count: int) -> Share:
    return share(round(found["accuracy"] * count), count)
