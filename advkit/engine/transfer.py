"""Adversarial pictures made on one model and shown to another: transfer (Szegedy et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.engine.passes import Passes
from advkit.engine.run import Finished, Progress, Run, Source
from advkit.engine.search import Found

__all__ = ["transfer"]


def transfer(
    attacks: Sequence[Attack],
    surrogate: Passes,
    passes: Passes,
    source: Source,
    attacked: Tensor,
    clean: Tensor,
    *,
    seed: int = 0,
    sink: Callable[[Finished], None] = lambda finished: None,
    progress: Progress | None = None,
) -> Found:
    """An attack at each radius on a surrogate, with all of its steps; what it ends with is judged by the model itself.

    The examples ``attacked`` (R, N) are those to be attacked at each radius; the others stay as they are. The best iterate
    on the surrogate is shown, and no other: a transfer attack has one try.
    """
    found = Found.nothing(len(attacks), clean)
    for radius, attack in enumerate(attacks):
        chosen = attacked[radius].nonzero().squeeze(1)
        if not len(chosen):
            continue

        def collect(finished: Finished, chosen: Tensor = chosen, radius: int = radius) -> None:
            seen = passes.judge(finished.x_adv.to(passes.device))
            shown = finished._replace(
                example=chosen[finished.example.cpu()],
                success=source.goal.take(chosen[finished.example.cpu()]).to(passes.device).reached(seen),
                prediction=seen.argmax(1),
                rung=torch.full_like(finished.rung.cpu(), radius),
            )
            found.put(radius, shown.example, shown)
            found.forwards[radius, shown.example] += 1
            sink(shown)

        part = Source(
            fetch=lambda indices, chosen=chosen: source.fetch(chosen[list(indices)].tolist()),  # type: ignore[misc]
            goal=source.goal.take(chosen),
        )
        run = Run(attack, surrogate, part, seed=seed, keep="best")
        run.go(collect, progress)
        found.forwards[radius, chosen] += run.forwards.cpu()
        found.backwards[radius, chosen] += run.backwards.cpu()
    return found
