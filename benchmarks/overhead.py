"""What the engine adds to the bare passes: wall time of a run over (passes x cost of one bare pass).

    python benchmarks/overhead.py

A run and bare passes take turns in one process; the ratio is the median over the rounds. No example is ever beaten, so
every lane is full in every step; the floor counts the gradient passes, and the forward passes of the verdicts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from advkit.attacks import PGD
from advkit.backbones import load_model
from advkit.core import Linf, Targeted
from advkit.core.modes import borrowed
from advkit.engine.examples import Source
from advkit.engine.memory import keep_freed_memory
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.engine.run import Run

BATCH, EXAMPLES, STEPS, ROUNDS = 128, 256, 10, 5


def measure(name: str) -> float:
    """The ratio for one backbone at 32x32."""
    model = load_model(name, weights="random", classes=10, size=32)
    x = torch.rand(EXAMPLES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with borrowed(model):
        least = model(x).argmin(1)  # untrained and far away: 1e-6 never gets there

        def gradient_pass() -> None:
            points = x[:BATCH].clone().requires_grad_()
            torch.autograd.grad(model(points).log_softmax(1)[:, 0].sum(), points)

        def forward_pass() -> None:
            with torch.no_grad():
                model(x[:BATCH])

        ratios = []
        for _ in range(ROUNDS):
            gradient, forward = clock(gradient_pass), clock(forward_pass)
            run = Run(
                PGD(Linf(1e-6), steps=STEPS),
                Passes(model, Precision.own(model), BATCH),
                Source(lambda indices: x[indices], Targeted(least)),
            )
            wall = clock(partial(run.go, lambda finished: None), times=1)
            gradient, forward = (gradient + clock(gradient_pass)) / 2, (forward + clock(forward_pass)) / 2
            backwards, forwards = int(run.backwards.sum()), int(run.forwards.sum())
            floor = (backwards * gradient + (forwards - backwards) * forward) / BATCH
            ratios.append(wall / floor)
    return statistics.median(ratios)


def clock(work: Callable[[], object], times: int = 3) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    for kept in (False, True):
        print("freed memory kept, as the command line does" if kept and keep_freed_memory() else "as a library")
        for name in ("resnet18", "resnet20"):
            print(f"  {name} 32x32, batch {BATCH}: wall / (passes x bare pass) = {measure(name):.3f}", flush=True)
