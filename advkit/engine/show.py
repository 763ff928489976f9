"""What ``advkit show`` draws, computed: what the model says of examples, and an attack's steps, taken again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.core.attack import Ascent, Attack
from advkit.core.fitted import Applied
from advkit.core.goal import Goal
from advkit.core.modes import borrowed
from advkit.core.rng import Rng
from advkit.core.types import rows
from advkit.engine.examples import Finished, Sink, Source
from advkit.engine.lanes import Lanes
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision, checked_precision, choose_precision
from advkit.engine.recipe import Bench, Recipe
from advkit.engine.reload import goal_of
from advkit.engine.run import Run, Work
from advkit.errors import InputError
from advkit.results.facts import Saved
from advkit.results.outcome import Outcome
from advkit.results.show import Curve, Shown
from advkit.results.verify import shards_of

__all__ = ["Taken", "chosen", "examples_of", "steps_of"]


def chosen(outcome: Outcome, count: int) -> list[int]:
    """The first so many examples that were beaten; where they are fewer, also of those that stand."""
    beaten = (outcome.attacked & outcome.success).nonzero().squeeze(1).tolist()
    standing = (outcome.attacked & ~outcome.success).nonzero().squeeze(1).tolist()
    return sorted([*beaten, *standing][:count])


def pictures_at(saved: Saved, outcome: Outcome, indices: Sequence[int]) -> Tensor:
    """The saved adversarial pictures of examples, (B, C, H, W)."""
    found: dict[int, Tensor] = {}
    for _, places, pictures in shards_of(saved.of(outcome), outcome.attacked):
        found |= {int(i): x_adv for i, x_adv in zip(places, pictures, strict=True) if int(i) in indices}
    return torch.stack([found[i] for i in indices])


def examples_of(saved: Saved, bench: Bench, outcome: Outcome, count: int) -> list[Shown]:
    """Examples of an attack, with what the model says of them before and after."""
    indices = chosen(outcome, count)
    if not indices:
        return []
    x, x_adv, result = bench.data.pictures(indices), pictures_at(saved, outcome, indices), saved.result
    with borrowed(bench.model):
        passes = Passes(bench.model, Precision.own(bench.model), batch_for(bench.model, x[0]))
        clean, adversarial = (passes.judge(pictures.to(passes.device)).softmax(1).max(1) for pictures in (x, x_adv))
    return [
        Shown(
            index=i,
            label=result.name_of(int(result.labels[i])),
            x=x[row],
            x_adv=x_adv[row],
            clean=(result.name_of(int(clean.indices[row])), float(clean.values[row])),
            adversarial=(result.name_of(int(adversarial.indices[row])), float(adversarial.values[row])),
            success=bool(outcome.success[i]),
            distance=float(outcome.distance[i]),
        )
        for row, i in enumerate(indices)
    ]


@dataclass(frozen=True)
class Taken:
    """An attack's steps, taken again: a curve for each example, and of how many of them the same picture came out."""

    curves: list[Curve]
    same: int
    loss: str


class _Watched(Run):
    """A run that remembers loss and margin at every step, and at the point with which each restart or target ends."""

    def __init__(self, attack: Attack, passes: Passes, source: Source, *, seed: int, keep: str) -> None:
        super().__init__(attack, passes, source, seed=seed, keep="best" if keep == "best" else "first")
        self.seen: dict[int, list[tuple[int, int, float, float]]] = defaultdict(list)

    def _look(self, lanes: Lanes, goal: Goal, rng: Rng) -> tuple[Ascent, Tensor, Tensor, Tensor]:
        answer = super()._look(lanes, goal, rng)
        loss, logits = answer[0].loss, answer[0].logits
        if loss.ndim > 1:  # of several probes the one that the attack likes best
            best = loss.argmax(1)
            place = torch.arange(len(best), device=best.device)
            loss, logits = loss[place, best], logits[place, best]
        self._note(lanes, goal, loss, logits)
        return answer

    def _decide(self, sink: Sink, work: Work) -> None:
        for lanes, point, final in self._waiting:
            if bool(final.any()):
                ended = rows(lanes, final)
                goal, logits = self._goal(ended), self.passes.judge(point[final])
                self._note(ended, goal, self.attack.loss(logits, goal), logits)
        super()._decide(sink, work)

    def _note(self, lanes: Lanes, goal: Goal, loss: Tensor, logits: Tensor) -> None:
        columns = (lanes.example, lanes.steps, lanes.branch, loss.double(), goal.margin(logits).double())
        for i, step, branch, value, margin in zip(*(column.tolist() for column in columns), strict=True):
            self.seen[i].append((step, branch, value, margin))


def steps_of(
    saved: Saved, recipe: Recipe, bench: Bench, outcome: Outcome, attacks: Sequence[Attack], count: int
) -> Taken:
    """Run an attack again on a few of its examples, as it was run. Raises InputError where that cannot be.

    ``attacks`` are those that the command built. An example's path does not depend on its company, so a few will do.
    """
    attack = next((each for each in attacks if repr(each) == outcome.attack), None)
    if outcome.tells == "nothing":
        raise InputError("it was made on another model, which is not saved.")
    if outcome.attack.startswith(Applied.__name__):
        raise InputError("it was fitted beforehand, and takes no steps of its own.")
    if attack is None:
        raise InputError(f"the command builds no {outcome.attack} today: it is of another version of advkit.")
    search = recipe.search
    if search.get("eot", 1) > 1 or search.get("repeats", 1) > 1:
        raise InputError("the model draws at random, and would take other steps.")
    if not attack.steps:
        raise InputError("it takes no steps.")
    indices = chosen(outcome, count)
    data, result, place = bench.data, saved.result, torch.tensor(indices)
    kept: dict[int, Tensor] = {}

    def keep(finished: Finished) -> None:
        for i, x_adv in zip(finished.example.tolist(), finished.x_adv.cpu(), strict=True):
            kept[i] = x_adv

    with borrowed(bench.model):
        size = search.get("batch_size") or batch_for(bench.model, data.pictures([0])[0])
        trial = data.pictures(range(min(len(data), 8))).to(Passes(bench.model, Precision.own(bench.model), size).device)
        steering = choose_precision(checked_precision(search["precision"]), bench.model, trial)
        source = Source(lambda few: data.pictures(place[list(few)].tolist()), goal_of(result).take(place))
        best = attack.minimal and not outcome.follows
        run = _Watched(
            attack,
            Passes(bench.model, steering, size),
            source,
            seed=result.seed,
            keep="best" if best else search["keep"],
        )
        run.go(keep)
    before = pictures_at(saved, outcome, indices)
    same = sum(torch.equal(kept[row], before[row]) for row in range(len(indices)))
    return Taken([_curve(saved, outcome, i, run.seen[row]) for row, i in enumerate(indices)], same, repr(attack.loss))


def _curve(saved: Saved, outcome: Outcome, index: int, seen: Sequence[tuple[int, int, float, float]]) -> Curve:
    step, branch, loss, margin = (
        torch.tensor(column, dtype=torch.float64).numpy() for column in zip(*seen, strict=True)
    )
    label = saved.result.name_of(int(saved.result.labels[index]))
    return Curve(index, label, step, branch, loss, margin, bool(outcome.success[index]))
