"""A model's answer: what it must be to be attacked, looked at each time, and the gradient that leads from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advkit.errors import ModelError

__all__ = ["called", "checked_scores", "slope", "without_masks"]

_MASKED = 100.0  # below the highest score: a probability of 0 in float32


def called(model: object) -> str:
    """What a model is called in a sentence: its own name, else that of its class."""
    name = getattr(model, "name", None)
    return name if isinstance(name, str) and name else type(model).__name__


def checked_scores(answer: object, images: int, model: str, classes: int | None = None) -> Tensor:
    """The answer of ``model`` to so many images, which must be a score for each class, (B, K) with K at least 2.

    ``classes`` is K where an earlier answer has shown it. Raises ModelError for anything else: the one place that decides
    what a classifier's answer is.
    """
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"{model} answered {type(answer).__name__} for {images} pictures; it must return one row of scores per picture, "
            "(B, K), so let it return that tensor alone."
        )
    shape = tuple(answer.shape)
    if shape in ((images, 1), (images,)):
        raise ModelError(
            f"{model} answers one score per picture, {shape}, and no class can be told by a single score; give two, one for "
            "each class: of a logit z (B, 1) torch.cat([torch.zeros_like(z), z], 1)."
        )
    if answer.ndim != 2 or len(answer) != images:
        raise ModelError(
            f"{model} answered {shape} for {images} pictures; it must return one row of scores per picture, (B, K)."
        )
    if classes is not None and shape[1] != classes:
        raise ModelError(
            f"{model} answered with {shape[1]} scores per picture, and with {classes} before; it must give each picture a "
            "score for the same classes."
        )
    if answer.layout != torch.strided:
        raise ModelError(f"{model} answers with sparse scores; let it return a dense tensor (answer.to_dense()).")
    if not answer.is_floating_point():
        raise ModelError(
            f"{model} answers with {str(answer.dtype).removeprefix('torch.')} scores; it must return real floating-point "
            "numbers, the logits (of whole numbers: answer.float())."
        )
    return answer


def without_masks(scores: Tensor) -> Tensor:
    """Scores (B, K) in which classes that are masked by minus infinity are merely out of reach.

    They stay below every other, and no loss or gradient becomes NaN; a row of nothing else, NaN and plus infinity are left.
    """
    masked = scores == -torch.inf
    if not bool(masked.any()):
        return scores
    seen = scores.detach()
    lowest = seen.masked_fill(masked, torch.inf).amin(1, keepdim=True)
    low = torch.minimum(lowest, seen.amax(1, keepdim=True)) - _MASKED
    return torch.where(masked & low.isfinite(), low, scores)


def slope(value: Tensor, points: Tensor, model: nn.Module) -> Tensor:
    """The gradient of ``value`` (B,) at ``points`` (B, ...). Raises ModelError where the model's answer does not lead there."""
    # The sum, not the mean: an example's gradient must not depend on the size of the batch.
    grad: Tensor | None = None
    if value.requires_grad:
        (grad,) = torch.autograd.grad(value.sum(), points, allow_unused=True)
    if grad is None:
        raise ModelError(
            f"{called(model)} answers without a gradient (a detached or non-differentiable step); "
            "use an attack that needs scores only, such as noise, or make that step differentiable."
        )
    return grad
