"""From runs of an attack to its facts at every radius, those of a nested search included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.goal import Goal
from advkit.engine.examples import Finished, Keep, Progress, Source
from advkit.engine.ladder import Ladder
from advkit.engine.passes import Passes
from advkit.engine.run import Run

__all__ = ["Found", "part_of", "search"]


@dataclass(frozen=True)
class Found:
    """What an attack did to N examples at R radii: (R, N) each, on the CPU. A nested search did not test all of them."""

    tested: Tensor
    success: Tensor
    prediction: Tensor
    distance: Tensor
    steps: Tensor
    forwards: Tensor
    backwards: Tensor

    @classmethod
    def nothing(cls, radii: int, clean: Tensor) -> Self:
        """Nothing tested, and every example as it is without attack (N,)."""
        zero = torch.zeros(radii, len(clean), dtype=torch.long)
        return cls(zero > 0, zero > 0, clean.repeat(radii, 1), zero.double(), zero, zero.clone(), zero.clone())

    def put(self, radius: int | Tensor, example: Tensor, found: Finished) -> None:
        """Keep what a run has finished."""
        self.tested[radius, example] = True
        for name in ("success", "prediction", "distance", "steps"):
            getattr(self, name)[radius, example] = getattr(found, name).cpu().to(getattr(self, name).dtype)

    def complete(self, labels: Tensor) -> Found:
        """The facts at radii that a nested search did not test, from those at the smaller ones that it did.

        A picture that changed the answer lies in every larger ball too; where none was found, the example stands.
        """
        columns = {f.name: getattr(self, f.name).clone() for f in fields(self)}
        known = ("success", "prediction", "distance")
        carried = {name: columns[name][0] for name in known}
        fallen = torch.zeros_like(labels, dtype=torch.bool)
        for radius in range(len(self.tested)):
            falls = self.tested[radius] & (self.success[radius] | (self.prediction[radius] != labels))
            own = falls | (self.tested[radius] & ~fallen)
            for name in known:
                columns[name][radius] = torch.where(own, columns[name][radius], carried[name])
                carried[name] = torch.where(falls, columns[name][radius], carried[name])
            fallen = fallen | falls
        return Found(**columns)


def search(
    attacks: Sequence[Attack],
    passes: Passes,
    source: Source,
    attacked: Tensor,
    clean: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    nested: bool = False,
    keep: Keep = "first",
    sink: Callable[[Finished], None] = lambda finished: None,
    progress: Progress | None = None,
) -> Found:
    """An attack at ascending radii on the examples ``attacked`` (R, N) at each; the others stay as they are.

    ``nested``: one search for the smallest radius at which an example falls, instead of an attack at every radius; of a
    minimal-norm attack one run at the largest radius, for the nearest adversarial picture.
    The sink gets what is finished, ``example`` being the place in the source and ``rung`` the radius.
    """
    if attacks[0].threat.is_point:  # every example stays as it is without attack
        found = Found.nothing(1, clean)
        if len(attacks) == 1:
            return found
        larger = search(
            attacks[1:],
            passes,
            source,
            attacked[1:],
            clean,
            labels,
            seed=seed,
            nested=nested,
            keep=keep,
            sink=lambda finished: sink(finished._replace(rung=finished.rung + 1)),
            progress=progress,
        )
        return Found(**{f.name: torch.cat([getattr(found, f.name), getattr(larger, f.name)]) for f in fields(Found)})
    found = Found.nothing(len(attacks), clean)
    if nested and attacks[0].minimal and len(attacks) > 1:
        return _nearest(attacks, passes, source, attacked, labels, found, seed, sink, progress)
    parts: list[tuple[Ladder, Tensor, Tensor | None, slice]]
    if nested and len(attacks) > 1:
        chosen = attacked.any(0).nonzero().squeeze(1)
        radii = torch.arange(len(attacks))[:, None]
        parts = [(Ladder(attacks), chosen, torch.where(attacked, radii, 0).amax(0)[chosen], slice(None))]
    else:
        parts = [
            (Ladder([attack]), attacked[r].nonzero().squeeze(1), None, slice(r, r + 1))
            for r, attack in enumerate(attacks)
        ]
    for ladder, chosen, top, radius in parts:
        if not len(chosen):
            continue

        def collect(finished: Finished, chosen: Tensor = chosen, begin: int = radius.start or 0) -> None:
            where, rung = chosen[finished.example.cpu()], finished.rung.cpu() + begin
            found.put(rung, where, finished)
            sink(finished._replace(example=where, rung=rung))

        run = Run(ladder, passes, part_of(source, chosen), seed=seed, keep=keep, top=top)
        run.go(collect, progress)
        found.forwards[radius, chosen] = run.forwards_at.cpu()
        found.backwards[radius, chosen] = run.backwards_at.cpu()
    return found.complete(labels) if nested else found


def _nearest(
    attacks: Sequence[Attack],
    passes: Passes,
    source: Source,
    attacked: Tensor,
    labels: Tensor,
    found: Found,
    seed: int,
    sink: Callable[[Finished], None],
    progress: Progress | None,
) -> Found:
    """One run at the largest radius; at the others what it found, or that pulled back, as the model itself sees it."""
    chosen = attacked.any(0).nonzero().squeeze(1)
    goal = source.goal.to(passes.device)

    def collect(finished: Finished) -> None:
        where = chosen[finished.example.cpu()]
        x = source.fetch(where.tolist()).to(passes.device)
        for radius, attack in enumerate(attacks):
            at = finished._replace(example=where, rung=torch.full_like(where, radius))
            if radius < len(attacks) - 1:
                at = _pulled(at, attack, x, passes, goal.take(where.to(passes.device)))
                found.forwards[radius, where] += passes.verdicts
            met = attacked[radius, where]
            if bool(met.any()):
                at = Finished(*(column[met.to(column.device)] for column in at))
                found.put(radius, at.example, at)
                sink(at)

    if len(chosen):
        run = Run(attacks[-1], passes, part_of(source, chosen), seed=seed, keep="best")
        run.go(collect, progress)
        found.forwards[-1, chosen] += run.forwards.cpu()
        found.backwards[-1, chosen] += run.backwards.cpu()
    return found.complete(labels)


def _pulled(finished: Finished, attack: Attack, x: Tensor, passes: Passes, goal: Goal) -> Finished:
    """What was found in a larger ball, in the attack's."""
    x_adv = attack.threat.project(finished.x_adv.to(x), x)
    logits = passes.judge(x_adv)
    distance = attack.threat.distance(x_adv, x)
    return finished._replace(
        x_adv=x_adv,
        success=goal.reached(logits),
        prediction=logits.argmax(1),
        distance=distance,
        margin=goal.margin(logits),
    )


def part_of(source: Source, chosen: Tensor) -> Source:
    """Some of the examples of a source."""
    first = source.first
    return Source(
        fetch=lambda indices: source.fetch(chosen[list(indices)].tolist()),
        goal=source.goal.take(chosen),
        first=None if first is None else lambda indices: first(chosen[list(indices)].tolist()),
        place=chosen if source.place is None else source.place[chosen],
    )
