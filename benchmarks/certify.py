"""What a draw of randomised smoothing costs beside the forward pass that it is for: noise, and all that is around it.

    python benchmarks/certify.py [BACKBONE ...]     lenet and resnet on signs, one thread

Prints processor time for 1,000 draws: the bare forward passes, the certifier's whole loop, the noise alone, and what the same
noise would cost from core.rng's hashes. The ratio of the second to the first is what certifying costs above its floor.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from advkit.backbones import load_model
from advkit.core.rng import Rng, identify
from advkit.data import load_data
from advkit.engine.defend import build_certifier
from advkit.engine.memory import keep_freed_memory

BATCH = 128
CERTIFIERS = ("smoothing:n0=1", "smoothing-l1:n0=1", "smoothing-l1:n0=1,noise_kind=laplace")


def least(work: Callable[[], object], times: int) -> float:
    """The smallest processor time of a few runs, in seconds."""
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    keep_freed_memory()
    data = load_data("signs")
    x = data.pictures([0])
    rng = Rng.of(0, identify(x))
    print(f"{'ms for 1,000 draws':52} {'forward':>8} {'certify':>8} {'ratio':>6} {'noise':>6} {'hashed':>7}")
    for name in sys.argv[1:] or ["lenet", "resnet"]:
        model = load_model(name, data=data).eval()
        passes = 25 if name == "lenet" else 8
        draws = passes * BATCH
        # As noisy as the certifier's: a smooth picture is faster, for branches are foreseen.
        rows = x + 0.25 * torch.randn(BATCH, *x.shape[1:], generator=torch.Generator().manual_seed(0))
        for text in CERTIFIERS:
            by = build_certifier(f"{text},n={draws}")
            with torch.no_grad():
                forward = least(lambda: [model(rows) for _ in range(passes)], 5)  # noqa: B023
                certify = least(lambda: by.certify(model, x, rng, BATCH), 5)  # noqa: B023
                noise = least(lambda: [by.noise(x[0], 1, at, at + 32) for at in range(0, draws, 32)], 5)  # type: ignore[attr-defined]  # noqa: B023
                hashed = least(lambda: rng.normal(64, *x.shape[1:]), 5) * draws / 64
            scale = 1e6 / draws
            print(
                f"{name + ' ' + text:52} {forward * scale:8.1f} {certify * scale:8.1f} {certify / forward:6.2f} "
                f"{noise * scale:6.1f} {hashed * scale:7.1f}"
            )


if __name__ == "__main__":
    main()
