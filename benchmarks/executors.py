"""The same sweep in one process, in two, and on Ray: how much faster, as ratios of runs that alternate.

    python benchmarks/executors.py

The start of workers is left out: the clock runs from when all of them wait to the end. The machine should do nothing else;
its load is printed, for on two cores a third busy process takes from two workers and not from one. Bars: two processes of one
thread each are at least 1.7 times as fast as one process of one thread; Ray takes at most 15 % longer than processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_LOAD = 8.0  # seconds that a worker may take to load torch
KINDS = ("one thread", "two threads", "two processes", "ray")


def timed(kind: str, samples: int, steps: int) -> float:
    """Seconds of the attacks. Workers have started by then: for the answers without attack, and time to load since."""
    import torch

    from advkit.engine.specs import AttackSpec, ModelSpec
    from advkit.engine.sweep import Spectator, Sweep, make_plan
    from advkit.engine.tasks import Executor, InProcess, Task
    from advkit.executors.processes import Processes
    from advkit.executors.ray import Ray
    from advkit.results.store import Store

    torch.set_num_threads(1 if kind == "one thread" else 2)
    executor: Executor = {"two processes": Processes(2), "ray": Ray(workers=2)}.get(kind, InProcess())
    wanted = Sweep(
        (ModelSpec("resnet", "adversarial"),),
        (AttackSpec("pgd", (("steps", steps),)), AttackSpec("mi-fgsm", (("steps", steps),))),
        ("8/255",),
        samples=samples,
        shard=samples // 8,
        batch_size=samples // 8,
    )
    plan, began = make_plan(wanted), 0.0
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder)).create()
        for planned in plan.cells:
            store.add(planned.record)
        left = plan.left(store)

        def rounds() -> Iterator[list[Task]]:
            nonlocal began
            yield [task for task in left if not task.cell.stages]
            time.sleep(_LOAD)
            began = time.perf_counter()
            yield [task for task in left if task.cell.stages]

        took = [(report.error, time.perf_counter() - began) for report in executor.run(rounds(), Spectator().watch)]
    assert not any(error for error, _ in took)
    return took[-1][1]


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description="Executors compared; see the top of the file.")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--only", choices=KINDS, help="one run of one kind; prints seconds")
    given = parser.parse_args()
    if given.only:
        print(timed(given.only, given.samples, given.steps))
        return
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(given.times):
        for kind in KINDS:
            command = [
                sys.executable,
                __file__,
                "--only",
                kind,
                "--samples",
                str(given.samples),
                "--steps",
                str(given.steps),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[kind].append(float(done.stdout.splitlines()[-1]))
    print(f"load of the last minute {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for kind, seconds in found.items():
        print(f"{kind:15} {median(seconds):6.1f} s   {' '.join(f'{s:.1f}' for s in seconds)}")
    for faster, slower in (("two processes", "one thread"), ("two processes", "two threads"), ("two processes", "ray")):
        ratios = [b / a for a, b in zip(found[faster], found[slower], strict=True)]
        print(f"{slower} / {faster}: {median(ratios):.2f}   {' '.join(f'{r:.2f}' for r in ratios)}")


if __name__ == "__main__":
    main()
