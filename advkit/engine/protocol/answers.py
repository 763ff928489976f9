"""Whether the answers are fit to be attacked: scores, the same each time, each picture's own (P3, P12)."""

from __future__ import annotations

import torch

from advkit.core.goal import Untargeted
from advkit.core.rng import Rng, identify
from advkit.engine.protocol.case import Case, differ, named
from advkit.engine.protocol.finding import FAIL, PASS, UNKNOWN, WARN, Answer, counted, grade, of

__all__ = ["alone_and_in_company", "evaluation_mode", "repeatable", "scores", "smooth_nearby"]

_FEW = 8
_NEARBY_DRAWS = 4
_NEARBY = 1e-2  # of the radius
_VARIES = 0.1  # relative change of the loss nearby, from which on it is rough (Pintor et al. 2022)
_UNSTEADY = 0.05  # of the pictures: more that change with the draws are too many


def scores(case: Case) -> Answer:
    """Probabilities have a softmax behind them, and behind that another one in the cross-entropy."""
    if case.probabilities:
        return Answer(
            FAIL,
            "Every answer lies in [0, 1] and sums to 1: these are probabilities, and the cross-entropy's own softmax on top"
            " flattens the gradient.",
            "Leave the softmax out: the model must return logits.",
        )
    return Answer(PASS, "They leave [0, 1] or do not sum to 1, so they are no probabilities.")


def evaluation_mode(case: Case) -> Answer:
    """Dropout and BatchNorm in training mode make another model of it in each pass."""
    still = case.leftovers
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
    x = case.x[:_FEW]
    if case.unsteady:
        return Answer(UNKNOWN, "The answers differ from call to call, so company cannot be told from chance.")
    alone = torch.cat([case.judge(row) for row in torch.split(x, 1)])
    apart = int(differ(case.judge(x), alone).sum())
    if apart:
        return Answer(
            FAIL,
            f"{of(apart, len(x)).capitalize()} pictures get another answer alone than in a batch.",
            "Use BatchNorm with its stored statistics, and nothing that looks across the batch.",
        )
    return Answer(PASS, f"{len(x)} pictures get the same answer alone and in a batch.")


def repeatable(case: Case) -> Answer:
    """Chance hides a gradient: a search must see the mean of many draws (Athalye et al. 2018)."""
    answers, trials = case.repeated, len(case.repeated) + 1
    moved = torch.stack([differ(answer, case.logits) for answer in answers]).any(0)
    turned = torch.stack([answer.argmax(1) != case.logits.argmax(1) for answer in answers]).any(0)
    if bool(moved.any()):
        return Answer(
            FAIL,
            f"In {trials} calls {of(int(moved.sum()), len(moved))} pictures get different scores and"
            f" {of(int(turned.sum()), len(turned))} different classes: it draws, and no attack is told.",
            "Say random = True in the defense (or use RandomWrapper): answers are then means over draws, and gradients too.",
        )
    if not case.drawing:
        return Answer(PASS, f"The same scores in {trials} calls.")
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


def smooth_nearby(case: Case) -> Answer:
    """The margin at points drawn nearby against the clean one, in its own size: noise and cracks make it leap."""
    rng = Rng.of(case.seed, identify(case.x)).fold("nearby")
    here = Untargeted(case.y).margin(case.logits.double())
    apart = torch.zeros_like(here)
    for draw in range(_NEARBY_DRAWS):
        drawn = case.ball.random_point(case.x, rng.fold(draw))
        near = Untargeted(case.y).margin(case.judge(case.x + _NEARBY * (drawn - case.x)).double())
        apart = apart + ((near - here).abs() / here.abs().clamp_min(1e-12)).clamp_max(1) / _NEARBY_DRAWS
    rough = int(((apart > _VARIES) & case.correct).sum())
    said = f"At {_NEARBY:.0%} of the radius the margin changes by over {_VARIES:.0%} for {of(rough, case.total)}"
    level = grade(rough, case.total, _UNSTEADY)
    if level == FAIL and (case.stand_ins or case.drawing):
        level = WARN  # it says so, and attacks take it into account
    if level == FAIL or rough > max(1.0, _UNSTEADY * case.total / 2):
        advice = "Attack by the mean gradient over draws or around each point (EOT), and by scores."
        return Answer(level, f"{said}.", advice)
    return Answer(PASS, f"{said}.")
