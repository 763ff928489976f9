"""Adversarial training measured: every objective with an equal number of epochs, on three data sets.

    python benchmarks/training.py [--data ../shared/data] [--out runs/training] [--only cifar10:trades] [--page]

Trains a small network by each objective (advkit's own loop, held-out pictures decide which epoch is kept), then attacks what
came of it with the default worst case of ``advkit attack`` and, where torchattacks is installed (extra ``parity``), with its
AutoAttack on the first pictures. What is done is kept in --out: interrupt it and run it again. ``--page`` writes
docs/training_measured.md from what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from advkit import Data, evaluate, load_data, load_model
from advkit.backbones import Classifier, save_model
from advkit.catalog import ATTACKS
from advkit.core import Eps, Linf
from advkit.engine.defend import build_objective
from advkit.engine.evaluate import accuracy
from advkit.engine.provenance import circumstances
from advkit.engine.training import Recipe, train
from advkit.results.statistics import share

PAGE = Path(__file__).parent.parent / "docs" / "training_measured.md"


@dataclass(frozen=True)
class Case:
    """A data set, the network that is small enough for it, and how long it is trained."""

    name: str
    train: str
    test: str
    model: str
    eps: str
    epochs: int
    samples: int | None = None
    learning_rate: float = 0.05
    batch_norm: bool = True
    methods: tuple[str, ...] = ()  # all, where none is named

    def network(self, weights: str | Path, data: Data) -> Classifier:
        """The network with weights, or as it is before training."""
        settings = {"batch_norm": True} if self.batch_norm and weights == "random" else {}
        return load_model(self.model, weights=weights, data=data, seed=0, **settings)


CASES = [
    Case(
        "fashion-mnist",
        "fashion_mnist_train_20000.npz",
        "fashion_mnist_test_5000.npz",
        "lenet",
        "0.1",
        10,
        batch_norm=False,
    ),
    Case(
        "fashion-mnist-0.2",
        "fashion_mnist_train_20000.npz",
        "fashion_mnist_test_5000.npz",
        "lenet",
        "0.2",
        10,
        batch_norm=False,
        methods=("pgd-at", "fast-at", "fast-at, no random start", "n-fgsm"),
    ),
    Case("cifar10", "cifar10_train_8068.npz", "cifar10_test_1000.npz", "cnn", "8/255", 8),
    Case("gtsrb", "gtsrb_train.npz", "gtsrb_test.npz", "cnn", "8/255", 6),
]
INNER = "steps=5,step_size=0.3"
METHODS = {
    "standard": "standard",
    "pgd-at": f"pgd-at:{INNER}",
    "trades": f"trades:beta=6,{INNER}",
    "mart": f"mart:beta=5,{INNER}",
    "pgd-at+awp": f"pgd-at:{INNER}+awp:gamma=0.005",
    "fast-at": "fast-at",
    "fast-at, no random start": "fast-at:step_size=1,start=zero",
    "n-fgsm": "n-fgsm",
}


def trained(case: Case, method: str, folder: Path, out: Path) -> tuple[nn.Module, Data, dict[str, object]]:
    """The network, the pictures to test it on, and what is known of its training; taken from ``out`` if it is there."""
    pictures, test = load_data(folder / case.train).head(case.samples), load_data(folder / case.test)
    weights, facts = out / "weights.safetensors", out / "training.json"
    if facts.exists():
        return case.network(weights, test), test, json.loads(facts.read_text())
    objective = build_objective(METHODS[method], **({} if method == "standard" else {"threat": Linf(case.eps)}))
    net = case.network("random", pictures)
    recipe = Recipe(epochs=case.epochs, learning_rate=case.learning_rate, weight_decay=5e-4)
    began = time.process_time()
    done = train(net, pictures, objective, recipe, lambda epoch: print(" ", epoch), folder=out)
    found: dict[str, object] = {
        "objective": repr(objective),
        "recipe": repr(recipe),
        "seconds": time.process_time() - began,
        "resumed": done.resumed,
        "history": [epoch.to_json() for epoch in done.history],
    }
    if done.best is not None and done.best.number < len(done.history):
        last = case.network("random", pictures)
        last.load_state_dict(dict(done.last))
        found["last"] = attacked(last, test, case, 200)
    size = pictures.shape[1]
    save_model(weights, net, backbone=net.name, classes=pictures.classes, channels=pictures.shape[0], size=size)
    facts.write_text(json.dumps(found))
    return net, test, found


def attacked(net: nn.Module, test: Data, case: Case, samples: int) -> float:
    """Robust accuracy in the worst case of `worst-case`."""
    worst = evaluate(net, test, ATTACKS.create("worst-case", threat=Linf(case.eps)), samples=samples).worst()
    return worst[0][1].value


def by_autoattack(net: nn.Module, test: Data, case: Case, samples: int) -> float | None:
    """Robust accuracy by torchattacks' AutoAttack (standard), an independent implementation."""
    try:
        import torchattacks
    except ImportError:
        return None
    x, y = test.pictures(range(samples)), test.labels[:samples]
    right = net(x).argmax(1) == y
    if not bool(right.any()):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attack = torchattacks.AutoAttack(
            net, norm="Linf", eps=float(Eps(case.eps)), n_classes=len(test.classes), seed=0
        )
        x_adv = attack(x[right], y[right])
    return int((net(x_adv).argmax(1) == y[right]).sum()) / samples


