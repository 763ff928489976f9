"""Adversarial pictures as files of 8 bits: rounded inside the ball, written, read again, and judged as they were read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from advkit.core.goal import Goal, Targeted, Untargeted
from advkit.core.losses import Margin
from advkit.core.modes import borrowed, reseeded
from advkit.core.rng import Rng, identify
from advkit.core.threat import Ball
from advkit.core.types import expand
from advkit.data import Data
from advkit.engine.examples import Progress
from advkit.engine.passes import Passes, batch_for, device_of
from advkit.engine.precision import Precision
from advkit.errors import DataError, ModelError
from advkit.results.files import CLEAN, Saver, read_png, title_of
from advkit.results.levels import Bracket, bracket, in_8_bits, level_distance, levels_of, pictures_of, steered
from advkit.results.outcome import Evaluation, Outcome, Reloaded

_Kept = tuple[Tensor, Tensor]
"""The best levels of all examples, and which are left to be won."""

__all__ = ["check_png", "goal_of", "reloaded", "rounded"]

_CLIMBS, _DRAWS = 12, 24  # ways to round that are tried, with gradients and at random
_STEPS, _STEP = 12, 0.1  # of a walk over the levels, each a share of the radius


def check_png(data: Data) -> None:
    """Refuse pictures that no grey or RGB file holds."""
    channels = data.shape[0]
    if channels not in (1, 3):
        raise DataError(
            f"--as png writes grey or RGB pictures, of 1 or 3 channels, and those of {data.name} have {channels}; "
            "leave --as out, which keeps the pictures exactly."
        )


def goal_of(result: Evaluation) -> Goal:
    """What the attacks of an evaluation were after, (N,)."""
    return Untargeted(result.labels) if result.targets is None else Targeted(result.targets)


def reloaded(
    saver: Saver,
    model: nn.Module,
    data: Data,
    result: Evaluation,
    *,
    batch_size: int | None = None,
    verdicts: int = 1,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, int]:
    """Write every adversarial picture that ``saver`` holds as PNG, read the files again and ask the model: the evaluation
    with what it says of them, and how many clean pictures were not in 8 bits.

    What was beaten, and is not in the levels nearest to it, is rounded in other ways until it is, always inside the ball.
    Such a search uses what the attack was told: gradients, scores, or nothing where the attack knew another model.
    The radius is measured from the clean picture in 8 bits, which is written too. Of a model that draws, a verdict is the
    mean of so many ``verdicts``. The model comes back as it was.
    """
    goal = goal_of(result)
    exact = torch.ones(len(result), dtype=torch.bool)
    drawn: set[int] = set()
    done, total = 0, sum(int(outcome.attacked.sum()) for outcome in result.outcomes)
    with borrowed(model), reseeded(result.seed, device_of(model)):
        size = batch_size or batch_for(model, data.pictures([0])[0])
        passes = Passes(model, Precision.own(model), size, verdicts=verdicts)
        outcomes = []
        for outcome in result.outcomes:
            files = [""] * len(result)
            success, prediction = torch.zeros_like(exact), result.clean.clone()
            over, distance = torch.zeros_like(exact), torch.zeros(len(result), dtype=torch.float64)
            for index, x_adv in _parts(saver, outcome, passes.batch_size):
                x = data.pictures(index.tolist())
                exact[index] = in_8_bits(x)
                aim = goal.take(index).to(passes.device)
                levels = rounded(
                    passes,
                    x.to(passes.device),
                    x_adv.to(passes.device),
                    aim,
                    outcome.threat,
                    outcome.success[index].to(passes.device),
                    tells=outcome.tells,
                    seed=result.seed,
                )
                seen = passes.judge(pictures_of(levels)).argmax(1).cpu()
                paths = _written(saver, result, title_of(outcome), index, levels.cpu(), seen)
                for row, i in enumerate(index.tolist()):
                    files[i] = paths[row].name
                    if i not in drawn:
                        saver.put_picture(CLEAN, i, (result.name_of(int(result.labels[i])),), levels_of(x[row]))
                        drawn.add(i)
                read = torch.stack([read_png(path) for path in paths])
                answer = passes.judge(pictures_of(read).to(passes.device))
                success[index], prediction[index] = aim.reached(answer).cpu(), answer.argmax(1).cpu()
                distance[index] = level_distance(read, levels_of(x), outcome.threat)
                over[index] = distance[index] > outcome.threat.eps
                done += len(index)
                progress(done, total)
            outcomes.append(replace(outcome, reloaded=Reloaded(success, prediction, distance, over, tuple(files))))
    return replace(result, outcomes=tuple(outcomes)), int((~exact).sum())


def _written(saver: Saver, result: Evaluation, title: str, index: Tensor, levels: Tensor, seen: Tensor) -> list[Path]:
    """The files of pictures, named by label and answer."""
    return [
        saver.put_picture(
            title, i, (result.name_of(int(result.labels[i])), result.name_of(int(seen[row]))), levels[row]
        )
        for row, i in enumerate(index.tolist())
    ]


def _parts(saver: Saver, outcome: Outcome, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    for index, x_adv in saver.examples(title_of(outcome)):
        yield from zip(torch.split(index, size), torch.split(x_adv, size), strict=True)


def rounded(
    passes: Passes,
    x: Tensor,
    x_adv: Tensor,
    goal: Goal,
    threat: Ball,
    won: Tensor,
    *,
    tells: str,
    seed: int,
) -> Tensor:
    """Grey levels (B, ...) uint8 for adversarial pictures, inside the ball about the clean ones in 8 bits.

    Each value takes the neighbouring level that is towards the clean picture. Where an example that is ``won`` (B,) would
    not be any more, other roundings are tried until one wins it back: to either neighbour, and, in balls that all values
    share, one level further back to make room for others; and where none does, and the attack knew gradients, a few more
    of its steps, each rounded. An example's levels do not depend on the batch.
    """
    found = bracket(x_adv, x, threat)
    best = found.near

    def still_lost() -> Tensor:
        return (won & ~goal.reached(passes.judge(pictures_of(best)))).nonzero().squeeze(1)

    if not bool(won.any()):
        return best.to(torch.uint8)
    left = still_lost()
    if tells == "nothing" or not len(left):
        return best.to(torch.uint8)
    if tells == "gradient":
        with suppress(ModelError):  # the model has none; scores are left
            best, left = _climb(passes, found, best, left, goal, threat)
            best, left = _walk(passes, found, best, left, goal, threat)
    rng = Rng.of(seed, identify(x)).fold("rounding")
    for draw in range(_DRAWS):
        if not len(left):
            break
        part, chance = found.take(left), rng.take(left).fold(draw).uniform(*x.shape[1:], dtype=torch.float64)
        # Up with a chance that is the value's share of the way; the first draw is none: to the nearest level.
        way = (part.far - part.clean).sign()
        point = steered(part, way * (part.share - (chance if draw else 0.5)), threat)
        best, left = _kept(passes, best, left, point, goal)
    return best.to(torch.uint8)


def _climb(passes: Passes, found: Bracket, best: Tensor, left: Tensor, goal: Goal, threat: Ball) -> _Kept:
    """Each value at that of its levels towards which the margin rises, by the gradients so far."""
    part = found.take(left)
    point = steered(part, (part.far - part.clean).sign() * (part.share - 0.5), threat)
    total = torch.zeros_like(part.near)
    for _ in range(_CLIMBS):
        at = passes.gradient(pictures_of(point), goal.take(left), Margin(), lambda points, index: points).grad.double()
        total = total + at / expand(at.abs().flatten(1).amax(1).clamp_min(1e-300), at)
        point = steered(part, total, threat)
        before = left
        best, left = _kept(passes, best, left, point, goal)
        if not len(left):
            break
        stay = torch.isin(before, left)
        part, point, total = part.take(stay), point[stay], total[stay]
    return best, left


def _walk(passes: Passes, found: Bracket, best: Tensor, left: Tensor, goal: Goal, threat: Ball) -> _Kept:
    """Steepest steps inside the ball from the nearest levels, each rounded as its gradient says."""
    if not len(left):
        return best, left
    point = found.near[left]
    for _ in range(_STEPS):
        x, here = pictures_of(found.clean[left]), pictures_of(point)
        grad = passes.gradient(here, goal.take(left), Margin(), lambda points, index: points).grad
        length = _STEP * threat.reach(x)
        there = threat.project(here + length * threat.steepest(grad, here), x)
        point = steered(bracket(there, x, threat), grad.double(), threat)
        before = left
        best, left = _kept(passes, best, left, point, goal)
        if not len(left):
            break
        point = point[torch.isin(before, left)]
    return best, left


def _kept(passes: Passes, best: Tensor, left: Tensor, point: Tensor, goal: Goal) -> _Kept:
    """What reaches the goal takes its place among the best; says which examples are left."""
    reached = goal.take(left).reached(passes.judge(pictures_of(point)))
    best = best.index_put((left[reached],), point[reached])
    return best, left[~reached]
