"""Whether there is a gradient, and whether it is the model's own (P11)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit.core.goal import pick
from advkit.core.rng import Rng, identify
from advkit.engine.defend import Defended
from advkit.engine.protocol.case import Case
from advkit.engine.protocol.finding import FAIL, LUCK, PASS, UNKNOWN, Answer, counted, grade, of
from advkit.engine.protocol.forms import hides, jumps, logarithm

__all__ = ["available", "leaps", "own", "unwatched"]

_NOTHING = 1e-30  # a gradient below is what underflow left of one
_EXAMPLES = 32
_PLACES = 4  # values of each picture that are moved, those of the steepest slope
_NEAR = 0.3  # relative: how well a slope must be met
_LEAST = 0.75  # of the slopes, where kinks of ReLU and ties of maxima take their share
_NOISE = 3e-4  # of the logits: what moving a value must change, so that rounding in float32 does not decide
_SMALLEST, _LARGEST = 1e-6, 4e-3  # of the range of a pixel
_RESOLVED = (
    300  # roundings: what a change must be to be measured to a tenth, after a network that has rounded many times
)
_MEASURED = 8  # slopes at least: fewer say nothing


def available(case: Case) -> Answer:
    """The share of examples whose gradient is missing, zero or no number (Pintor et al. 2022, I1)."""
    ce, margin = case.gradients.ce, case.gradients.margin
    if ce is None or margin is None:
        return Answer(
            FAIL,
            "It answers without a gradient: a step is detached or has none.",
            'Say backward = "straight-through" in the defense, or make that step differentiable; attack by scores as well.',
        )
    correct = case.correct
    odd = (~margin.isfinite() | ~ce.isfinite()).flatten(1).any(1) & correct
    flat = _flat(margin) & correct & ~odd
    saturated = _flat(ce) & correct & ~odd & ~flat
    total = case.total
    if bool(odd.any()):
        return Answer(
            grade(int(odd.sum()), total),
            f"The gradient holds NaN or infinite values for {of(int(odd.sum()), total)}.",
            "Find the step whose derivative is infinite (a root or a norm at 0, a division), and keep it away from there.",
        )
    if bool(flat.any()) and case.probabilities:
        return Answer(
            grade(int(flat.sum()), total),
            f"The gradient is zero for {of(int(flat.sum()), total)}: the softmax at the end is saturated.",
            "Leave the softmax out: the model must return logits.",
        )
    if bool(flat.any()):
        return Answer(
            grade(int(flat.sum()), total),
            f"The gradient is zero for {of(int(flat.sum()), total)}, of the margin between logits too.",
            'Say backward = "straight-through" in the defense that rounds (BPDA); attack by scores and transfer as well.',
        )
    if bool(saturated.any()):
        return Answer(
            grade(int(saturated.sum()), total),
            f"The gradient of the cross-entropy is zero for {of(int(saturated.sum()), total)}, that of the margin is not:"
            " the softmax is saturated.",
            "Attack with --loss margin or dlr; cross-entropy alone overstates this model's robustness.",
        )
    return Answer(PASS, f"None of {counted(total)} has a zero gradient, of cross-entropy or margin.")


def unwatched(case: Case) -> Answer:
    """A model that looks whether it is asked for a gradient shows an attack another face than anyone else."""
    if case.unsteady:
        return Answer(UNKNOWN, "The answers differ from call to call, so one call cannot be compared with another.")
    if hides(case):
        return Answer(
            FAIL,
            "It answers otherwise where a gradient is asked for: it tells an attack from a use.",
            "Attack what it answers without being asked for a gradient: the same weights, the same code.",
        )
    return Answer(PASS, "It answers the same with and without a gradient.")


def leaps(case: Case) -> Answer:
    """Whether a module answers by jumps, whatever gradient it gives."""
    jumping = jumps(case)
    if not jumping:
        return Answer(PASS, "No module answers by jumps.")
    return Answer(
        FAIL,
        f"{counted(len(jumping), 'module')} answers by jumps, {jumping[0]} first, of which no gradient tells.",
        "Attack through a smooth function that stands for it (BPDA), by gradients around each point, and by scores.",
    )


def own(case: Case) -> Answer:
    """Slopes of the margin along single values, by the gradient and by moving the value both ways."""
    if case.gradients.margin is None:
        return Answer(UNKNOWN, "There is no gradient to compare.")
    jumping = leaps(case)
    if jumping.level == FAIL:
        return jumping
    chosen = (case.correct & ~_flat(case.gradients.margin.nan_to_num(0.0))).nonzero().squeeze(1)[:_EXAMPLES]
    if not len(chosen):
        return Answer(UNKNOWN, "The gradient is zero, and zero is what a step function's own gradient is.")
    x = case.typed(case.x[chosen])
    # Off the grid of 256 levels: there medians tie and roundings sit at the middle between two steps.
    x = (x + (Rng.of(case.seed, identify(x)).fold("jitter").uniform(*x.shape[1:], dtype=x.dtype) - 0.5) / 255).clamp(
        0, 1
    )
    frozen = _frozen(case, x)
    claimed, measured, resolved, steady = _slopes(frozen, x, case.y[chosen].to(x.device))
    case.forwards, case.backwards = case.forwards + (2 + 2 * _PLACES) * len(x), case.backwards + len(x)
    if not steady:
        return Answer(UNKNOWN, "The answers differ from call to call, so no difference between two of them is a slope.")
    if int(resolved.sum()) < min(_MEASURED, resolved.numel()):
        return Answer(
            UNKNOWN, f"{of(int(resolved.sum()), resolved.numel()).capitalize()} slopes are steep enough to be measured."
        )
    claimed, measured = claimed[resolved], measured[resolved]
    near = (measured - claimed).abs() <= _NEAR * claimed.abs()
    share, said = float(near.double().mean()), f"{of(int(near.sum()), near.numel())} slopes of the margin"
    if share >= _LEAST:
        return Answer(PASS, f"{said.capitalize()} are those of finite differences.")
    said = f"The gradient is a stand-in: {said} are those of finite differences"
    case.remember("foreign", True)
    if not case.stand_ins:
        return Answer(
            FAIL,
            f"{said}.",
            "Find the detached path or the custom backward; a stand-in on purpose is declared in the defense: "
            'backward = "straight-through".',
        )
    told = ", ".join(case.stand_ins)
    adaptive, oblivious = int(case.white.sum()), int(case.oblivious.sum())
    both = f"through it {of(adaptive, case.total)} fall, to pictures made without the defense {oblivious:,}"
    if oblivious > adaptive + LUCK * case.total:
        return Answer(
            FAIL,
            f"{said}, as {told} declares, and it leads astray: {both}.",
            "Declare a better backward (a smooth surrogate), and count the oblivious pictures in the worst case.",
        )
    return Answer(PASS, f"{said}, as {told} declares; BPDA handles it: {both}.")


def _flat(grad: Tensor) -> Tensor:
    return grad.abs().flatten(1).amax(1) < _NOTHING


def _frozen(case: Case, x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The model as a function of pictures near x, and of which of x they are near: what draws, draws the same."""
    model = case.model
    # A softmax that is sure of itself bends within a step and rounds to 1; its logarithm does neither.
    shown = logarithm if case.probabilities else torch.Tensor.clone
    if not (isinstance(model, Defended) and model.draws):
        return lambda points, index: shown(case.model(points))
    rng = Rng.of(case.seed, identify(x)).fold("slopes")
    return lambda points, index: shown(model.model(model.cleaned(points, rng.take(index))))


