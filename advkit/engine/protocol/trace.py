"""What a gradient attack saw on its way: successes that it lost again (I3), and whether its loss was still rising (I4)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advkit.attacks.pgd import PGD
from advkit.core.attack import Ascent, State
from advkit.core.goal import Goal, Untargeted
from advkit.core.losses import CrossEntropy
from advkit.core.rng import Rng, identify
from advkit.engine.examples import Finished, Source
from advkit.engine.protocol.case import Case, Form, titled
from advkit.engine.protocol.finding import LUCK, PASS, UNKNOWN, WARN, Answer, of
from advkit.engine.protocol.strength import twice
from advkit.engine.run import Run

__all__ = ["levelled_off", "no_success_is_lost"]

_LAST = 10  # steps
_RISING = 0.05  # of the whole climb of an example's loss in its last steps: it has not ended (Pintor et al. 2022)
_SOME = 0.05  # of the examples


@dataclass(frozen=True)
class _Traced(PGD):
    """PGD that writes down which pictures it is told of, with loss and whether the goal is reached, step by step."""

    seen: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list, compare=False, repr=False)

    def step(self, state: State, at: Ascent, x: Tensor, goal: Goal, rng: Rng) -> State:  # type: ignore[override]
        """As PGD does."""
        self.seen.append((identify(x).cpu(), at.loss.detach().cpu(), goal.reached(at.logits).cpu()))
        return super().step(state, at, x, goal, rng)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Trace:
    """Of the plain attack on n examples: losses and hits (n, steps), and whether the last iterate succeeds (n,)."""

    losses: Tensor
    hits: Tensor
    last: Tensor

    @property
    def lost(self) -> Tensor:
        """(n,) bool: beaten on the way, not at the end."""
        return self.hits.any(1) & ~self.last

    @property
    def rising(self) -> Tensor:
        """(n,) bool: never beaten, and still climbing at the end."""
        best = self.losses.cummax(1).values
        climb = best[:, -1] - best[:, 0]
        late = best[:, -1] - best[:, -1 - min(_LAST, best.shape[1] // 2)]
        return ~self.hits.any(1) & (late > _RISING * climb)


def no_success_is_lost(case: Case) -> Answer:
    """Of how many examples the last iterate fails where one before it had succeeded; here the best one counts."""
    trace = _trace(case)
    if trace is None:
        return _nothing()
    lost, total = int(trace.lost.sum()), len(trace.last)
    said = f"PGD passes through a success and ends without one for {of(lost, total)}"
    if lost <= max(1.0, _SOME * total):
        return Answer(PASS, f"{said}; the best iterate counts here.")
    advice = "Tools that return the last iterate overstate this model; the best one counts here."
    return Answer(WARN, f"{said}.", advice)


def levelled_off(case: Case) -> Answer:
    """The best loss so far, between its first and its last value: how much of the rise lies in the last 10 steps."""
    trace = _trace(case)
    if trace is None:
        return _nothing()
    rising, total = int(trace.rising.sum()), len(trace.last)
    last = min(_LAST, case.steps // 2)
    said = f"{of(rising, total).capitalize()} stand while their loss still rises in the last {last} steps"
    if rising <= max(1.0, LUCK * total):
        return Answer(PASS, f"{said}.")
    said = f"{said} by more than {_RISING:.0%} of its climb"
    more = int(twice(case).sum())
    if not more:
        return Answer(PASS, f"{said}, yet twice the steps beat none more.")
    return Answer(WARN, f"{said}; twice the steps beat {more:,} more.", "Report numbers with more steps only.")


def _trace(case: Case) -> Trace | None:
    return case.once("trace", lambda: _follow(case))


def _follow(case: Case) -> Trace | None:
    if case.gradients.margin is None:
        return None
    attack = _Traced(case.ball, steps=case.steps, loss=CrossEntropy())
    where = case.correct.nonzero().squeeze(1)
    last = torch.zeros(len(where), dtype=torch.bool)
    stood = ~case.ledger.fallen

    def collect(finished: Finished) -> None:
        index, success = finished.example.cpu(), finished.success.cpu()
        last[index] = success
        case.offer(where[index], finished.x_adv.cpu(), success)

    source = Source(lambda indices: case.x[where[list(indices)]], Untargeted(case.y[where]))
    run = Run(attack, case.passes, source, seed=case.seed, keep="last")
    run.go(collect)
    case.note(titled(case.plain(CrossEntropy())), Form("last iterate", case.passes), len(where), last, stood, run)
    rows = {int(key): row for row, key in enumerate(identify(case.x[where]))}
    losses: list[list[float]] = [[] for _ in range(len(where))]
    hits: list[list[bool]] = [[] for _ in range(len(where))]
    for keys, loss, hit in attack.seen:
        for key, value, reached in zip(keys.tolist(), loss.tolist(), hit.tolist(), strict=True):
            losses[rows[key]].append(value)
            hits[rows[key]].append(reached)
    # Pictures that occur twice write into one row.
    full = [row for row in range(len(where)) if len(losses[row]) == case.steps]
    if not full:
        return None
    return Trace(torch.tensor([losses[r] for r in full]), torch.tensor([hits[r] for r in full]), last[full])


def _nothing() -> Answer:
    return Answer(UNKNOWN, "There is no gradient to follow.")