def measure(case: Case, method: str, folder: Path, out: Path, samples: int, independent: int) -> None:
    """Train, attack and keep the numbers."""
    result = out / "result.json"
    if result.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"{case.name}: {method}", flush=True)
    net, test, facts = trained(case, method, folder, out)
    found = {
        "case": asdict(case),
        "method": method,
        "objective": facts["objective"],
        "recipe": facts["recipe"],
        "seconds": facts["seconds"],
        "resumed": facts["resumed"],
        "alarms": [epoch["number"] for epoch in facts["history"] if epoch["alarm"]],  # type: ignore[attr-defined]
        "scores": [epoch["scores"] for epoch in facts["history"]],  # type: ignore[attr-defined]
        "clean": accuracy(net, test).value,
        "robust": attacked(net, test, case, samples),
        "last": facts.get("last"),
        "autoattack": by_autoattack(net, test, case, independent),
        "n": samples,
        "n_independent": independent,
        "n_clean": len(test),
    }
    result.write_text(json.dumps(found))
    print({key: found[key] for key in ("clean", "robust", "autoattack", "seconds", "alarms")}, flush=True)


def main() -> None:
    """Measure what is asked for, then print or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADVKIT_DATA", "../shared/data")))
    parser.add_argument("--out", type=Path, default=Path("runs/training"))
    parser.add_argument("--only", action="append", help="CASE or CASE:METHOD; repeatable")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--independent", type=int, default=100, help="pictures that AutoAttack meets")
    parser.add_argument("--page", action="store_true", help="write docs/training_measured.md and do nothing else")
    asked = parser.parse_args()
    runs = [(case, method) for method in METHODS for case in CASES if method in (case.methods or METHODS)]
    if asked.only:
        runs = [(c, m) for c, m in runs if c.name in asked.only or f"{c.name}:{m}" in asked.only]
    for case, method in [] if asked.page else runs:
        place = asked.out / case.name / method.replace(", ", "-").replace(" ", "-")
        measure(case, method, asked.data, place, asked.samples, asked.independent)
    found = [json.loads(path.read_text()) for path in sorted(asked.out.glob("*/*/result.json"))]
    page = text(found)
    if asked.page:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)


def text(found: list[dict]) -> str:  # type: ignore[type-arg]
    """The page."""
    parts = [
        "# Adversarial training, measured",
        "",
        "Made by `python benchmarks/training.py`, then `--page`; do not edit. "
        f"torch {torch.__version__}, one thread of {circumstances()['processor']}.",
        "",
        "Every objective is given the same network, pictures, epochs and learning rate; those with an inner attack take",
        "five steps of it. A tenth of the training pictures (512 at most) is held out, and the epoch with the highest PGD-10",
        "accuracy on them is kept; *last* is the last epoch's accuracy where that is another one. *Worst case* is the",
        "attack `worst-case` (PGD on the cross-entropy, on the margin and towards likely rivals); *AutoAttack*",
        "is torchattacks' port of the standard version, on the first pictures only. Seconds are processor time of the",
        "training, held-out measurements included. The networks are small and trained briefly on part of the data: the",
        "numbers show the order of the methods, not what each can reach. Where AutoAttack lies far below the worst case, as",
        "on Fashion-MNIST at 0.2, gradients mislead: there attacks by gradients alone overstate robustness, and the last",
        "number counts.",
    ]
    for case in CASES:
        rows = [row for row in found if row["case"]["name"] == case.name]
        if not rows:
            continue
        first = rows[0]
        part = f"the first {case.samples:,} pictures" if case.samples else "all pictures"
        parts += [
            "",
            f"## {case.name}: {case.model}, Linf {case.eps}, {case.epochs} epochs on {part} of `{case.train}`",
            "",
            f"| objective | clean % (n = {first['n_clean']:,}) | worst case % (n = {first['n']}) | last % (n = 200) | "
            f"AutoAttack % (n = {first['n_independent']}) | seconds | alarm |",
            "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        ]
        for method in METHODS:
            for row in (row for row in rows if row["method"] == method):
                robust = share(round(row["robust"] * row["n"]), row["n"])
                clean = share(round(row["clean"] * row["n_clean"]), row["n_clean"])
                alarm = f"epoch {', '.join(map(str, row['alarms']))}" if row["alarms"] else "-"
                last = "-" if row["last"] is None else f"{100 * row['last']:.1f}"
                independent = "-" if row["autoattack"] is None else f"{100 * row['autoattack']:.0f}"
                seconds = f"{row['seconds']:.0f}" if not row["resumed"] else "(resumed)"
                parts.append(
                    f"| {method} | {clean.percent} | {robust.percent} | {last} | {independent} | {seconds} | {alarm} |"
                )
        parts += ["", "Objectives:", ""]
        parts += [f"- {m}: `{row['objective']}`" for m in METHODS for row in rows if row["method"] == m]
        parts += ["", f"Recipe: `{first['recipe']}`"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
