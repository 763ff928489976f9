"""The smallest radius at which an attack still succeeds, per example, by bisection: any attack becomes a minimal-norm one.

All examples bisect the same geometric row of radii, each by its own outcomes, in the lanes of one run. What was found at one
radius, pulled back, is tried before the next search is paid for, and is where that begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advkit.backbones.given import as_module
from advkit.core.attack import Attack
from advkit.core.fitted import Fitted
from advkit.core.goal import Goal, Untargeted, labels_of
from advkit.core.modes import borrowed
from advkit.core.threat import L0
from advkit.core.types import expand
from advkit.core.units import Eps
from advkit.engine.call import check_tensors
from advkit.engine.checks import check_weights
from advkit.engine.examples import Finished, Progress, Source
from advkit.engine.ladder import Ladder
from advkit.engine.passes import Passes, batch_for
from advkit.engine.precision import Precision
from advkit.engine.run import Run
from advkit.errors import InputError

__all__ = ["Nearest", "nearest"]

_SPAN = 1000.0  # the largest radius over the smallest


@dataclass(frozen=True)
class Nearest:
    """What was found nearest for each of N examples, on the CPU."""

    distance: Tensor  # (N,) float64; 0 where nothing has to change, inf where nothing was found
    x_adv: Tensor  # the picture at that distance; the clean one where nothing was found
    stood: Tensor  # (N,) float64: the largest radius at which the attack was tried and failed; 0 where it never did
    prediction: Tensor  # (N,) of ``x_adv``
    forwards: Tensor  # (N,) passes
    backwards: Tensor


class _Span(NamedTuple):
    """Where each example stands on the row of radii, (B,) each; what a plain ladder calls its reach."""

    rung: Tensor  # being searched
    won: Tensor  # bool: ``found`` is an adversarial picture at ``high``
    found: Tensor
    low: Tensor  # it stood there; -1 below all radii
    high: Tensor  # it fell there

    def after(self, beaten: Tensor, point: Tensor) -> tuple[_Span, Tensor]:
        """The middle of what is left, and for whom anything is, (B,) bool."""
        low = torch.where(beaten, self.low, self.rung)
        high = torch.where(beaten, self.rung, self.high)
        found = torch.where(expand(beaten, point), point, self.found)
        middle = ((low + high) // 2).clamp_min(0)
        return _Span(middle, beaten | self.won, found, low, high), high - low > 1


class _Bisection(Ladder):
    """Begins at the largest radius; who falls there goes on at the middle of what is left, up or down."""

    def start(self, top: Tensor, x: Tensor) -> _Span:  # type: ignore[override]
        """Examples whose largest radius is ``top``: above it nothing is searched."""
        return _Span(top, torch.zeros_like(top, dtype=torch.bool), x, torch.full_like(top, -1), top + 1)


def nearest(
    attack: Attack,
    model: nn.Module | Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor | Sequence[int] | Goal,
    *,
    high: float | str | None = None,
    tolerance: float = 0.02,
    seed: int = 0,
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> Nearest:
    """For pictures ``x`` (N, ...) in [0, 1] and labels ``y`` (N,), or a goal, how near an attack succeeds.

    Radii run from ``high`` (without it, the attack's own) down to a thousandth of it, each ``1 + tolerance`` times the next;
    in L0, where they are whole numbers, down to 1. An attack that does not grow stronger with its radius may succeed at
    smaller ones than are found. The same example gets the same result alone and in any batch; everything of the caller's
    stays as it was. Raises InputError where the attack is fitted or looks for the nearest picture itself, or a setting
    makes no sense.
    """
    radii = _radii(attack, high, tolerance)
    attacks = [replace(attack, threat=replace(attack.threat, eps=radius)) for radius in radii]  # type: ignore[type-var]
    goal = y if isinstance(y, Goal) else Untargeted(labels_of(y))
    check_tensors(x, goal.classes)
    model = as_module(model)
    check_weights(model)
    with borrowed(model):
        clean = x.detach().clone().clamp(0, 1)
        passes = Passes(model, Precision.own(model), batch_size or batch_for(model, x[0]), labels=goal.classes)
        goal = goal.to(passes.device)
        logits = passes.judge(clean.to(passes.device))
        reached = goal.reached(logits).cpu()
        distance = torch.where(reached, 0.0, math.inf).double()
        stood, x_adv, prediction = torch.zeros_like(distance), clean.clone(), logits.argmax(1).cpu()
        forwards = torch.ones(len(x), dtype=torch.long)
        backwards = torch.zeros_like(forwards)
        chosen = (~reached).nonzero().squeeze(1)
        if len(chosen):
            values = torch.tensor([float(radius) for radius in radii], dtype=torch.float64)

            def collect(finished: Finished) -> None:
                where, won, found = chosen[finished.example.cpu()], finished.success.cpu(), finished.distance.cpu()
                tried = values[finished.rung.cpu()]
                stood[where] = torch.where(won, stood[where], torch.maximum(stood[where], tried))
                closer = won & (found < distance[where])
                here = where[closer]
                distance[here], prediction[here] = found[closer], finished.prediction.cpu()[closer]
                x_adv[here.to(x_adv.device)] = finished.x_adv[closer.to(finished.x_adv.device)].to(x_adv)

            source = Source(
                lambda indices: clean[chosen[list(indices)].to(clean.device)], goal.take(chosen.to(passes.device))
            )
            run = Run(_Bisection(attacks), passes, source, seed=seed)
            run.go(collect, progress)
            forwards[chosen] += run.forwards.cpu()
            backwards[chosen] = run.backwards.cpu()
    return Nearest(distance, x_adv.cpu(), stood, prediction, forwards, backwards)


def _radii(attack: Attack, high: float | str | None, tolerance: float) -> list[Eps]:
    """The row, ascending."""
    name = type(attack).__name__
    if attack.minimal or isinstance(attack, Fitted):
        what = "looks for the nearest picture itself" if attack.minimal else "is one thing for many pictures"
        raise InputError(f"{name} {what}; bisect an attack that works in a ball of a given radius, such as PGD.")
    top = attack.threat.eps if high is None else Eps(high)
    if not top > 0:
        raise InputError("the largest radius is 0; give a high above 0.")
    if top == math.inf:
        raise InputError(
            f"the largest radius for {name} is infinite; give high a finite one, for example 8/255 in Linf."
        )
    if not 0 < tolerance < math.inf:
        raise InputError(f"tolerance is {tolerance}; give the step from one radius to the next, for example 0.02.")
    count = math.ceil(math.log(_SPAN) / math.log1p(tolerance))
    row = [float(top) * (1 + tolerance) ** -step for step in range(count + 1)]
    if isinstance(attack.threat, L0):
        return [Eps(float(pixels)) for pixels in sorted({math.ceil(radius) for radius in row} | {1})]
    return [*(Eps(radius) for radius in reversed(row[1:])), top]