def _slopes(answer: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Slopes (B, P) by the gradient and by central differences, which of them rounding leaves, and whether it is steady.

    Steady is what answers the same call with the same.
    """
    index = torch.arange(len(x), device=x.device)
    points = x.clone().requires_grad_()
    logits = answer(points, index)
    # The rival is held fast: the margin to the best one has a kink where that changes.
    rival = logits.detach().scatter(1, y[:, None], -torch.inf).argmax(1)
    (grad,) = torch.autograd.grad((pick(logits, rival) - pick(logits, y)).sum(), points)
    logits = logits.detach()
    claimed, places = grad.flatten(1).abs().topk(min(_PLACES, grad[0].numel()), dim=1)
    claimed = grad.flatten(1).gather(1, places)
    size = logits.abs().amax(1, keepdim=True) * (_NOISE if x.dtype == torch.float32 else 1e-9)
    reach = (size / claimed.abs().clamp_min(_NOTHING)).clamp(_SMALLEST, _LARGEST)
    measured = torch.zeros_like(claimed)
    with torch.no_grad():
        steady = bool(torch.allclose(answer(x, index), logits, rtol=1e-3, atol=1e-3 * float(logits.abs().amax())))
        for place in range(places.shape[1]):
            ends = []
            for sign in (1.0, -1.0):
                step = torch.zeros_like(x.flatten(1)).scatter(1, places[:, [place]], sign * reach[:, [place]])
                # Past the end of the range for once: the slope at the end is what is asked.
                seen = answer((x.flatten(1) + step).reshape(x.shape), index)
                ends.append(pick(seen, rival) - pick(seen, y))
            measured[:, place] = (ends[0] - ends[1]) / (2 * reach[:, place])
    change = 2 * reach * torch.maximum(claimed.abs(), measured.abs())
    rounding = torch.finfo(x.dtype).eps * logits.abs().amax(1, keepdim=True)
    return claimed, measured, change > _RESOLVED * rounding, steady
