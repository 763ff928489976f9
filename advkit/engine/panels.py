"""What the panda figure shows, computed: the perturbation, and what the model says of each picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.attacks.pgd import FGSM
from advkit.core.attack import Attack
from advkit.core.goal import Goal
from advkit.core.modes import borrowed
from advkit.core.threat import Linf
from advkit.engine.passes import Passes
from advkit.engine.precision import Precision
from advkit.results.figure import Answer, Panel

__all__ = ["panels"]


def panels(
    model: nn.Module, attack: Attack, x: Tensor, x_adv: Tensor, goal: Goal, classes: Sequence[str]
) -> list[Panel]:
    """A row of the figure for each picture x (B, C, H, W) and its x_adv.

    For FGSM the middle shows the sign of the gradient itself, as in the paper; for other attacks the change, scaled.
    """
    with borrowed(model):
        passes = Passes(model, Precision.own(model), len(x))
        signs = isinstance(attack, FGSM) and isinstance(attack.threat, Linf)
        if signs:
            grad = passes.gradient(x, goal, attack.loss, lambda points, index: points).grad
            perturbation = attack.threat.steepest(grad, x)
            titles = [f"{attack.threat.eps.exact} × sign of the gradient"] * len(x)
        else:
            change = x_adv - x
            largest = change.abs().flatten(1).amax(1)
            perturbation = change / largest.clamp_min(1e-12).reshape(-1, 1, 1, 1)
            titles = [f"perturbation, scaled (at most {255 * most:.3g}/255)" for most in largest.tolist()]
        shown = (perturbation + 1) / 2
        answers = [_answers(passes.judge(pictures), classes) for pictures in (x, shown.to(x.dtype), x_adv)]
    return [
        Panel(x[i], shown[i], x_adv[i], answers[0][i], answers[1][i] if signs else None, answers[2][i], titles[i])
        for i in range(len(x))
    ]


def _answers(logits: Tensor, classes: Sequence[str]) -> list[Answer]:
    confidence, label = torch.softmax(logits, 1).max(1)
    return [
        Answer(classes[k] if k < len(classes) else f"class {k}", p)
        for k, p in zip(label.tolist(), confidence.tolist(), strict=True)
    ]
