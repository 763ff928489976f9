"""Whether the answers are fit to be attacked: scores, the same each time, each picture's own (P3, P12)."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.engine.protocol.case import Case, named
from advkit.engine.protocol.finding import FAIL, PASS, UNKNOWN, WARN, Answer, counted, of

__all__ = ["alone_and_in_company", "evaluation_mode", "repeatable", "scores"]

_SUM = 1e-3  # how near to 1 probabilities sum
_ROUNDING = 1e-3  # of the spread of the logits: what another order of sums may move them
_TRIALS = 5
_FEW = 8
_UNSTEADY = 0.05  # of the pictures: more that change with the draws are too many


def scores(case: Case) -> Answer:
    """Probabilities have a softmax behind them, and behind that another one in the cross-entropy."""
    logits = case.logits.double()
    inside = (logits >= 0).all(1) & ((logits.sum(1) - 1).abs() < _SUM)
    if bool(inside.all()):
        return Answer(
            FAIL,
            "Every answer lies in [0, 1] and sums to 1: these are probabilities, and the cross-entropy's own softmax on top"
            " flattens the gradient.",
            "Leave the softmax out: the model must return logits.",
        )
    return Answer(PASS, "They leave [0, 1] or do not sum to 1, so they are no probabilities.")


def evaluation_mode(case: Case) -> Answer:
    """Dropout and BatchNorm in training mode make another model of it in each pass."""
    still = [name or type(case.model).__name__ for name, module in case.model.named_modules() if module.training]
    if still:
        return Answer(
            FAIL,
            f"{counted(len(still), 'module')} stayed in training mode after eval(), {still[0]} first.",
            "Let eval() reach every module; a module that draws on purpose belongs in a defense with random = True.",
        )
    if case.training:
        said = f"{counted(len(case.training), 'module')} came in training mode, {case.training[0]} first"
        return Answer(WARN, f"{said}; the checks put the model into eval mode.", "Call model.eval() before evaluating.")
    return Answer(PASS, "Every module is in eval mode.")


def alone_and_in_company(case: Case) -> Answer:
    """A prediction that hangs on the rest of the batch is no property of the picture."""
    x = case.x[:_FEW].to(case.device)
    together, again = case.own.judge(x), case.own.judge(x)
    if _differ(together, again).any():
        return Answer(UNKNOWN, "The answers differ from call to call, so company cannot be told from chance.")
    alone = torch.cat([case.own.judge(row) for row in torch.split(x, 1)])
    apart = int(_differ(together, alone).sum())
    if apart:
        return Answer(
            FAIL,
            f"{of(apart, len(x)).capitalize()} pictures get another answer alone than in a batch.",
            "Use BatchNorm with its stored statistics, and nothing that looks across the batch.",
        )
    return Answer(PASS, f"{len(x)} pictures get the same answer alone and in a batch.")


def repeatable(case: Case) -> Answer:
    """Chance hides a gradient: a search must see the mean of many draws (Athalye et al. 2018)."""
    x = case.x.to(case.device)
    answers = [case.own.judge(x).cpu() for _ in range(_TRIALS - 1)]
    moved = torch.stack([_differ(answer, case.logits) for answer in answers]).any(0)
    turned = torch.stack([answer.argmax(1) != case.logits.argmax(1) for answer in answers]).any(0)
    if bool(moved.any()):
        return Answer(
            FAIL,
            f"In {_TRIALS} calls {of(int(moved.sum()), len(moved))} pictures get different scores and"
            f" {of(int(turned.sum()), len(turned))} different classes: it draws, and no attack is told.",
            "Say random = True in the defense (or use RandomWrapper): answers are then means over draws, and gradients too.",
        )
    if not case.drawing:
        return Answer(PASS, f"The same scores in {_TRIALS} calls.")
    with torch.no_grad():
        seen = torch.cat(
            [case.own.precision.working(case.typed(part)).cpu() for part in torch.split(case.x, case.batch_size)]
        )
    apart = int((seen.argmax(1) != case.logits.argmax(1)).sum())
    told = ", ".join(f"{named(w)} ({w.draws} draws, gradient over {w.eot or w.draws})" for w in case.drawing)
    said = f"{told}; under other draws {of(apart, len(seen))} pictures get another class"
    if apart > _UNSTEADY * len(seen):
        return Answer(WARN, f"Declared as random: {said}.", "Raise draws and eot until the answers settle.")
    return Answer(PASS, f"Declared as random: {said}.")


def _differ(one: Tensor, other: Tensor) -> Tensor:
    """(B,) bool: by more than rounding."""
    spread = (one.amax(1) - one.amin(1)).clamp_min(1e-6)
    return (one - other).abs().amax(1) > _ROUNDING * spread
