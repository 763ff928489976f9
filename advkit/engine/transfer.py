"""Adversarial pictures made on one model and shown to another: transfer (Szegedy et al. 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from advkit.core.attack import Attack
from advkit.core.external import External
from advkit.engine.examples import Finished, Keep, Progress, Source
from advkit.engine.passes import Passes
from advkit.engine.run import Run
from advkit.engine.search import Found, part_of

__all__ = ["Made", "transfer"]


class _Example(NamedTuple):
    """What an attack made of one example on the surrogate, and what it took."""

    x_adv: Tensor
    distance: float
    steps: int
    forwards: int
    backwards: int


class Made:
    """Adversarial pictures made on one surrogate, kept to be shown to several models; the oldest give way.

    An example's picture does not depend on its company, so the one that is kept is the one that would be made again.
    """

    def __init__(self, most: int = 256 << 20) -> None:
        self.room = most  # bytes
        self._kept: dict[tuple[object, ...], _Example] = {}

    def __contains__(self, key: tuple[object, ...]) -> bool:
        return key in self._kept

    def __getitem__(self, key: tuple[object, ...]) -> _Example:
        return self._kept[key]

    def keep(self, key: tuple[object, ...], example: _Example) -> None:
        """Keep one example, at the cost of the oldest ones where there is no room."""
        self._kept[key] = example
        self.room -= example.x_adv.nbytes
        while self.room < 0:
            self.room += self._kept.pop(next(iter(self._kept))).x_adv.nbytes


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
    made: Made | None = None,
    index: Tensor | None = None,
) -> Found:
    """An attack at each radius on a surrogate, with all of its steps; what it ends with is judged by the model itself.

    The examples ``attacked`` (R, N) are those to be attacked at each radius; the others stay as they are. The best iterate
    on the surrogate is shown, and no other: a transfer attack has one try. Only a search by scores or decisions ends at its
    first success there: it may go on for thousands of queries, and little of what they gain carries over. What ``made`` holds
    of this surrogate already, under the examples' places in the data ``index`` (N,; their order where None), is not made again;
    its passes are counted as if it were.
    """
    found = Found.nothing(len(attacks), clean)

    def show(radius: int, where: Tensor, finished: Finished) -> None:
        seen = passes.judge(finished.x_adv.to(passes.device))
        shown = finished._replace(
            example=where,
            success=source.goal.take(where).to(passes.device).reached(seen),
            prediction=seen.argmax(1),
            margin=source.goal.take(where).to(passes.device).margin(seen),
            rung=torch.full_like(where, radius),
        )
        found.put(radius, where, shown)
        found.forwards[radius, where] += passes.verdicts
        sink(shown)

    for radius, attack in enumerate(attacks):
        if attack.threat.is_point:
            continue
        chosen = attacked[radius].nonzero().squeeze(1)
        # What another library makes of an example may depend on its company, and that on which examples are attacked.
        shelf = None if isinstance(attack, External) else made
        keys = {
            place: (repr(attack), seed, type(source.goal), place if index is None else int(index[place]), goal)
            for place, goal in zip(chosen.tolist(), source.goal.classes[chosen].tolist(), strict=True)
        }
        known = [place for place in keys if shelf is not None and keys[place] in shelf]
        if shelf is not None and known:
            for part in torch.split(torch.tensor(known), passes.batch_size):
                kept = [shelf[keys[place]] for place in part.tolist()]
                show(radius, part, _finished(kept, clean[part]))
                found.forwards[radius, part] += torch.tensor([each.forwards for each in kept])
                found.backwards[radius, part] += torch.tensor([each.backwards for each in kept])
            chosen = torch.tensor([place for place in keys if keys[place] not in shelf], dtype=torch.long)
        if not len(chosen):
            continue
        new: list[Finished] | None = None if shelf is None else []

        def collect(
            finished: Finished, chosen: Tensor = chosen, radius: int = radius, new: list[Finished] | None = new
        ) -> None:
            show(radius, chosen[finished.example.cpu()], finished)
            if new is not None:
                new.append(finished)

        keep: Keep = "best" if attack.tells == "gradient" else "first"
        run = Run(attack, surrogate, part_of(source, chosen), seed=seed, keep=keep)
        run.go(collect, progress)
        forwards, backwards = run.forwards.cpu(), run.backwards.cpu()
        found.forwards[radius, chosen] += forwards
        found.backwards[radius, chosen] += backwards
        if shelf is not None and new is not None:
            _keep(shelf, [keys[place] for place in chosen.tolist()], new, forwards, backwards)
    return found


def _keep(
    made: Made, keys: Sequence[tuple[object, ...]], new: Sequence[Finished], forwards: Tensor, backwards: Tensor
) -> None:
    for finished in new:
        for row, place in enumerate(finished.example.tolist()):
            picture = finished.x_adv[row].detach().cpu().clone()
            distance, steps = float(finished.distance[row]), int(finished.steps[row])
            made.keep(keys[place], _Example(picture, distance, steps, int(forwards[place]), int(backwards[place])))


def _finished(kept: Sequence[_Example], clean: Tensor) -> Finished:
    """What was kept, as a run gives it; what a model says of it is not known yet."""
    unknown = torch.zeros(len(kept), dtype=torch.bool)
    return Finished(
        example=torch.arange(len(kept)),
        x_adv=torch.stack([each.x_adv for each in kept]),
        success=unknown,
        prediction=clean,
        distance=torch.tensor([each.distance for each in kept], dtype=torch.float64),
        steps=torch.tensor([each.steps for each in kept]),
        rung=torch.zeros(len(kept), dtype=torch.long),
        margin=torch.zeros(len(kept)),
    )
