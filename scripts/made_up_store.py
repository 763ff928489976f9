"""Write a store of made-up results to try tables, figures and reports on. Every cell says that it is made up.

python scripts/made_up_store.py DIR --models 4 --defenses 2 --attacks 3 --radii 4 --examples 100 --pictures 8
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from advkit.results.cell import Cell, Facts, Numbers, Picture, Stage
from advkit.results.store import Record, Store, Study

DEFENSES = ("none", "jpeg:75", "bits:4", "median:3")
ATTACKS = ("fgsm", "pgd", "bim", "mi-fgsm", "noise")
CLASSES = ("stop", "yield", "no entry", "speed limit 30", "speed limit 50", "priority road", '<b>odd & "name"</b>')


def clean_facts(index: Numbers, labels: Numbers, predictions: Numbers) -> Facts:
    """Facts without attack."""
    none = np.zeros((0, 0, len(index)))
    return Facts(index, labels, predictions, none > 0, none > 0, none, none, none, none, none, none > 0)


def attack_facts(index: Numbers, labels: Numbers, clean: Numbers, threshold: Numbers, radii: Numbers, rng) -> Facts:
    """An example falls at every radius above its threshold."""
    shape = (1, len(radii), len(index))
    attacked = np.broadcast_to(clean == labels, shape)
    success = attacked & (radii[None, :, None] >= threshold)
    rivals = (labels + 1 + rng.integers(0, len(CLASSES) - 1, len(index))) % len(CLASSES)
    steps = np.where(success, rng.integers(1, 20, shape), 40) * attacked
    return Facts(
        index=index,
        labels=labels,
        clean=clean,
        attacked=attacked,
        success=success,
        prediction=np.where(success, rivals, clean),
        distance=np.where(success, radii[None, :, None], 0.0),
        steps=steps,
        forwards=steps + attacked,
        backwards=steps,
        tested=attacked,
        seconds=np.full(shape[:2], 0.01 * len(index)),
    )


def pictures(cell: Cell, facts: Facts, count: int, rng: np.random.Generator) -> list[Picture]:
    """A smooth picture and the same with noise, for each of the first few examples that fall."""
    found = []
    for place in range(min(count, len(facts))):
        beaten = np.flatnonzero(facts.success[0, :, place])
        if not len(beaten):
            continue
        base = np.linspace(20, 220, 32)[None, :, None] * np.ones((3, 32, 32)) + 20 * np.arange(3)[:, None, None] - 20
        x = (base + 30 * rng.random((3, 1, 32))).clip(0, 255).astype(np.uint8)
        noise = rng.integers(-8, 9, x.shape)
        x_adv = (x.astype(np.int64) + noise).clip(0, 255).astype(np.uint8)
        radius = int(beaten[0])
        found.append(
            Picture(
                int(facts.index[place]),
                int(facts.labels[place]),
                int(facts.prediction[0, radius, place]),
                cell.stages[0].name,
                cell.radii[radius],
                float(facts.distance[0, radius, place]),
                x,
                x_adv,
            )
        )
    return found


def main() -> None:
    """Read the arguments, write the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for name, value in (
        ("models", 4),
        ("defenses", 2),
        ("attacks", 3),
        ("radii", 4),
        ("examples", 100),
        ("pictures", 8),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--apart", action="store_true", help="one cell for each radius")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    store = Store(given.folder).create()
    index = np.arange(given.examples)
    labels = index % len(CLASSES)
    samples: dict[str, int] = {}

    def add(cell: Cell, about: dict[str, object], facts: Facts) -> None:
        store.add(Record(cell, about))
        shown = pictures(cell, facts, given.pictures, rng) if cell.stages else []
        store.write(cell, (0, given.examples), facts, shown)
        samples[cell.key] = given.examples

    for m in range(given.models):
        strength = 1 + 5 * (m / max(1, given.models - 1))
        about: dict[str, object] = {
            "made_up": True,
            "weights": "made up",
            "data": "made-up",
            "classes": list(CLASSES),
            "parameters": 100_000 * (m + 1) ** 2,
            "multiply_adds": 2_000_000 * (m + 1),
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "advkit": "0.1.0",
            "torch": "2.15",
            "python": "3.11",
            "machine": "made up",
            "git": "0000000",
        }
        for d in range(given.defenses):
            defense = DEFENSES[d] if d < len(DEFENSES) else f"made-up-defense-{d}"
            where = {"model": f"made-up-{m + 1}", "model_hash": f"{m:064x}", "data_hash": "0" * 64, "defense": defense}
            right = rng.random(given.examples) < 0.95 - 0.02 * d
            clean = np.where(right, labels, (labels + 1) % len(CLASSES))
            bare = Cell(**where, code="made-up")
            add(bare, about, clean_facts(index, labels, clean))
            base = rng.lognormal(np.log(strength * (1 + 0.2 * d)), 0.8, given.examples) / 255
            for a in range(given.attacks):
                name = ATTACKS[a] if a < len(ATTACKS) else f"made-up-attack-{a}"
                radii = tuple(f"{k + 1}/255" for k in range(given.radii))
                for part in [(eps,) for eps in radii] if given.apart else [radii]:
                    stage = Stage(name, tuple(f"{name}(Linf({eps}))" for eps in part), nested=not given.apart)
                    cell = Cell(**where, attack=name, stages=(stage,), norm="linf", radii=part, code="made-up")
                    values = np.array([int(eps.split("/")[0]) / 255 for eps in part])
                    threshold = base * (1.6 - 0.3 * (a % 3)) * rng.uniform(0.9, 1.1, given.examples)
                    add(cell, about, attack_facts(index, labels, clean, threshold, values, rng))
    store.write_study(Study("python scripts/made_up_store.py (made up)", samples, {"made_up": True}))
    store.finish(samples)


if __name__ == "__main__":
    main()
