"""PGD side by side with foolbox and torchattacks: seconds as ratios, and the robust accuracy each arrives at.

    python benchmarks/peers.py [--samples 500] [--data ../shared/data]

Needs the extra ``parity`` and the pictures and weights that ADVKIT_DATA or --data names. The libraries take turns in one
process, on the same pictures with the same steps and step size; each number is the median over the rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from advkit import load_data, load_model
from advkit.attacks import PGD
from advkit.core import Linf
from advkit.engine.evaluate import evaluate
from advkit.results.statistics import share

STEPS, STEP_SIZE, BATCH = 40, 0.1, 128
CASES = [
    ("resnet20", "cifar10_resnet20.safetensors", "imagenet", "cifar10_test_1000.npz", "1/255"),
    ("resnet20", "cifar10_resnet20.safetensors", "imagenet", "cifar10_test_1000.npz", "8/255"),
    ("model_defs.py:load:cifar10_adv_resnet2b", "auto", None, "cifar10_test_1000.npz", "2/255"),
    ("model_defs.py:load:mnist_trades", "auto", None, "mnist_test_5000.npz", "0.3"),
]


def by_foolbox(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """foolbox's LinfPGD."""
    import foolbox

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(steps=STEPS, rel_stepsize=STEP_SIZE)
    parts = [attack(wrapped, a, b, epsilons=eps)[1] for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)]
    return torch.cat(parts)


def by_torchattacks(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """torchattacks' PGD."""
    import torchattacks

    attack = torchattacks.PGD(model, eps=eps, alpha=STEP_SIZE * eps, steps=STEPS)
    return torch.cat([attack(a, b) for a, b in zip(x.split(BATCH), y.split(BATCH), strict=True)])


def compare(case: tuple[str, str, str | None, str, str], folder: Path, samples: int, rounds: int) -> None:
    """Print one row per library."""
    spec, weights, normalize, pictures, eps = case
    data = load_data(folder / pictures).head(samples)
    spec = f"{folder}/{spec}" if ":" in spec else spec
    model = load_model(
        spec, weights=weights if weights == "auto" else folder / "weights" / weights, normalize=normalize, data=data
    )
    x, y = data.tensors()
    attack = PGD(Linf(eps), steps=STEPS, step_size=STEP_SIZE)

    def by_advkit(precision: str) -> Callable[[], float]:
        return lambda: (
            evaluate(model, data, attack, batch_size=BATCH, precision=precision, doubts=False).worst()[0][1].value
        )

    def by_peer(peer: Callable[[nn.Module, Tensor, Tensor, float], Tensor]) -> Callable[[], float]:
        def robust() -> float:
            x_adv = peer(model, x, y, float(Linf(eps).eps))
            with torch.no_grad():
                right = torch.cat([model(a).argmax(1) for a in x_adv.split(BATCH)]) == y
                right &= torch.cat([model(a).argmax(1) for a in x.split(BATCH)]) == y
            return float(right.float().mean())

        return robust

    ways = {
        "advkit": by_advkit("auto"),
        "advkit, mixed": by_advkit("mixed"),
        "advkit, float32": by_advkit("float32"),
        "foolbox": by_peer(by_foolbox),
        "torchattacks": by_peer(by_torchattacks),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - began)
    for name in ways:
        against = [
            statistics.median(a / b for a, b in zip(seconds[name], seconds[peer], strict=True))
            for peer in ("foolbox", "torchattacks")
        ]
        accuracy = share(round(found[name] * len(y)), len(y)).percent
        print(
            f"| {spec.rpartition('/')[2]} | {eps} | {name} | {accuracy} | {against[0]:.2f} | {against[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ADVKIT_DATA", "../shared/data")))
    given = parser.parse_args()
    if not given.data.is_dir():
        sys.exit(f"{given.data} is no folder; name one with --data.")
    warnings.simplefilter("ignore")
    print(f"PGD-{STEPS}, step {STEP_SIZE} eps, {given.samples} pictures, {torch.get_num_threads()} threads\n")
    print("| model | eps | library | robust accuracy % | time / foolbox | time / torchattacks |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for each in CASES:
        compare(each, given.data, given.samples, given.rounds)
