"""Small stores whose numbers are known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from advkit.results.cell import Cell, Facts, Stage
from advkit.results.store import Record, Store, Study
from advkit.seal import sealed_json

LABELS = 3  # classes


def cell_of(
    attack: str = "none",
    eps: str = "8/255",
    *,
    model: str = "net",
    defense: str = "none",
    settings: str = "",
    **more: object,
) -> Cell:
    """A cell of one attack at one radius, or the one without attack."""
    where = {"model": model, "model_hash": f"hash of {model}", "data_hash": "d" * 8, "defense": defense, "code": "new"}
    if attack == "none":
        return Cell(**{**where, **more})  # type: ignore[arg-type]
    stage = Stage(attack, (f"{attack}(Linf({eps}){settings})",))
    return Cell(**{**where, "attack": attack, "stages": (stage,), "norm": "linf", "radii": (eps,), **more})  # type: ignore[arg-type]


def facts_of(cell: Cell, stands: Sequence[int], clean: Sequence[int] | None = None, first: int = 0) -> Facts:
    """Facts of examples of which those with a 1 are right, under the attack and without."""
    right = np.array(stands if clean is None else clean, bool)
    index = np.arange(first, first + len(right))
    labels = index % LABELS
    predicted = np.where(right, labels, (labels + 1) % LABELS)
    shape = (len(cell.stages), len(cell.radii), len(index))
    attacked = np.broadcast_to(right, shape)
    success = attacked & ~np.array(stands, bool)
    counts = attacked * 2
    return Facts(
        index=index,
        labels=labels,
        clean=predicted,
        attacked=attacked,
        success=success,
        prediction=np.where(success, (labels + 2) % LABELS, predicted),
        distance=np.where(success, 0.01, 0.0),
        steps=counts,
        forwards=counts,
        backwards=counts,
        tested=attacked,
        seconds=np.ones(shape[:2]),
    )


class Made:
    """A store that is filled cell by cell; its study asks for what is in it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder).create()
        self.samples: dict[str, int] = {}

    def put(
        self,
        cell: Cell,
        stands: Sequence[int],
        clean: Sequence[int] | None = None,
        *,
        wanted: int | None = None,
        first: int = 0,
        **about: object,
    ) -> Cell:
        """Add a cell and a shard of its examples."""
        said = {"weights": "here", "data": "signs", "classes": ["a", "b", "c"], "made": "2026-01-01T00:00:00Z", **about}
        self.store.add(Record(cell, said))
        self.store.write(cell, (first, first + len(stands)), facts_of(cell, stands, clean, first))
        self.samples[cell.key] = max(wanted or 0, first + len(stands), self.samples.get(cell.key, 0))
        self.store.write_study(Study("advkit sweep", self.samples))
        return cell


def small(folder: Path) -> Path:
    """Two defenses under two attacks: ten examples, of which eight are right without attack."""
    made = Made(folder)
    right = [1] * 8 + [0] * 2
    for defense, worse, better in (("none", 1, 3), ("jpeg", 6, 5)):
        made.put(cell_of(defense=defense), right)
        made.put(cell_of("fgsm", defense=defense), [1] * better + [0] * (10 - better), right)
        made.put(cell_of("pgd", defense=defense), [0] * (8 - worse) + [1] * worse + [0] * 2, right)
    return folder


def staged(folder: Path) -> Path:
    """An attack of two stages on four examples: the first beats one of them, the second one more."""
    made = Made(folder)
    cell = cell_of("both", stages=(Stage("first", ("first(Linf(8/255))",)), Stage("second", ("second(Linf(8/255))",))))
    made.put(cell, [1, 0, 1, 0], [1] * 4)
    attacked = np.array([[[1, 1, 1, 1]], [[1, 0, 1, 1]]], bool)
    success = np.array([[[0, 1, 0, 0]], [[0, 0, 0, 1]]], bool)
    facts = facts_of(cell, [1] * 4)
    beaten = np.where(success, (facts.labels + 2) % LABELS, facts.labels)
    distance = np.where(success, 0.01, 0.0)
    facts = replace(facts, attacked=attacked, success=success, prediction=beaten, distance=distance)
    made.store.write(cell, (0, 4), facts)
    return folder


def moved(folder: Path) -> Path:
    """Three models, each attacked itself and shown what was made on the other two; one also without its defense."""
    made = Made(folder)
    models = ("ann", "bob", "cid")
    for place, model in enumerate(models):
        made.put(cell_of(model=model), [1] * 4)
        made.put(cell_of("pgd", model=model), [0] * (3 - place) + [1] * (1 + place), [1] * 4)
        for other in models:
            if other != model:
                stages = (Stage(f"pgd via {other}", ("pgd(Linf(8/255))",)),)
                more = {"model": model, "surrogate": other, "surrogate_hash": f"hash of {other}", "stages": stages}
                cell = cell_of(f"pgd via {other}", **more)  # type: ignore[arg-type]
                made.put(cell, [1, 1, 1, 0], [1] * 4, surrogate=other)
    made.put(cell_of(model="cid", defense="jpeg"), [1] * 4)
    made.put(cell_of("pgd", model="cid", defense="jpeg"), [1, 0, 0, 0], [1] * 4)
    stages = (Stage("pgd (oblivious)", ("pgd(Linf(8/255))",)),)
    more = {"model": "cid", "defense": "jpeg", "surrogate": "cid", "surrogate_hash": "hash of cid", "stages": stages}
    bare = cell_of("pgd (oblivious)", **more)  # type: ignore[arg-type]
    made.put(bare, [1, 1, 1, 0], [1] * 4, oblivious=True)
    return folder


def unsealed(path: Path) -> Any:
    """What a sealed JSON file says, without its seal."""
    found = json.loads(path.read_bytes())
    return {name: value for name, value in found.items() if name not in ("sealed", "sha256")}


def rewritten(path: Path, change: Callable[[Any], object]) -> None:
    """Change a sealed JSON file as somebody who seals it again."""
    found = unsealed(path)
    change(found)
    path.write_bytes(sealed_json(found))


def aged(folder: Path) -> Path:
    """A store as it was before there were checksums over whole files."""
    from safetensors import safe_open
    from safetensors.numpy import save

    (folder / "manifest.json").unlink()
    for path in folder.rglob("*.json"):
        found = unsealed(path)
        if path.name == "store.json":
            found["advkit store"] = 1
        path.write_text(json.dumps(found["asked"] if path.name == "asked.json" else found, indent=1) + "\n")
    for path in (*folder.glob("cells/*/[0-9]*.safetensors"), *folder.glob("cells/*/pictures-*")):
        with safe_open(path, "np") as file:
            told = {name: text for name, text in file.metadata().items() if name not in ("sha256", "of")}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(arrays):
            digest.update(np.ascontiguousarray(arrays[name]).data)
        path.write_bytes(save(arrays, {**told, "digest": digest.hexdigest()}))
    return folder
